"""Commands of those who paint pictures: image, models, styles, info."""

from __future__ import annotations

import os
import platform
from typing import Annotated

import typer

import restyle
from restyle import gallery
from restyle.cli.options import (
    ENGINE,
    FOLDERS,
    LOOK,
    SEVERAL,
    Device,
    Json,
    KeepColors,
    LimitMegapixels,
    Model,
    Overwrite,
    Precision,
    Quiet,
    Seed,
    Size,
    Strength,
    StyleCrop,
    Styles,
    StyleSize,
    Threads,
    Tile,
    WorkSize,
    parse_limit,
    parse_size,
)
from restyle.cli.report import print_json, print_table

GRID_SIZE = 256
"""Short side in pixels of the pictures in a square of styles, unless the user says otherwise."""

MOST_FRAMES = 100_000
"""Of a morph: an hour of film is 90 000, and all of them are planned before the first is painted."""


def image(
    content: Annotated[
        list[str],
        typer.Argument(
            help="Photographs: files, folders, names of bundled samples, or - for standard input.", show_default=False
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o",
            help="The file to write (its ending chooses the format), a folder, or - for standard output.",
            show_default=False,
        ),
    ],
    style: Styles = None,
    strength: Strength = 1.0,
    each_style: Annotated[
        bool, typer.Option("--each-style", help="Paint every picture in every style.", rich_help_panel=SEVERAL)
    ] = False,
    pairs: Annotated[
        bool,
        typer.Option("--pairs", help="Paint the first picture in the first style, and so on.", rich_help_panel=SEVERAL),
    ] = False,
    grid: Annotated[
        bool, typer.Option("--grid", help="Draw the square between four styles.", rich_help_panel=SEVERAL)
    ] = False,
    morph: Annotated[
        int | None,
        typer.Option(
            min=2, max=MOST_FRAMES, help="Write so many frames from the first style to the last.", metavar="FRAMES",
            rich_help_panel=SEVERAL,
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            help="Grey picture: paint where it is white; not:FILE for where it is black. Or a folder of them, called "
            "like the photographs.",
            metavar="[not:]FILE|FOLDER", rich_help_panel=LOOK,
        ),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            help="Styles for a part of the picture; the style keep keeps the photograph. May be repeated.",
            metavar="MASK=STYLE[:WEIGHT][,STYLE...][@STRENGTH]", rich_help_panel=LOOK, show_default=False,
        ),
    ] = None,
    feather: Annotated[
        float, typer.Option(min=0, help="Soften the edges of masks, in pixels.", rich_help_panel=LOOK)
    ] = 0.0,
    keep_colors: KeepColors = None,
    style_size: StyleSize = 512,
    style_crop: StyleCrop = None,
    seed: Seed = 0,
    work_size: WorkSize = None,
    size: Size = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="How outputs are called in a folder, with {content}, {style} and {frame}.", metavar="PATTERN",
            show_default="{content}, or {content}_{style}", rich_help_panel=FOLDERS,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Of outputs in a folder or on standard output: jpg, png, ...", show_default="the photograph's, or png",
            rich_help_panel=FOLDERS,
        ),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Of JPEG, WebP and AVIF files.", rich_help_panel=FOLDERS)
    ] = None,
    overwrite: Overwrite = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing", help="Paint only what is not there yet: goes on with a job that was stopped.",
            rich_help_panel=FOLDERS,
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Wait for new pictures in a folder, until Ctrl-C.", rich_help_panel=FOLDERS),
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Let Ray's workers paint: local, auto (the cluster that this machine is in), or an address.",
            metavar="local|auto|ADDRESS", rich_help_panel=ENGINE,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Of a cluster.", show_default="all", rich_help_panel=ENGINE)
    ] = None,
    model: Model = "fast",
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    tile: Tile = None,
    limit_megapixels: LimitMegapixels = 200.0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Repaint photographs in the style of other pictures."""
    from restyle.cli import painting, plan
    from restyle.controls.masks import check_feather
    from restyle.stylizer import check_options

    check_options(
        strength=strength, keep_colors=keep_colors, work_size=work_size, tile=tile,
        style_size=style_size, style_crop=style_crop,
    )  # fmt: skip
    ways = {"each": each_style, "pairs": pairs, "grid": grid, "morph": morph is not None}
    _refuse_together({"--each-style": each_style, "--pairs": pairs, "--grid": grid, "--morph": morph is not None})
    _refuse_together({"--overwrite": overwrite, "--skip-existing": skip_existing})
    _refuse_together({"--json": as_json, "-o -": output == "-"})
    for other, on in {"--pairs": pairs, "-o -": output == "-", "--cluster": cluster is not None}.items():
        _refuse_together({"--watch": watch, other: on})
    _refuse_together({"-o -": output == "-", "--cluster": cluster is not None})
    if feather and mask is None and not region:
        raise ValueError("--feather needs --mask or --region")
    if workers and cluster is None:
        raise ValueError("--workers needs --cluster")
    check_feather(feather)
    limit = parse_limit(limit_megapixels)
    how = painting.How(
        strength=strength,
        mask=plan.find_mask(mask, feather) if mask is not None else None,
        regions=[plan.parse_region(text, feather) for text in region or []],
        reading={"size": style_size, "crop": style_crop, "seed": seed},
        limit_pixels=limit,
        engine={"model": model, "device": device, "precision": precision, "threads": threads},
        options={
            "size": parse_size(size) or (GRID_SIZE if grid else None), "quality": quality, "overwrite": overwrite,
            "keep_colors": keep_colors, "work_size": work_size, "tile": tile, "limit_pixels": limit,
        },
        cluster=cluster,
        workers=workers,
    )  # fmt: skip
    way, looks = plan.find_looks(style or [], next((one for one, on in ways.items() if on), None), morph or 0)
    if not looks and not any(one.paintings for one in how.regions):
        raise typer.BadParameter("give at least one style.", param_hint="'--style'")
    if watch and not overwrite:
        skip_existing = True
    outputs = plan.Outputs(
        output, way, name=name, format=format, overwrite=overwrite, skip_existing=skip_existing
    )  # fmt: skip
    report = painting.Report(as_json=as_json, quiet=quiet, to_stdout=output == "-", by_line=watch)
    work = painting.watch if watch else painting.paint_all
    work(content, looks, way, outputs, how, report)
    report.finish(style=style, strength=strength)
    if code := report.exit_code():
        raise typer.Exit(code)


def _refuse_together(options: dict[str, bool]) -> None:
    """Refuse options that contradict each other."""
    given = [name for name, on in options.items() if on]
    if len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} cannot go together")


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
