"""What the controls do, on one photograph, as one picture. The last row finds a person, which needs the extra people.

python examples/controls.py -o docs/pictures
"""

import argparse
from pathlib import Path

import numpy as np

from restyle import PersonMask, Region, Style, Stylizer, gallery, read_image, write_image
from restyle.errors import RestyleError
from restyle.image import resize

SIZE = (320, 480)


def pictures(model: Stylizer, photo: np.ndarray) -> list[list[np.ndarray]]:
    """Four rows of three."""
    starry, mosaic, ink, cafe = (model.encode_style(gallery.find(name)) for name in ("starry", "mosaic", "ink", "cafe"))
    across = np.tile(np.linspace(0, 255, 480).astype(np.uint8), (320, 1))  # black at the left, white at the right
    sky = np.zeros(SIZE, np.uint8)
    sky[:135] = 255
    return [
        [photo, model.apply(photo, starry), model.apply(photo, starry, 0.5)],
        [model.apply(photo, mosaic, keep_colors=way) for way in ("luminance", "histogram", "covariance")],
        [
            model.apply(photo, starry, mask=across),
            model.apply(photo, cafe, regions=[Region(sky, None)]),
            model.apply(photo, ink, regions=[Region(sky, starry)]),
        ],
        [
            model.apply(photo, starry, work_size=160),
            model.apply(photo, Style.mix([starry, mosaic])),
            model.apply(photo, starry, 1.6),
        ],
    ]


def people(model: Stylizer, portrait: np.ndarray) -> list[np.ndarray]:
    """A row of three."""
    starry, mosaic, ink = (model.encode_style(gallery.find(name)) for name in ("starry", "mosaic", "ink"))
    return [
        portrait,
        model.apply(portrait, mosaic, mask=PersonMask(inverse=True)),
        model.apply(portrait, starry, regions=[Region(PersonMask(), ink)]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(), help="folder for controls.jpg")
    options = parser.parse_args()
    photo = resize(read_image(gallery.find("castle", kind="sample")).pixels[:, :, :3], SIZE)
    portrait = resize(read_image(gallery.find("astronaut", kind="sample")).pixels[:, :, :3], (480, 480))[:320]
    model = Stylizer.load()
    rows = pictures(model, photo)
    try:
        rows.append(people(model, portrait))
    except RestyleError as error:
        print(f"without the last row: {error}")
    bordered = [[np.pad(one, ((2, 2), (2, 2), (0, 0)), constant_values=255) for one in row] for row in rows]
    write_image(options.output / "controls.jpg", np.vstack([np.hstack(row) for row in bordered]), overwrite=True)
    print(options.output / "controls.jpg")


if __name__ == "__main__":
    main()
