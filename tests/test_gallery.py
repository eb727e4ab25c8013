import json

import pytest

from restyle import gallery
from restyle.errors import UnknownNameError
from restyle.image import read_image
from restyle.weights import file_sha256


def test_every_picture_is_described_whole_and_readable():
    listed = json.loads((gallery.FOLDER / "gallery.json").read_text())
    for item, entry in zip(listed, gallery.entries().values(), strict=True):
        assert entry.source, entry.name
        assert entry.licence.startswith(("public domain", "CC0", "MIT")), entry.name
        assert file_sha256(entry.path) == item["sha256"], entry.name
        height, width = read_image(entry.path).pixels.shape[:2]
        assert min(height, width) >= 384, entry.name


def test_nothing_is_bundled_without_a_description():
    files = {path for path in gallery.FOLDER.rglob("*.jpg")}
    assert files == {entry.path for entry in gallery.entries().values()}
    assert sum(path.stat().st_size for path in files) < 2_000_000
    assert len(gallery.styles()) >= 10
    assert len(files) - len(gallery.styles()) >= 2


def test_a_bundled_name_wins_and_a_path_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wave").mkdir()  # such as a folder of results
    (tmp_path / "mine").write_bytes(b"a file")
    assert gallery.find("wave") == gallery.FOLDER / "wave.jpg"
    assert str(gallery.find("mine")) == "mine"
    assert str(gallery.find("./mine")) == "mine"
    assert gallery.find(tmp_path / "wave") == tmp_path / "wave"
    (tmp_path / "album").mkdir()
    assert str(gallery.find("album")) == "album"  # reading it will say that it is a folder


def test_unknown_names_get_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'mosaic'"):
        gallery.find("mosiac")
    with pytest.raises(UnknownNameError, match="did you mean 'coffee'"):
        gallery.find("cofee", kind="sample")
    assert str(gallery.find("missing.jpg")) == "missing.jpg"
    with pytest.raises(UnknownNameError, match="known: "):
        gallery.find("x" * 300)
