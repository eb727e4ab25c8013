"""``restyle image``: its options, and what contradicts what."""

from __future__ import annotations

from typing import Annotated

import typer

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
    unusual_options,
)

GRID_SIZE = 256
"""Short side in pixels of the pictures in a square of styles, unless the user says otherwise."""

MOST_FRAMES = 100_000
"""Of a morph: an hour of film is 90 000, and all of them are planned before the first is painted."""


HISTORY = (
    "strength", "grid", "feather", "keep_colors", "style_size", "style_crop", "seed", "work_size", "size", "quality",
    "model", "precision", "tile",
)  # fmt: skip
"""Options that the outputs' metadata tell of where they are not as usual, beside styles and masks."""


def image(
    context: typer.Context,
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
            help="Grey picture: paint where it is white. Or a folder of them, called like the photographs; or person, "
            "which finds people (extra people). With not: before it, the other way round.",
            metavar="[not:]FILE|FOLDER|person", rich_help_panel=LOOK,
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
    no_metadata: Annotated[
        bool,
        typer.Option(
            "--no-metadata", rich_help_panel=FOLDERS,
            help="Write pixels only: neither the photograph's EXIF data nor how the picture was made.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing", help="Paint only what is not there yet: goes on with a job that was stopped.",
            rich_help_panel=FOLDERS,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Tell what would be painted, and the memory that it takes; paint nothing.",
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
    from restyle.cli.outputs import Outputs
    from restyle.cli.results import Report
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
    for other, on in {
        "--pairs": pairs,
        "-o -": output == "-",
        "--cluster": cluster is not None,
        "--dry-run": dry_run,
    }.items():
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
        mask_of=plan.find_masks(mask, feather, output) if mask is not None else None,
        regions=[plan.parse_region(text, feather, output) for text in region or []],
        reading={"size": style_size, "crop": style_crop, "seed": seed},
        limit_pixels=limit,
        engine={"model": model, "device": device, "precision": precision, "threads": threads},
        options={
            "size": parse_size(size) or (GRID_SIZE if grid else None), "quality": quality, "overwrite": overwrite,
            "keep_colors": keep_colors, "work_size": work_size, "tile": tile, "limit_pixels": limit,
            "metadata": not no_metadata,
        },
        words=unusual_options(context, HISTORY),
        cluster=cluster,
        workers=workers,
    )  # fmt: skip
    wanted = next((one for one, on in ways.items() if on), None)
    way, looks = plan.find_looks(style or [], wanted, morph or 0, output)
    if not looks and not any(one.look for one in how.regions):
        raise typer.BadParameter("give at least one style.", param_hint="'--style'")
    if watch and not overwrite:
        skip_existing = True
    outputs = Outputs(output, way, name=name, format=format, overwrite=overwrite, skip_existing=skip_existing)
    report = Report(as_json=as_json, quiet=quiet, to_stdout=output == "-", by_line=watch, dry=dry_run)
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
