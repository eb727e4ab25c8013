"""The page without a server: pictures a second in a real browser, as ratios to the engine of this computer.

    python benchmarks/browser.py                  # chromium without a graphics card: WASM, one thread and several
    python benchmarks/browser.py --card           # and with one: WebGPU

Each contestant paints a picture of the same size again and again for some seconds, as the page does it: pixels in,
pixels out. They take turns; of each the fastest turn counts, since other work on the machine only ever slows. Needs
the extra ``dev`` for playwright, and chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from measure import machine, write
from restyle import Stylizer, gallery
from restyle.image import read_image, resize
from restyle.serve.static_site import write_site

ISOLATING = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
ENGINE = "engine, f32"
CONTESTANTS = {"WASM, 1 thread": ("wasm", {}), "WASM, threads": ("wasm", ISOLATING), "WebGPU": ("", {})}
PAINT = """async ([side, seconds]) => {
    const { engine } = await import(new URL("static/engine.js", location.href));
    const photo = new ImageData(side, side);
    crypto.getRandomValues(photo.data.subarray(0, 65536));
    for (let at = 65536; at < photo.data.length; at *= 2) photo.data.copyWithin(at, 0, at);
    const mix = [{ id: "wave", weight: 1 }];
    const began = performance.now();
    let count = 0;
    for (; performance.now() - began < 1000 * seconds; count++) await engine.run(photo, mix, { strength: 1 });
    return count / (performance.now() - began) * 1000;
}"""


class Files(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *words, headers: dict[str, str], **options) -> None:
        self._more = headers
        super().__init__(*words, **options)

    def end_headers(self) -> None:
        for name, value in self._more.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def opened(browser: Browser, site: Path, contestant: str) -> Iterator[Page]:
    """The page, once it has loaded its engine."""
    wanted, headers = CONTESTANTS[contestant]
    handler = functools.partial(Files, directory=str(site), headers=headers)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://localhost:{server.server_port}/?engine={wanted}")
        page.get_by_text("pictures a second").wait_for(timeout=120_000)
        yield page
        page.close()
        server.shutdown()


def native(side: int, threads: int) -> Callable[[float], float]:
    """Pictures a second of the engine in this process, in the browser's precision."""
    model = Stylizer.load(precision="f32", threads=threads)
    style = model.encode_style(gallery.find("wave"))
    photo = resize(read_image(gallery.find("castle", kind="sample")).pixels, (side, side))
    model.apply(photo, style)

    def turn(seconds: float) -> float:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            model.apply(photo, style)
            count += 1
        return count / (time.perf_counter() - began)

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256, help="of the square pictures, in pixels")
    parser.add_argument("--seconds", type=float, default=5, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--card", action="store_true", help="let chromium use the graphics card")
    options = parser.parse_args()
    contestants = [name for name in CONTESTANTS if name != "WebGPU" or options.card]
    words = ["--no-sandbox"]
    if options.card:
        words += ["--enable-unsafe-webgpu", "--enable-features=Vulkan", "--ignore-gpu-blocklist"]
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    engine = native(options.side, os.cpu_count() or 1)
    rates: dict[str, list[float]] = {name: [] for name in (ENGINE, *contestants)}
    said: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as driver,
        driver.chromium.launch(executable_path=chromium, args=words) as browser,
    ):
        site = Path(folder) / "site"
        write_site(site)
        for _ in range(options.turns):
            rates[ENGINE].append(engine(options.seconds))
            for name in contestants:
                with opened(browser, site, name) as page:
                    said[name] = page.locator("#engine").inner_text()
                    page.evaluate(PAINT, [options.side, 1])  # a browser compiles what runs often
                    rates[name].append(page.evaluate(PAINT, [options.side, options.seconds]))
        version = browser.version
    best = {name: float(np.max(found)) for name, found in rates.items()}
    document = {
        "machine": machine(),
        "processors": os.cpu_count(),
        "browser": version,
        "side": options.side,
        "contestants": {
            name: {
                "pictures_per_s": round(rate, 1),
                "ratio_to_engine": round(rate / best[ENGINE], 3),
                **({"page_says": said[name]} if name in said else {}),
            }
            for name, rate in best.items()
        },
    }
    write(document, "browser")


if __name__ == "__main__":
    main()
