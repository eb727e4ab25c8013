"""Paint every photograph in every style and lay the results out as one picture: styles on top, photographs at the left.

python examples/contact_sheet.py -o docs/pictures
python examples/contact_sheet.py --content a.jpg b.jpg --style c.jpg mosaic -o .
"""

import argparse
from pathlib import Path

import numpy as np

from restyle import Stylizer, gallery, read_image, write_image
from restyle.image import fit_short_side, resize


def tile(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle square of a picture, (side, side, 3)."""
    height, width = fit_short_side(pixels.shape[:2], side)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(pixels[:, :, :3], (height, width))[top : top + side, left : left + side]


def contact_sheet(
    photos: list[np.ndarray], paintings: list[np.ndarray], *, side: int, columns: int, strength: float
) -> np.ndarray:
    """One row for each photograph, one column for each style, in blocks of so many columns; white lines between."""
    model = Stylizer.load()
    photos = [tile(photo, 512) for photo in photos]  # painted at 512, as the model likes it, and then made small
    rows = []
    for start in range(0, len(paintings), columns):
        block = paintings[start : start + columns]
        blank = [np.full((side, side, 3), 255, np.uint8)] * (columns - len(block))
        rows.append([np.full((side, side, 3), 255, np.uint8), *(tile(painting, side) for painting in block), *blank])
        styles = [model.encode_style(painting) for painting in block]
        for photo in photos:
            painted = model.apply_many([photo] * len(styles), styles, strength)
            rows.append([*(tile(picture, side) for picture in (photo, *painted)), *blank])
    bordered = [[np.pad(one, ((2, 2), (2, 2), (0, 0)), constant_values=255) for one in row] for row in rows]
    return np.vstack([np.hstack(row) for row in bordered])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    samples = [entry.name for entry in gallery.entries().values() if entry.kind == "sample"]
    parser.add_argument("--content", nargs="+", default=samples)
    parser.add_argument("--style", nargs="+", default=[entry.name for entry in gallery.styles()])
    parser.add_argument("--side", type=int, default=160, help="side of a tile in pixels")
    parser.add_argument("--columns", type=int, default=7, help="styles side by side")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("-o", "--output", type=Path, default=Path(), help="folder for contact_sheet.jpg")
    options = parser.parse_args()
    photos = [read_image(gallery.find(name, kind="sample")).pixels for name in options.content]
    paintings = [read_image(gallery.find(name)).pixels for name in options.style]
    columns = min(options.columns, len(paintings))
    sheet = contact_sheet(photos, paintings, side=options.side, columns=columns, strength=options.strength)
    write_image(options.output / "contact_sheet.jpg", sheet, quality=85, overwrite=True)
    print(options.output / "contact_sheet.jpg")


if __name__ == "__main__":
    main()
