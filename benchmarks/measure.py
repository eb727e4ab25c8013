"""What all benchmarks share: warm-up, median and spread, a line for people and a JSON document for programs."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import restyle


def measure(call: Callable[[], Any], *, warm_up: int = 5, repeats: int = 30) -> dict[str, float]:
    """Time a call: median and quartiles in milliseconds."""
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(1000 * (time.perf_counter() - started))
    low, middle, high = statistics.quantiles(seconds, n=4)
    return {"median_ms": round(middle, 2), "quartiles_ms": [round(low, 2), round(high, 2)]}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    name, flags = platform.processor() or "unknown", ""
    if Path("/proc/cpuinfo").exists():
        lines = dict(line.split("\t:", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if "\t:" in line)
        name = next((v.strip() for k, v in lines.items() if k.startswith("model name")), name)
        flags = lines.get("flags\t", "")
    return {
        "processor": name,
        "avx512_bf16": "avx512_bf16" in flags,
        "system": platform.platform(),
        "python": platform.python_version(),
        "restyle": restyle.__version__,
    }


def write(document: dict[str, Any], name: str) -> None:
    """Print the document and keep it under benchmarks/results."""
    text = json.dumps(document, indent=2)
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(text + "\n")
    print(text)
