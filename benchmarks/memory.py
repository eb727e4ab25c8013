"""Peak memory and time of one picture, whole and in tiles, against its size, and what was told beforehand.

Each in a process of its own. ``whole`` and ``automatic`` go from array to array: the picture and its result alone are
six bytes a pixel. ``files`` is the command, from JPEG to JPEG.

    python benchmarks/memory.py          # measures, two minutes, and draws docs/pictures/memory.png
    python benchmarks/memory.py plot     # draws anew what was measured last
"""

from __future__ import annotations

import ast
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from measure import machine, write

RESULTS = Path(__file__).parent / "results" / "memory.json"
PICTURE = Path(__file__).parent.parent / "docs" / "pictures" / "memory.png"

SIDES = (512, 1024, 2048, 4096, 6000, 10_000)

LARGEST_WHOLE = 6000
"""Beyond this the whole at once takes 11 GB: not on everybody's machine."""


def photograph(side: int) -> np.ndarray:
    from restyle import gallery
    from restyle.image import read_image, resize

    castle = resize(read_image(gallery.find("castle", kind="sample")).pixels, (500, 500))
    return np.ascontiguousarray(np.tile(castle, (-(-side // 500), -(-side // 500), 1))[:side, :side])


def paint(side: int, tile: int | None) -> float:
    """Paint from array to array; returns the seconds."""
    from restyle import Stylizer, gallery

    model = Stylizer.load()
    style, photo = model.encode_style(gallery.find("wave")), photograph(side)
    started = time.perf_counter()
    model.apply(photo, style, tile=tile)
    return time.perf_counter() - started


def paint_file(path: Path) -> float:
    """Paint from file to file, as the command does; returns the seconds."""
    from restyle.cli import app

    started = time.perf_counter()
    app(["image", str(path), "--style", "wave", "-o", str(path.with_name("out.jpg")), "-q"], standalone_mode=False)
    return time.perf_counter() - started


def write_photograph(side: int, path: Path) -> float:
    from restyle import write_image

    write_image(path, photograph(side), overwrite=True)
    return 0.0


def measured(*words: object) -> dict[str, float]:
    """This program in a process of its own; its parent stays small, since a child is charged with its memory."""
    command = [sys.executable, __file__, *map(str, words)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure_all(scratch: Path) -> dict[str, list[dict[str, float]]]:
    from restyle import Stylizer, batch

    rows: dict[str, list[dict[str, float]]] = {"whole": [], "automatic": [], "files": []}
    for side in SIDES:
        size = (side, side)
        if side <= LARGEST_WHOLE:
            rows["whole"].append(measured("array", side, 0) | told(size, Stylizer.estimate_memory(size, tile=0)))
        rows["automatic"].append(measured("array", side, None) | told(size, Stylizer.estimate_memory(size)))
        measured("make", side, scratch / "photo.jpg")
        (scratch / "out.jpg").unlink(missing_ok=True)
        rows["files"].append(measured("file", scratch / "photo.jpg") | told(size, batch.estimate_memory(size)))
    return rows


def told(size: tuple[int, int], needed_bytes: int) -> dict[str, float]:
    return {"megapixels": round(size[0] * size[1] / 1e6, 1), "told_mb": round(needed_bytes / 1e6)}


NAMES = {"whole": "whole at once (--tile 0)", "automatic": "in tiles beyond 6 megapixels", "files": "from file to file"}


def plot(rows: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Memory and time against megapixels, as a picture for the docs."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    style = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3, "font.size": 9}
    with pyplot.rc_context(style):
        figure, (memory, time_taken) = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
        for kind, name in NAMES.items():
            megapixels = [row["megapixels"] for row in rows[kind]]
            memory.plot(megapixels, [row["peak_mb"] / 1000 for row in rows[kind]], "o-", ms=3, label=name)
            time_taken.plot(megapixels, [row["seconds"] for row in rows[kind]], "o-", ms=3)
        memory.set(xlabel="megapixels", title="peak memory of the whole program, GB", ylim=0)
        time_taken.set(xlabel="megapixels", title="seconds", ylim=0)
        memory.legend(frameon=False)
        figure.savefig(path, dpi=100)
        pyplot.close(figure)


def main() -> None:
    if sys.argv[1:] == ["plot"]:
        plot(json.loads(RESULTS.read_text()), PICTURE)
        return
    if len(sys.argv) > 1:
        kind, *words = sys.argv[1:]
        if kind == "array":
            seconds = paint(int(words[0]), ast.literal_eval(words[1]))
        else:
            seconds = paint_file(Path(words[0])) if kind == "file" else write_photograph(int(words[0]), Path(words[1]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"peak_mb": round(peak / 1e6), "seconds": round(seconds, 2)}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure_all(Path(scratch))
    write({"machine": machine(), **rows}, "memory")
    plot(rows, PICTURE)


if __name__ == "__main__":
    main()
