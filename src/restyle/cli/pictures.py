"""Commands of those who paint pictures: image, models, styles, info."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import restyle
from restyle import gallery
from restyle.cli.report import describe, error_document, exit_code, print_json, print_table
from restyle.errors import ImageError, LimitError, RestyleError

if TYPE_CHECKING:
    from restyle.stylizer import Style, Stylizer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Device = Annotated[
    str,
    typer.Option(help="auto, cpu, gpu or npu (Intel), cuda, tensorrt, directml, coreml. A missing one is an error."),
]
Model = Annotated[str, typer.Option(help="Name of a bundled model, or a model folder.")]


def _complete_styles(incomplete: str) -> Iterator[str]:
    return (entry.name for entry in gallery.styles() if entry.name.startswith(incomplete))


def image(
    content: Annotated[
        list[str], typer.Argument(help="Photographs: files, or names of bundled samples.", show_default=False)
    ],
    style: Annotated[
        list[str],
        typer.Option(
            help="A picture, or a gallery name (see: restyle styles). Several are mixed; STYLE:WEIGHT weighs them.",
            metavar="STYLE[:WEIGHT]",
            autocompletion=_complete_styles,
            show_default=False,
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="The file to write (its ending chooses the format), or a folder.", show_default=False
        ),
    ],
    strength: Annotated[
        float, typer.Option(min=0.0, max=2.0, help="0 gives the photograph back, 1 is the style, up to 2 exaggerates.")
    ] = 1.0,
    size: Annotated[
        str | None,
        typer.Option(
            help="Resize first: N makes the shorter side N pixels, HxW sets both.", metavar="N|HxW", show_default="keep"
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(min=0, help="Side of the tiles of large pictures; 0 = paint whole.", show_default="automatic"),
    ] = None,
    model: Model = "fast",
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto, f32, mixed or bf16 (faster on recent processors).")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Processor threads.", show_default="all")] = None,
    quality: Annotated[int | None, typer.Option(min=1, max=100, help="Of JPEG, WebP and AVIF files.")] = None,
    limit_megapixels: Annotated[float, typer.Option(help="Refuse to read larger pictures.")] = 200.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Repaint photographs in the style of other pictures."""
    from restyle.stylizer import check_options

    check_options(strength=strength, tile=tile)
    limit = _parse_limit(limit_megapixels)
    wanted = _parse_size(size)
    jobs = _plan(content, output, overwrite=overwrite)
    stylizer, painting = _load(style, limit, model, device, precision, threads)

    def paint(source: Path, target: Path) -> dict[str, Any]:
        started = time.perf_counter()
        picture = restyle.read_image(source, limit_pixels=limit)
        pixels = _resized(picture.pixels, wanted, limit)
        painted = stylizer.apply(pixels, painting, strength, tile=tile)
        notes = restyle.write_image(target, painted, quality=quality, exif=picture.exif, overwrite=overwrite)
        height, width = painted.shape[:2]
        seconds = round(time.perf_counter() - started, 3)
        return {
            "content": str(source), "output": str(target), "height": height, "width": width, "seconds": seconds,
            "notes": picture.notes + notes,
        }  # fmt: skip

    done, failed = [], []
    for source, target in _with_progress(jobs, quiet=quiet or as_json):
        try:
            row = paint(source, target)
        except (RestyleError, ValueError, OSError, MemoryError) as error:  # the other pictures are still wanted
            failed.append(exit_code(error))
            row = {"content": str(source), **error_document(error)}
            typer.echo(f"restyle: {describe(error)}", err=True)
        else:
            if not (quiet or as_json):
                size_and_time = f"{row['width']} x {row['height']}  {row['seconds']:.2f} s"
                typer.echo("\n  ".join([f"{target}  {size_and_time}", *row["notes"]]))
        done.append(row)
    if as_json:
        print_json(
            {
                "model": stylizer.card.identity, "device": stylizer.device, "engine": stylizer.engine,
                "precision": stylizer.precision, "style": style, "strength": strength, "pictures": done,
            }
        )  # fmt: skip
    if failed:
        raise typer.Exit(failed[0])


def models(as_json: Json = False) -> None:
    """List the bundled models."""
    from restyle.weights import bundled_models, read_model

    cards = {name: read_model(folder) for name, folder in bundled_models().items()}
    if as_json:
        print_json([{"folder": bundled_models()[name], **card.document} for name, card in cards.items()])
        return
    print_table(
        ["name", "version", "licence", "description"],
        [[card.name, card.version, card.licence, card.document.get("description", "")] for card in cards.values()],
    )


def styles(as_json: Json = False) -> None:
    """List the bundled style pictures and sample photographs, with their makers and licences."""
    entries = gallery.entries().values()
    if as_json:
        print_json([vars(entry) for entry in entries])
        return
    print_table(
        ["name", "kind", "work", "licence"],
        [[entry.name, entry.kind, f"{entry.title}, {entry.author}, {entry.year}", entry.licence] for entry in entries],
    )


def info(as_json: Json = False) -> None:
    """Tell what is installed and what works on this machine."""
    from importlib.metadata import PackageNotFoundError, version

    from restyle.runtime import computes_bf16, onnxruntime_devices, openvino_devices
    from restyle.stylizer import cache_folder
    from restyle.weights import bundled_models

    packages = {}
    for name in ("openvino", "onnxruntime", "numpy", "pillow", "torch"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    document = {
        "restyle": restyle.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **packages,
        "devices of openvino": ", ".join(openvino_devices()) or "none",
        "devices of onnxruntime": ", ".join(onnxruntime_devices()) or "none",
        "bf16 on the processor": "yes" if computes_bf16("cpu") else "no",
        "processor threads": os.cpu_count(),
        "models": ", ".join(bundled_models()),
        "cache": str(cache_folder()),
    }
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        typer.echo(f"{name:24}{value}")


def _load(
    styles: list[str], limit: int, model: str, device: str, precision: str, threads: int | None
) -> tuple[Stylizer, Style]:
    """The engine and the mix of the wanted styles."""
    from restyle.stylizer import Style, Stylizer

    named = [_parse_style(text) for text in styles]
    paintings = [restyle.read_image(gallery.find(name), limit_pixels=limit).pixels for name, _ in named]
    stylizer = Stylizer.load(model, device=device, precision=precision, threads=threads)
    encoded = [stylizer.encode_style(painting) for painting in paintings]
    return stylizer, Style.mix(encoded, [weight for _, weight in named])


def _plan(contents: list[str], output: str, *, overwrite: bool) -> list[tuple[Path, Path]]:
    """Pairs of a file to read and a file to write; what cannot be written is refused before anything is painted."""
    from restyle.image import WRITABLE, check_writable

    if not output:
        raise ImageError("the output is an empty word; name a file or a folder")
    folder = Path(output)
    sources = [gallery.find(content, kind="sample") for content in contents]
    if len(sources) > 1 and not os.path.isdir(folder):
        raise ImageError(f"several pictures need a folder to go to; {output!r} is not a folder that exists")
    if os.path.isdir(folder):
        # What can be read but not written, such as HEIC, becomes JPEG.
        names = [s.name if s.suffix.lower() in WRITABLE else f"{s.stem}.jpg" for s in sources]
        targets = [folder / name for name in names]
    else:
        targets = [folder]
    for target in targets:
        if targets.count(target) > 1:
            raise ImageError(f"two of the pictures would be written to {str(target)!r}")
        check_writable(target, overwrite=overwrite)
    return list(zip(sources, targets, strict=True))


def _parse_style(text: str) -> tuple[str, float]:
    """``wave:0.3`` to (``wave``, 0.3); a colon that no number follows belongs to the name."""
    match = re.fullmatch(r"(.+):(\d+(?:\.\d*)?|\.\d+)", text)
    if match and not os.path.exists(text):
        return match[1], float(match[2])
    return text, 1.0


def _parse_size(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text)
    if not match or "0" in (match[1].lstrip("0") or "0", match[2] and (match[2].lstrip("0") or "0")):
        raise typer.BadParameter(f"{text!r} is neither N nor HxW, such as 512 or 480x640", param_hint="'--size'")
    return (int(match[1]), int(match[2])) if match[2] else int(match[1])


def _parse_limit(megapixels: float) -> int:
    if not 0 < megapixels <= 10_000:
        raise typer.BadParameter(
            f"{megapixels} is not within 0 and 10000 megapixels.", param_hint="'--limit-megapixels'"
        )
    return max(1, round(megapixels * 1e6))


def _resized(pixels: Any, wanted: int | tuple[int, int] | None, limit: int) -> Any:
    from restyle.image import fit_short_side, resize

    if wanted is None:
        return pixels
    height, width = fit_short_side(pixels.shape[:2], wanted) if isinstance(wanted, int) else wanted
    if height * width > limit:
        raise LimitError(f"--size asks for {height} x {width} pixels, which is beyond the limit of {limit:,} pixels")
    return resize(pixels, (height, width))


def _with_progress(jobs: list[tuple[Path, Path]], *, quiet: bool) -> Iterator[tuple[Path, Path]]:
    """The jobs, under a progress bar where several run in front of a person."""
    if quiet or len(jobs) < 2 or not sys.stderr.isatty():
        yield from jobs
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(jobs, description="painting", console=Console(stderr=True))
