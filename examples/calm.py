"""Paint a short clip with and without calm, side by side, as an animated picture.

A noisy camera swings over a bundled photograph: what it sees, every frame painted by itself, and calm.

python examples/calm.py -o docs/pictures
"""

import argparse
from pathlib import Path

import numpy as np

from restyle import Stylizer, gallery, read_image
from restyle.image import resize, write_animation
from restyle.video.pipeline import Look, paint
from restyle.video.reader import Frame
from restyle.video.temporal import CALM

SIDE, COUNT, RATE = 240, 24, 10


def swing(photo: np.ndarray) -> list[np.ndarray]:
    """A window of ``SIDE`` pixels that goes to and fro over the photograph, under a sensor's noise."""
    height, width = photo.shape[:2]
    large = resize(photo, (SIDE + 60, (SIDE + 60) * width // height)).astype(np.float32)
    random, frames = np.random.default_rng(0), []
    for at in np.linspace(0, 2 * np.pi, COUNT, endpoint=False):
        top, left = round(20 + 20 * np.sin(at)), round(60 - 60 * np.cos(at))
        seen = large[top : top + SIDE, left : left + SIDE]
        frames.append(np.clip(seen + random.normal(0, 3, seen.shape), 0, 255).astype(np.uint8))
    return frames


def painted(frames: list[np.ndarray], model: Stylizer, look: Look) -> list[np.ndarray]:
    """The frames painted, as if the clip had run before: calm looks back."""
    stream = [Frame(pixels, i, 1, i / RATE) for i, pixels in enumerate([*frames, *frames])]
    return [item.pixels for item in paint(stream, model, look) if isinstance(item, Frame)][len(frames) :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", default="castle", help="a sample of the gallery")
    parser.add_argument("--style", default="starry", help="a style of the gallery, or a picture file")
    parser.add_argument("-o", "--output", type=Path, default=Path(), help="folder to write calm.webp into")
    options = parser.parse_args()
    model = Stylizer.load()
    style = model.encode_style(gallery.find(options.style))
    frames = swing(read_image(gallery.find(options.photo, kind="sample")).pixels)
    columns = [frames, *(painted(frames, model, Look(style, calm=calm)) for calm in (0.0, CALM))]
    rows = [np.hstack(row) for row in zip(*columns, strict=True)]
    write_animation(options.output / "calm.webp", rows, frame_s=1 / RATE, overwrite=True)


if __name__ == "__main__":
    main()
