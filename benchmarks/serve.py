"""The server under load: rate and latency with many clients, as ratios to the engine without a server.

    python benchmarks/serve.py --clients 50 --seconds 120     # three and a half minutes

Server and clients share this machine, so the server's share is a lower bound. Clients that are told to come back wait
as long as they were told. Every picture is sent and received as JPEG, 512 pixels high and 640 wide. Engine and server
take turns, so that the machine's mood meets both.

``batching`` is why the server does not batch: as many clients as the server has places want pixels for pixels of the
bare engine, which paints them one by one, or up to four in one go.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from measure import machine, write
from restyle import Stylizer, gallery
from restyle.image import encode_image, read_image, resize
from restyle.serve.limits import Limits

TURNS = 4
BATCH = 4


class Engine:
    """Reads, paints and writes in two threads, as the server does it."""

    def __init__(self, file: bytes) -> None:
        self.model = Stylizer.load()
        self.style = self.model.encode_style(gallery.find("wave"))
        self.file, self.pixels = file, read_image(file).pixels
        self.once(0)
        self.count, self.spent = 0, 0.0
        self.latencies: dict[int, list[float]] = {1: [], BATCH: []}
        self.painted = dict.fromkeys(self.latencies, 0)
        self.painting = dict.fromkeys(self.latencies, 0.0)

    def once(self, _: int) -> None:
        encode_image(self.model.apply(read_image(self.file).pixels, self.style), "jpg")

    def turn(self, seconds: float) -> None:
        began = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            while time.perf_counter() - began < seconds:
                list(pool.map(self.once, range(8)))
                self.count += 8
        self.spent += time.perf_counter() - began

    def batching_turn(self, seconds: float, clients: int) -> None:
        """Clients who each ask again as soon as they are answered; the engine takes up to so many at a time."""
        for most, found in self.latencies.items():
            self.model.apply_many([self.pixels] * most, self.style)
            began = time.perf_counter()
            asked = deque([began] * clients)
            while (now := time.perf_counter()) - began < seconds:
                taken = [asked.popleft() for _ in range(min(most, clients))]
                self.model.apply_many([self.pixels] * len(taken), self.style)
                now = time.perf_counter()
                found += [now - one for one in taken if one > began]  # the first ones met a queue that was growing
                asked += [now] * len(taken)
                self.painted[most] += len(taken)
            self.painting[most] += now - began

    def batching(self) -> dict[str, dict[str, float]]:
        return {
            f"{most} at a time": {
                "pictures_per_s": round(self.painted[most] / self.painting[most], 1),
                **percentiles(found),
            }
            for most, found in self.latencies.items()
        }


@dataclass(eq=False)
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
            **percentiles(self.latencies),
            "statuses": self.statuses,
            "memory_mb": [round(np.median(part)) for part in (self.memory[:half], self.memory[half:])],
        }


def percentiles(seconds: list[float]) -> dict[str, int]:
    if not seconds:  # nobody was answered in so short a time
        return {}
    return {f"p{share}_ms": round(1000 * float(np.percentile(seconds, share))) for share in (50, 95)}


def resident_mb(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120, help="of so many clients; the others get a part of it")
    options = parser.parse_args()
    file = encode_image(resize(read_image(gallery.find("castle", kind="sample")).pixels, (512, 640)), "jpg")
    engine, loads = Engine(file), {Load(2): 0.125, Load(options.clients): 1.0}
    turn = options.seconds / TURNS
    words = [sys.executable, "-m", "restyle", "serve", "--port", "0", "--rate", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = re.search(r"http://\S+", process.stdout.readline())[0]
        httpx.post(f"{address}/v1/images", files={"content": file}, data={"style_id": "wave"}, timeout=60)
        for _ in range(TURNS):
            engine.turn(0.25 * turn)
            engine.batching_turn(0.125 * turn, Limits().queue)
            for load, share in loads.items():
                load.turn(address, process.pid, file, share * turn)
        process.terminate()
    document = {
        "machine": machine(),
        "processors": os.cpu_count(),
        "seconds": options.seconds,
        "engine_pictures_per_s": round(engine.count / engine.spent, 1),
        "batching": engine.batching(),
        "server": [load.document(engine) for load in loads],
    }
    write(document, "serve")


if __name__ == "__main__":
    main()
