"""What all experiments share: processor time, result.json, a sheet of labelled pictures, a plot.

The plots need matplotlib (pip install 'restyle[experiments]'); without it the figures are written all the same.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from restyle import gallery, read_image
from restyle.image import fit_short_side, lay_on_white, resize

RESULTS = Path(__file__).parent / "results"


def arguments(document: str | None, name: str) -> argparse.ArgumentParser:
    """A parser with what every experiment takes."""
    parser = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss-weights", type=Path, required=True, help="VGG-16 in torchvision's layout")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / name)
    return parser


def read(picture: str | Path, size: int) -> np.ndarray:
    """A picture, or a bundled one by its name, (H, W, 3), with this short side."""
    path = Path(picture)
    if not path.exists():
        kinds = {entry.name: entry.kind for entry in gallery.entries().values()}
        path = gallery.find(str(picture), kind=kinds.get(str(picture), "style"))
    pixels = lay_on_white(read_image(path).pixels)
    return resize(pixels, fit_short_side(pixels.shape[:2], size))


def seconds() -> float:
    """Processor time of this process, all threads: other work on the machine hardly changes it."""
    return time.process_time()


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 to (1, 3, H, W) in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float() / 255


def rounded(value: Any, digits: int = 4) -> Any:
    """Every number in a document with so many digits that matter."""
    if isinstance(value, dict):
        return {name: rounded(one, digits) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one, digits) for one in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def write(folder: Path, document: dict[str, Any], draw: Callable[[Any], None] | None = None) -> None:
    """Write ``result.json``, and ``plot.jpg`` as ``draw`` puts it on a figure of matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(rounded(document), indent=1) + "\n")
    if draw is not None:
        plot(folder / "plot.jpg", draw)
    print(folder / "result.json")


def table(rows: dict[str, dict[str, Any]]) -> None:
    """Print rows by their names as a table for the documentation."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    for name, row in rows.items():
        lines.append([name, *(str(rounded(row.get(column, ""), 3)) for column in columns)])
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


def plot(path: Path, draw: Callable[[Any], None]) -> None:
    """A figure, drawn where matplotlib is there."""
    try:
        import matplotlib
    except ImportError:
        print(f"no {path.name}: pip install 'restyle[experiments]'")
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    style = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}
    with pyplot.rc_context({**style, "font.size": 9, "savefig.dpi": 110}):
        figure = pyplot.figure(layout="constrained")
        draw(figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, pil_kwargs={"quality": 88} if path.suffix == ".jpg" else None)
        pyplot.close(figure)


def sheet(path: Path, rows: Sequence[Sequence[tuple[str, np.ndarray | None]]], *, width: float = 2.0) -> None:
    """Rows of pictures with their names above them; None leaves a place empty."""

    def draw(figure: Any) -> None:
        columns = max(map(len, rows))
        shapes = [picture.shape for row in rows for _, picture in row if picture is not None]
        ratio = max(shape[0] / shape[1] for shape in shapes)
        figure.set_size_inches(width * columns, (width * ratio + 0.25) * len(rows))
        places = figure.subplots(len(rows), columns, squeeze=False)
        for place in places.flat:
            place.set_axis_off()
        for row, axes in zip(rows, places, strict=True):
            for (title, picture), place in zip(row, axes, strict=False):
                place.set_title(title, fontsize=8, pad=2)
                if picture is not None:
                    place.imshow(picture, cmap="gray" if picture.ndim == 2 else None)

    plot(path, draw)
