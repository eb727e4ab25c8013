"""The compiler for Myriad X: a program of OpenVINO 2021.3, fetched once from its wheel, never part of this package.

Its wheel is under Intel's licence and made for an old Python, but the program in it needs no Python at all.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from restyle.cache import cache_folder
from restyle.errors import ExportError
from restyle.weights import file_sha256

WHEELS = {
    "openvino==2021.3.0": "e00f4764a3d3d1ed3e9ec9c06b379a024ae84156d594a078e521a8af5c062ce0",
    "libusb-package==1.0.30.0": "f502ad5a0527b8c0431de817662325c88a1bba2cc334173665b04ad168d7b6d3",
}
"""What is fetched from the package index that pip uses, and its SHA-256."""

PYTHON = {"openvino==2021.3.0": ["--python-version", "3.8"]}
"""That wheel is not for the Python that runs here, which pip must be told."""

LIBRARIES = "openvino/libs/"
NOT_NEEDED = ("libMKLDNNPlugin", "libclDNNPlugin", "cache.json", ".mvcmd")
"""Of the libraries: those for other devices, and the chip's firmware."""

SHAVES = (1, 8)
"""Vector processors that a network may be compiled for; the chip has 16, and two inferences run at a time."""

PATIENCE_S = 600
HINT = "--graph-only writes the graph for other compilers, see docs/oak.md"


def compiler_folder() -> Path:
    """Where the compiler lies or will lie."""
    return cache_folder() / "myriad-2021.3.0"


def fetch_compiler() -> Path:
    """The program ``myriad_compile``, downloaded (28 MB) unless it is there.

    Raises:
        ExportError: it cannot be had, or is not what it was.
    """
    folder = compiler_folder()
    program = folder / "myriad_compile"
    if program.is_file():
        return program
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ExportError(f"the compiler for Myriad X runs on Linux on x86-64 only; {HINT}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".myriad-") as temporary:
        beside = Path(temporary) / "compiler"
        beside.mkdir()
        openvino, libusb = (_fetch_wheel(name, Path(temporary)) for name in WHEELS)
        with zipfile.ZipFile(openvino) as wheel:
            for name in wheel.namelist():
                if name.startswith(LIBRARIES) and not any(part in name for part in NOT_NEEDED):
                    (beside / name.removeprefix(LIBRARIES)).write_bytes(wheel.read(name))
        with zipfile.ZipFile(libusb) as wheel:
            (beside / "libusb-1.0.so.0").write_bytes(wheel.read("libusb_package/libusb-1.0.so"))
        (beside / "myriad_compile").chmod(0o755)
        if not program.is_file():  # another process may have been faster
            shutil.rmtree(folder, ignore_errors=True)  # what is left of it, where a cache is tidied file by file
            os.replace(beside, folder)
    return program


def compile_blob(graph: Path, blob: Path, *, shaves: int) -> None:
    """Compile the graph of ``restyle.export.oak.graph`` for the chip. The same graph gives the same bytes.

    Args:
        graph: The ONNX file.
        blob: The file to write; one that is there is replaced.
        shaves: Vector processors to use, see ``SHAVES``.

    Raises:
        ValueError: so many vector processors cannot be used.
        ExportError: the compiler cannot be had or refuses the graph.
    """
    if not SHAVES[0] <= shaves <= SHAVES[1]:
        raise ValueError(f"shaves must lie between {SHAVES[0]} and {SHAVES[1]}, got {shaves}")
    program = fetch_compiler()
    blob.unlink(missing_ok=True)
    # The compiler's -ip U8 would overrule -iop and make bytes of the style; so all is FP16 but the picture.
    command: list[str | Path] = [
        program, "-m", graph, "-o", blob, "-ip", "FP16", "-op", "FP16", "-iop", "image:U8",
        "-VPU_NUMBER_OF_SHAVES", str(shaves), "-VPU_NUMBER_OF_CMX_SLICES", str(shaves),
    ]  # fmt: skip
    environment = {**os.environ, "LD_LIBRARY_PATH": str(program.parent)}
    done = _run(command, environment)
    if done.returncode or not blob.is_file():
        raise ExportError(f"the compiler for Myriad X refuses the graph: {_last_words(done)}")


def _fetch_wheel(name: str, folder: Path) -> Path:
    target = folder / name.partition("=")[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = _run([*command, "--only-binary=:all:", *PYTHON.get(name, []), "--dest", target, name])
    wheels = list(target.glob("*.whl")) if target.is_dir() else []
    if done.returncode or len(wheels) != 1:
        raise ExportError(f"pip cannot download {name}, which holds the compiler: {_last_words(done)}; {HINT}")
    if file_sha256(wheels[0]) != WHEELS[name]:
        raise ExportError(f"the downloaded {wheels[0].name} is not the file that was tried; {HINT}")
    return wheels[0]


def _run(command: list[str | Path], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExportError(f"{command[0]} does not run: {error}; {HINT}") from error


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1].strip() if lines else f"exit code {done.returncode}"
