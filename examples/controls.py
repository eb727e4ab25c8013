"""What the controls do, on one photograph, as one picture.

python examples/controls.py -o docs/pictures
"""

import argparse
from pathlib import Path

import numpy as np

from restyle import Region, Style, Stylizer, gallery, read_image, write_image
from restyle.image import resize

SIZE = (320, 480)


def pictures(photo: np.ndarray) -> list[list[np.ndarray]]:
    """Four rows of three."""
    model = Stylizer.load()
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(), help="folder for controls.jpg")
    options = parser.parse_args()
    photo = resize(read_image(gallery.find("castle", kind="sample")).pixels[:, :, :3], SIZE)
    bordered = [[np.pad(one, ((2, 2), (2, 2), (0, 0)), constant_values=255) for one in row] for row in pictures(photo)]
    write_image(options.output / "controls.jpg", np.vstack([np.hstack(row) for row in bordered]), overwrite=True)
    print(options.output / "controls.jpg")


if __name__ == "__main__":
    main()
