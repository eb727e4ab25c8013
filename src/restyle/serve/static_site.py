"""The page as static files for any web server: it paints by itself, in the browser, with onnxruntime-web."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from restyle import gallery
from restyle.serve.onnxruntime_web import FILES, VERSION, find_runtime
from restyle.serve.styles import small_picture
from restyle.stylizer import STYLE_SIDE, Stylizer
from restyle.video import CALM
from restyle.video.statistics import NEW_SCENE
from restyle.weights import GRAPHS, find_model

PAGE = Path(__file__).parent / "static"
SERVER_ONLY = ("api.js", "docs.html", "docs.js", "engine.js", "film.js", "server_camera.js", "server_engine.js")
"""Files of the page that talk to a server."""

IN_BROWSER, ON_SERVER = "engine_in_browser.js", "engine.js"
"""The one file that says what paints, and the server's in whose place it comes."""

POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'"
)
"""The page's Content-Security-Policy; WebAssembly is code that the page compiles, and has to be allowed by name."""

HEADERS = """\
/*
  Cross-Origin-Opener-Policy: same-origin
  Cross-Origin-Embedder-Policy: require-corp
"""
"""Read by some static hosts; with these headers WASM may use several threads."""

CREDITS = """\
restyle and its model {model}: Copyright (c) 2026 The restyle authors, {licence} License.
onnxruntime-web {runtime}: Copyright (c) Microsoft Corporation, MIT License.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

The pictures:

{pictures}
"""
"""Licences that want to be told of."""


def write_site(
    folder: Path, model: str | Path = "fast", *, runtime: Path | None = None, overwrite: bool = False
) -> list[Path]:
    """Write the page, the model, the gallery's styles and onnxruntime-web as files.

    Args:
        folder: Where to; made if need be.
        model: Name of a bundled model, or a model folder.
        runtime: See ``find_runtime``.
        overwrite: Replace files of the same names in a folder that is not empty; others stay.

    Returns:
        The files, as paths in the folder.

    Raises:
        OSError: the folder is not empty and ``overwrite`` is not set, or the disk refuses.
        ExportError: see ``find_runtime``.
        RestyleError: the model cannot be used; see ``Stylizer.load``.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise FileExistsError(f"cannot write into {str(folder)!r}: it is not a folder")
    if os.path.isdir(folder) and os.listdir(folder) and not overwrite:
        raise FileExistsError(f"cannot write into {str(folder)!r}: it is not empty; see --overwrite")
    above = folder.absolute().parent
    if not os.path.isdir(above):
        raise FileNotFoundError(f"cannot write {str(folder)!r}: there is no folder {str(above)!r}")
    stylizer = Stylizer.load(model, device="cpu", precision="f32")
    found = find_runtime(runtime)
    try:
        files = _write_files(folder, stylizer, find_model(model), found)
    except OSError as error:
        raise OSError(f"cannot write into {str(folder)!r}: {error.strerror or error}") from error
    return [folder / file for file in files]


def _write_files(folder: Path, stylizer: Stylizer, model: Path, runtime: Path) -> list[Path]:
    """Write everything beside the folder, then put it there; returns the files' paths in it."""
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".restyle-") as temporary:
        beside = Path(temporary) / "site"
        for name in ("static", "model", "onnxruntime-web", "gallery", "samples"):
            (beside / name).mkdir(parents=True)
        _write_page(beside)
        _write_model(beside, stylizer, model)
        for name in FILES:
            shutil.copyfile(runtime / name, beside / "onnxruntime-web" / name)
        files = sorted(path.relative_to(beside) for path in beside.rglob("*") if path.is_file())
        if os.path.isdir(folder):
            for file in files:
                (folder / file).parent.mkdir(exist_ok=True)
                os.replace(beside / file, folder / file)
        else:
            os.replace(beside, folder)
    return files


def _write_page(site: Path) -> None:
    for path in PAGE.iterdir():
        if path.is_file() and path.name not in (*SERVER_ONLY, "index.html"):
            shutil.copyfile(path, site / "static" / (ON_SERVER if path.name == IN_BROWSER else path.name))
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    policy = f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    for before, after in (('data-engine="server"', 'data-engine="browser"'), ('<meta charset="utf-8">', policy)):
        assert page.count(before) == 1, f"index.html must hold {before} once"
        page = page.replace(before, after)
    (site / "index.html").write_text(page, encoding="utf-8")
    (site / "_headers").write_text(HEADERS, encoding="utf-8")


def _write_model(site: Path, stylizer: Stylizer, folder: Path) -> None:
    """The graphs, the gallery with its styles as vectors, and ``card.json``, which tells the page of them."""
    for name in GRAPHS:
        shutil.copyfile(folder / name, site / "model" / name)
    styles, card = gallery.styles(), stylizer.card
    vectors = np.stack([stylizer.encode_style(entry.path).vector for entry in styles])
    (site / "model" / "styles.bin").write_bytes(vectors.astype("<f4").tobytes())
    for entry in gallery.entries().values():
        kind = "gallery" if entry.kind == "style" else "samples"
        small = small_picture(entry.path) if entry.kind == "style" else entry.path.read_bytes()
        (site / kind / f"{entry.name}.jpg").write_bytes(small)
    document = {
        "name": card.name, "version": card.version, "sites": card.sites, "style_size": card.style_size,
        "style_side": STYLE_SIDE, "calm": CALM, "new_scene": NEW_SCENE,
        "styles": [
            {
                "id": entry.name, "title": entry.title, "author": entry.author, "year": entry.year,
                "thumbnail": f"gallery/{entry.name}.jpg",
            }
            for entry in styles
        ],
    }  # fmt: skip
    (site / "model" / "card.json").write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf-8")
    pictures = "\n".join(
        f"{entry.title}. {entry.author}, {entry.year}. {entry.licence}. {entry.source}"
        for entry in gallery.entries().values()
    )
    credits = CREDITS.format(
        model=f"{card.name} {card.version}", licence=card.licence, runtime=VERSION, pictures=pictures
    )
    (site / "CREDITS.txt").write_text(credits, encoding="utf-8")
