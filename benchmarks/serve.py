"""The server under load: rate and latency with many clients, as ratios to the engine without a server.

    python benchmarks/serve.py --clients 50 --seconds 120

Server and clients share this machine, so the server's share is a lower bound. Clients that are told to come back wait
as long as they were told. Every picture is sent and received as JPEG, 512 pixels high and 640 wide. Engine and server
take turns, so that the machine's mood meets both.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from measure import machine, write
from restyle import Stylizer, gallery
from restyle.image import encode_image, read_image, resize

TURNS = 4


class Engine:
    """Reads, paints and writes in two threads, as the server does it."""

    def __init__(self, file: bytes) -> None:
        self.model = Stylizer.load()
        self.style = self.model.encode_style(gallery.find("wave"))
        self.file, self.pixels = file, read_image(file).pixels
        self.once(0)
        self.count, self.spent = 0, 0.0
        self.times: dict[int, list[float]] = {1: [], 4: []}

    def once(self, _: int) -> None:
        encode_image(self.model.apply(read_image(self.file).pixels, self.style), "jpg")

    def turn(self, seconds: float) -> None:
        began = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            while time.perf_counter() - began < seconds:
                list(pool.map(self.once, range(8)))
                self.count += 8
        self.spent += time.perf_counter() - began
        for size, found in self.times.items():
            for _ in range(4):
                start = time.perf_counter()
                self.model.apply_many([self.pixels] * size, self.style)
                found.append((time.perf_counter() - start) / size)

    @property
    def batch_ratio(self) -> float:
        """Time of a picture in a batch of four to that of one alone; the first of each turn does not count."""
        medians = {size: np.median([t for i, t in enumerate(found) if i % 4]) for size, found in self.times.items()}
        return float(medians[4] / medians[1])


@dataclass
class Load:
    """What so many clients see who each ask again as soon as they are answered."""

    clients: int
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    memory: list[float] = field(default_factory=list)
    spent: float = 0.0

    def turn(self, address: str, pid: int, file: bytes, seconds: float) -> None:
        began, lock = time.perf_counter(), threading.Lock()

        def ask(_: int) -> None:
            with httpx.Client(timeout=120) as client:
                while time.perf_counter() - began < seconds:
                    asked = time.perf_counter()
                    reply = client.post(f"{address}/v1/images", files={"content": file}, data={"style_id": "wave"})
                    with lock:
                        self.statuses[reply.status_code] = self.statuses.get(reply.status_code, 0) + 1
                        if reply.status_code == 200:
                            self.latencies.append(time.perf_counter() - asked)
                    if reply.status_code == 503:
                        time.sleep(float(reply.headers["Retry-After"]))

        with ThreadPoolExecutor(self.clients) as pool:
            tasks = [pool.submit(ask, number) for number in range(self.clients)]
            while not all(task.done() for task in tasks):
                self.memory.append(resident_mb(pid))
                time.sleep(0.5)
            for task in tasks:
                task.result()
        self.spent += time.perf_counter() - began

    def document(self, engine: Engine) -> dict[str, object]:
        rate, half = len(self.latencies) / self.spent, len(self.memory) // 2
        return {
            "clients": self.clients,
            "pictures_per_s": round(rate, 1),
            "ratio_to_engine": round(rate * engine.spent / engine.count, 3),
            "p50_ms": round(1000 * float(np.percentile(self.latencies, 50))),
            "p95_ms": round(1000 * float(np.percentile(self.latencies, 95))),
            "statuses": self.statuses,
            "memory_mb": [round(np.median(part)) for part in (self.memory[:half], self.memory[half:])],
        }


def resident_mb(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    options = parser.parse_args()
    file = encode_image(resize(read_image(gallery.find("castle", kind="sample")).pixels, (512, 640)), "jpg")
    engine, loads = Engine(file), [Load(2), Load(options.clients)]
    words = [sys.executable, "-m", "restyle", "serve", "--port", "0", "--rate", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = re.search(r"http://\S+", process.stdout.readline())[0]
        httpx.post(f"{address}/v1/images", files={"content": file}, data={"style_id": "wave"}, timeout=60)
        for _ in range(TURNS):
            engine.turn(options.seconds / TURNS / 2)
            for load in loads:
                load.turn(address, process.pid, file, options.seconds / TURNS)
        process.terminate()
    document = {
        "machine": machine(),
        "processors": os.cpu_count(),
        "seconds": options.seconds,
        "engine_pictures_per_s": round(engine.count / engine.spent, 1),
        "batch_of_4_to_single": round(engine.batch_ratio, 2),
        "server": [load.document(engine) for load in loads],
    }
    write(document, "serve")


if __name__ == "__main__":
    main()
