"""The programs that the documentation shows must run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from restyle.image import read_image

PROJECT = Path(__file__).parent.parent


def run(folder, *command):
    return subprocess.run([sys.executable, *map(str, command)], cwd=folder, capture_output=True, text=True, check=True)


def test_quickstart(tmp_path):
    run(tmp_path, PROJECT / "examples" / "quickstart.py")
    assert {path.name for path in tmp_path.iterdir()} == {"wave_0.3.jpg", "wave_1.0.jpg", "both.jpg", "both.style"}


def test_contact_sheet(tmp_path):
    run(
        tmp_path,
        PROJECT / "examples" / "contact_sheet.py",
        "--content",
        "coffee",
        "--style",
        "wave",
        "ink",
        "--side",
        64,
    )
    assert read_image(tmp_path / "contact_sheet.jpg").pixels.shape == (2 * 68, 3 * 68, 3)


def test_controls(tmp_path, finds_people):
    run(tmp_path, PROJECT / "examples" / "controls.py")
    assert read_image(tmp_path / "controls.jpg").pixels.shape == (5 * 324, 3 * 484, 3)


def test_controls_without_the_extra_for_people(tmp_path, monkeypatch):
    (tmp_path / "tflite.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told = run(tmp_path, PROJECT / "examples" / "controls.py").stdout
    assert "restyle[people]" in told
    assert read_image(tmp_path / "controls.jpg").pixels.shape == (4 * 324, 3 * 484, 3)


def documents():
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


# The example of server.md needs a server: test_serve.py has one.
@pytest.mark.parametrize(
    "document", [path for path in documents() if path.name != "server.md"], ids=lambda path: path.name
)
def test_python_in_the_documents_runs(document, tmp_path, photo):
    from restyle.image import write_image

    for name in ("photo.jpg", "painting.jpg", "mask.png"):
        write_image(tmp_path / name, photo)
    programs = re.findall(r"```python\n(.*?)```", document.read_text(), re.S)
    for program in programs:
        run(tmp_path, "-c", program)


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_links_and_pictures_of_the_documents_exist(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_the_changelog_knows_this_version():
    from restyle import __version__

    assert f"## {__version__}" in (PROJECT / "CHANGELOG.md").read_text()
    assert f'version = "{__version__}"' in (PROJECT / "pyproject.toml").read_text()
