"""Peak memory and time of one picture, whole and in tiles, against its size; each in a process of its own.

Bytes in, bytes out: the picture and its result alone are six bytes a pixel.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import numpy as np

from measure import machine, write

SIDES = (512, 1024, 2048, 4096, 6000, 10_000)


def paint(side: int, tile: int | None) -> dict[str, float]:
    from restyle import Stylizer, gallery
    from restyle.image import read_image, resize

    model = Stylizer.load()
    style = model.encode_style(gallery.find("wave"))
    castle = resize(read_image(gallery.find("castle", kind="sample")).pixels, (500, 500))
    photo = np.tile(castle, (-(-side // 500), -(-side // 500), 1))[:side, :side]
    started = time.perf_counter()
    model.apply(photo, style, tile=tile)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"megapixels": round(side * side / 1e6, 1), "peak_mb": round(peak / 1e6), "seconds": round(seconds, 2)}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(paint(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2] != "None" else None)))
        return
    rows: dict[str, list] = {}
    for name, tile in (("whole", 0), ("automatic", None)):
        for side in SIDES:
            if side > 6000 and tile == 0:
                continue  # 7 GB: not on everybody's machine
            command = [sys.executable, __file__, str(side), str(tile)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.setdefault(name, []).append(json.loads(done.stdout))
    write({"machine": machine(), **rows}, "memory")


if __name__ == "__main__":
    main()
