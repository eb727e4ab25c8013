"""What every control does, as pictures: those of docs/controls.md, and all in one for the README.

python examples/controls.py -o docs/pictures

The pictures with people need the extra people; without it they are left out.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from restyle import MaskFile, PersonMask, Region, Style, Stylizer, gallery, read_image, write_image
from restyle.batch.square import paint_square
from restyle.errors import RestyleError
from restyle.image import resize

Strips = dict[str, list[np.ndarray]]

PAINTED = (320, 480)
"""Height and width at which the pictures are painted."""

SHOWN = (200, 300)
"""And at which they are shown."""


def paint_strips(model: Stylizer, photo: np.ndarray, sky_file: Path) -> Strips:
    """Three pictures for each control, from a photograph of (512, 768) pixels and a mask that is written there."""
    names = ("starry", "mosaic", "ink", "wave")
    starry, mosaic, ink, wave = (model.encode_style(gallery.find(name)) for name in names)
    small = resize(photo, PAINTED)
    # Black at the left, white at the right; and a white upper part.
    across = np.tile(np.linspace(0, 255, PAINTED[1]).astype(np.uint8)[:, None], (PAINTED[0], 1, 3))
    sky = np.zeros((*PAINTED, 3), np.uint8)
    sky[:135] = 255
    write_image(sky_file, sky)
    hard, soft = MaskFile(sky_file), MaskFile(sky_file, feather=30)
    near = slice(90, 90 + SHOWN[0]), slice(170, 170 + SHOWN[1])  # of the photograph itself, pixel by pixel
    sizes = [model.encode_style(gallery.find("mosaic"), size=size) for size in (128, 512, 1024)]
    return {
        "strength": [model.apply(small, starry, strength) for strength in (0.5, 1.0, 1.6)],
        "mask": [across, model.apply(small, mosaic, mask=across), model.apply(small, mosaic, mask=255 - across)],
        "mix": [model.apply(small, Style.mix([wave, mosaic], weights)) for weights in ((3, 1), (1, 1), (1, 3))],
        "colors": [model.apply(small, mosaic, keep_colors=way) for way in ("luminance", "histogram", "covariance")],
        "colors_in_part": [
            model.apply(small, mosaic, keep_colors=f"luminance:{part}" if part else None) for part in (0, 0.5, 1)
        ],
        "regions": [
            model.apply(small, mosaic, regions=[Region(hard, None)]),
            model.apply(small, ink, regions=[Region(hard, starry)]),
            model.apply(small, ink, regions=[Region(soft, starry)]),
        ],
        "work_size": [model.apply(photo, starry, work_size=size)[near] for size in (512, 256, 170)],
        "style_size": [model.apply(small, style) for style in sizes],
    }


def paint_people(model: Stylizer, portrait: np.ndarray) -> Strips:
    """Three pictures with a person."""
    starry, mosaic, ink = (model.encode_style(gallery.find(name)) for name in ("starry", "mosaic", "ink"))
    return {
        "people": [
            portrait,
            model.apply(portrait, mosaic, mask=PersonMask(inverse=True)),
            model.apply(portrait, starry, regions=[Region(PersonMask(), ink)]),
        ]
    }


def lay_out(rows: list[list[np.ndarray]], size: tuple[int, int] = SHOWN) -> np.ndarray:
    """Pictures in rows, each of a size, white lines between."""
    shown = [[resize(picture[:, :, :3], size) for picture in row] for row in rows]
    bordered = [[np.pad(one, ((2, 2), (2, 2), (0, 0)), constant_values=255) for one in row] for row in shown]
    return np.vstack([np.hstack(row) for row in bordered])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(), help="folder for the pictures")
    folder = parser.parse_args().output
    photo = read_image(gallery.find("castle", kind="sample")).pixels
    portrait = resize(read_image(gallery.find("astronaut", kind="sample")).pixels[:, :, :3], (480, 480))[:320]
    model = Stylizer.load()
    corners = [model.encode_style(gallery.find(name)) for name in ("wave", "ink", "mosaic", "starry")]
    with tempfile.TemporaryDirectory() as scratch:
        strips = paint_strips(model, photo, Path(scratch) / "sky.png")
    try:
        strips |= paint_people(model, portrait)
    except RestyleError as error:
        print(f"without people: {error}")
    pictures = {f"control_{name}": lay_out([row]) for name, row in strips.items()}
    frames = [Style.mix(corners[:2], [1 - part, part]) for part in (0, 0.25, 0.5, 0.75, 1)]
    pictures["control_morph"] = lay_out([[model.apply(resize(photo, PAINTED), one) for one in frames]], (120, 180))
    pictures["control_grid"] = resize(paint_square(model, resize(photo, (160, 240)), corners), (408, 608))
    pictures["controls"] = lay_out(
        [
            [photo, strips["strength"][1], strips["strength"][0]],
            strips["colors"],
            [strips["mask"][1], *strips["regions"][:2]],
            [strips["work_size"][1], strips["mix"][1], strips["strength"][2]],
            *([strips["people"]] if "people" in strips else []),
        ]
    )
    for name, picture in pictures.items():
        write_image(folder / f"{name}.jpg", picture, quality=80, overwrite=True)
        print(folder / f"{name}.jpg")


if __name__ == "__main__":
    main()
