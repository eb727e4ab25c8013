"""Pairs of photograph and artwork that nothing was trained on, and what they are judged by."""

import argparse
from pathlib import Path

from restyle.image import fit_short_side, resize
from restyle.learn.evaluate import Pair, read_pairs

FIGURES = ("style_vgg", "style_alex", "gram_vgg", "content_vgg", "lpips_alex", "colour")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The pairs' file and folders, and the second judge's weights."""
    parser.add_argument("pairs", type=Path, help="as for restyle evaluate: not trained on")
    parser.add_argument("--content", type=Path, required=True, help="photographs of the pairs")
    parser.add_argument("--style", type=Path, required=True, help="artworks of the pairs")
    parser.add_argument("--judge-weights", type=Path, required=True, help="AlexNet with LPIPS' linear layers")


def small_pairs(path: Path, content: Path, style: Path, count: int, size: int) -> list[Pair]:
    """The first pairs, with this short side."""
    return [
        Pair(pair.name, *(resize(one, fit_short_side(one.shape[:2], size)) for one in (pair.content, pair.style)))
        for _, pair in zip(range(count), read_pairs(path, content, style), strict=False)
    ]
