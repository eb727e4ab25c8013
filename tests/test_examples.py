"""The programs that the documentation shows must run."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from restyle.image import read_image, write_image

PROJECT = Path(__file__).parent.parent


def run_program(folder, *command):
    return subprocess.run([sys.executable, *map(str, command)], cwd=folder, capture_output=True, text=True, check=True)


def test_quickstart(tmp_path):
    run_program(tmp_path, PROJECT / "examples" / "quickstart.py")
    assert {path.name for path in tmp_path.iterdir()} == {"wave_0.3.jpg", "wave_1.0.jpg", "both.jpg", "both.style"}


def test_contact_sheet(tmp_path):
    run_program(
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
    run_program(tmp_path, PROJECT / "examples" / "controls.py")
    assert read_image(tmp_path / "controls.jpg").pixels.shape == (5 * 204, 3 * 304, 3)
    shown = re.findall(r"pictures/(control_.*?\.jpg)", (PROJECT / "docs" / "controls.md").read_text())
    assert sorted(shown) == sorted(path.name for path in tmp_path.glob("control_*.jpg"))


def test_controls_without_the_extra_for_people(tmp_path, monkeypatch):
    (tmp_path / "tflite.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told = run_program(tmp_path, PROJECT / "examples" / "controls.py").stdout
    assert "restyle[people]" in told
    assert read_image(tmp_path / "controls.jpg").pixels.shape == (4 * 204, 3 * 304, 3)


def commands():
    return re.findall(r"^    (restyle image .*)$", (PROJECT / "docs" / "controls.md").read_text(), re.M)


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_controls_page_run(command, tmp_path, photo, monkeypatch, run, request):
    """Each writes something, and what it writes is not the photograph."""
    if "person" in command:
        request.getfixturevalue("finds_people")
    monkeypatch.chdir(tmp_path)
    for name, picture in (("photo.jpg", photo), ("across.png", across(photo)), ("sky.png", across(photo))):
        write_image(tmp_path / name, picture)
    code, _, err = run(*shlex.split(command)[1:], "-q")
    assert code == 0, err
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.stem not in ("photo", "across", "sky")]
    assert len(written) == (5 if "--morph" in command else 1)
    painted = read_image(written[0]).pixels
    assert painted.shape != photo.shape or np.abs(painted.astype(int) - read_image("photo.jpg").pixels).mean() > 3


def across(photo):
    """A mask from black to white."""
    return np.tile(np.linspace(0, 255, photo.shape[1]).astype(np.uint8)[:, None], (photo.shape[0], 1, 3))


def documents():
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


# The example of server.md needs a server: test_serve.py has one.
@pytest.mark.parametrize(
    "document", [path for path in documents() if path.name != "server.md"], ids=lambda path: path.name
)
def test_python_in_the_documents_runs(document, tmp_path, photo):
    for name in ("photo.jpg", "painting.jpg", "mask.png"):
        write_image(tmp_path / name, photo)
    programs = re.findall(r"```python\n(.*?)```", document.read_text(), re.S)
    for program in programs:
        run_program(tmp_path, "-c", program)


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_links_and_pictures_of_the_documents_exist(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_the_changelog_knows_this_version():
    from restyle import __version__

    assert f"## {__version__}" in (PROJECT / "CHANGELOG.md").read_text()
    assert f'version = "{__version__}"' in (PROJECT / "pyproject.toml").read_text()
