"""Files that people really hand over, through the whole command: a right picture, or one sentence and the exit code."""

import numpy as np
import pytest

from hostile import DAMAGED, TOO_LARGE, make_hostile
from restyle.image import read_image

SIZES = {
    "one_pixel": (1, 1, 3),
    "very_wide": (10, 20_000, 3),
    "constant_colour": (48, 64, 3),
    "animated_gif": (24, 32, 3),
    "cmyk_jpeg_with_profile": (48, 64, 3),
    "png_16bit": (64, 64, 3),
    "png_16bit_rgb": (64, 64, 3),
    "palette_with_transparency": (48, 64, 4),
    "rotated_exif": (64, 48, 3),
    "grey_alpha": (48, 64, 4),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_hostile(tmp_path_factory.mktemp("hostile"))


def test_every_hostile_file_has_its_expectation(files):
    assert set(files) == {*SIZES, *DAMAGED, *TOO_LARGE}
    assert len(files) >= 12


@pytest.mark.parametrize("name", SIZES)
def test_awkward_pictures_are_painted(run, files, name, tmp_path):
    code, _, err = run("image", files[name], "--style", "mosaic", "-o", tmp_path / "out.png")
    assert (code, err) == (0, "")
    assert read_image(tmp_path / "out.png").pixels.shape == SIZES[name]
    # At strength 0 the picture comes back as it was read: nothing on the way shifts, turns or darkens it.
    assert run("image", files[name], "--style", "mosaic", "--strength", 0, "-o", tmp_path / "same.png")[0] == 0
    same, read = read_image(tmp_path / "same.png").pixels, read_image(files[name]).pixels
    opaque = read[:, :, 3:] > 0 if read.shape[2] == 4 else np.ones_like(read[:, :, :1], bool)
    assert np.array_equal(np.where(opaque, same, 0), np.where(opaque, read, 0))


@pytest.mark.parametrize("name", SIZES)
def test_awkward_pictures_serve_as_styles(run, files, name, tmp_path):
    code, _, err = run("image", files["rotated_exif"], "--style", files[name], "-o", tmp_path / "out.png")
    assert (code, err) == (0, "")
    assert read_image(tmp_path / "out.png").pixels.shape == (64, 48, 3)


@pytest.mark.parametrize("role", ["content", "style"])
@pytest.mark.parametrize(("name", "code"), [*((n, 3) for n in DAMAGED), *((n, 6) for n in TOO_LARGE)])
def test_damaged_files_get_one_sentence(run, files, name, code, role, tmp_path):
    words = (
        [files[name], "--style", "mosaic"] if role == "content" else [files["constant_colour"], "--style", files[name]]
    )
    got, out, err = run("image", *words, "-o", tmp_path / "out.png")
    assert got == code
    assert out == ""
    assert len(err.splitlines()) == 1
    assert files[name].name in err
    assert not list(tmp_path.iterdir())


def test_a_constant_picture_stays_calm(run, files, tmp_path):
    assert (
        run("image", files["constant_colour"], "--style", files["constant_colour"], "-o", tmp_path / "out.png")[0] == 0
    )
    painted = read_image(tmp_path / "out.png").pixels.astype(int)
    assert painted.std((0, 1)).max() < 1
