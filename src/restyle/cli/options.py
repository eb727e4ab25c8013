"""Options that several commands share, and how the words given to them are read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from restyle import gallery
from restyle.errors import ImageError

LOOK, SEVERAL, FOLDERS, ENGINE = "Look", "Several styles", "Files and folders", "Model and machine"
"""Headings of the help page."""


def complete_styles(incomplete: str) -> Iterator[str]:
    """Gallery names for the shell's completion."""
    return (entry.name for entry in gallery.styles() if entry.name.startswith(incomplete))


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Styles = Annotated[
    list[str] | None,
    typer.Option(
        help="A picture, a gallery name (see: restyle styles), or a folder of pictures. Several are mixed, "
        "STYLE:WEIGHT weighs them; of a folder each is used.",
        metavar="STYLE[:WEIGHT]",
        autocompletion=complete_styles,
        show_default=False,
    ),
]
Strength = Annotated[
    float, typer.Option(min=0.0, max=2.0, help="0 gives the photograph back, 1 is the style, up to 2 exaggerates.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.", rich_help_panel=FOLDERS)]

KeepColors = Annotated[
    str | None,
    typer.Option(
        help="Keep the photograph's colours: luminance (point by point), histogram or covariance (as a whole); "
        "an amount of 0 to 1 keeps them in part.",
        metavar="WAY[:AMOUNT]",
        rich_help_panel=LOOK,
    ),
]
StyleSize = Annotated[
    int,
    typer.Option(help="Short side in pixels at which styles are read: strokes grow with it.", rich_help_panel=LOOK),
]
StyleCrop = Annotated[
    str | None,
    typer.Option(
        help="Read a square of each style only: center or random.", metavar="center|random", rich_help_panel=LOOK
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Chooses the random square.", rich_help_panel=LOOK)]
Size = Annotated[
    str | None,
    typer.Option(
        help="Resize first: N makes the shorter side N pixels, HxW sets both.",
        metavar="N|HxW",
        show_default="keep",
        rich_help_panel=LOOK,
    ),
]
WorkSize = Annotated[
    int | None,
    typer.Option(
        help="Short side in pixels at which to paint, for larger strokes; the detail comes back at full size.",
        show_default="the picture's own",
        rich_help_panel=LOOK,
    ),
]

Model = Annotated[str, typer.Option(help="Name of a bundled model, or a model folder.", rich_help_panel=ENGINE)]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, gpu or npu (Intel), cuda, tensorrt, directml, coreml. A missing one is an error.",
        rich_help_panel=ENGINE,
    ),
]
Precision = Annotated[
    str, typer.Option(help="auto, fastest, f32, mixed or bf16 (faster on recent processors).", rich_help_panel=ENGINE)
]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Processor threads.", show_default="all", rich_help_panel=ENGINE)
]
Tile = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Side of the tiles of large pictures; 0 = paint whole.",
        show_default="automatic",
        rich_help_panel=ENGINE,
    ),
]
LimitMegapixels = Annotated[float, typer.Option(help="Refuse to read larger pictures.", rich_help_panel=ENGINE)]


def parse_style(text: str) -> tuple[str, float]:
    """``wave:0.3`` to (``wave``, 0.3); a colon that no number follows belongs to the name."""
    match = re.fullmatch(r"(.+):(\d+(?:\.\d*)?|\.\d+)", text)
    if match and not os.path.exists(text):
        return match[1], float(match[2])
    if (number := re.fullmatch(r"(.+):([-+]?(?:[\d.]+(?:e[-+]?\d+)?|inf|nan))", text)) and not os.path.exists(text):
        raise ValueError(f"the weight of a style must be a plain number, such as {number[1]}:0.5, got {number[2]!r}")
    return text, 1.0


def refuse_address(text: str) -> None:
    """Refuse a web or cloud address, which would be taken for a strange path.

    Raises:
        ImageError: saying what to do instead.
    """
    if re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE):
        raise ImageError(
            f"{text!r} is an address; restyle reads and writes files of this machine only, so fetch it first"
        )


def parse_mask(text: str) -> tuple[Path, bool]:
    """``not:sky.png`` to its path and True, ``sky.png`` to its path and False; a file of that very name wins.

    Raises:
        ValueError: the path is an empty word, as from a shell's variable that is not set.
    """
    inverse = text.startswith("not:") and not os.path.exists(text)
    path = text.removeprefix("not:") if inverse else text
    if not path:  # which Path would take for the folder that we are in
        raise ValueError(f"the mask is an empty word, got {text!r}")
    return Path(path), inverse


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """``512`` to 512, ``480x640`` to (480, 640)."""
    if text is None:
        return None
    from restyle.image.sizes import parse_size as parse

    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint="'--size'") from error


def parse_limit(megapixels: float) -> int:
    """Megapixels to pixels."""
    if not 0 < megapixels <= 10_000:
        raise typer.BadParameter(
            f"{megapixels} is not within 0 and 10000 megapixels.", param_hint="'--limit-megapixels'"
        )
    return max(1, round(megapixels * 1e6))


def unusual_options(context: typer.Context, names: Sequence[str]) -> list[str]:
    """The options of these names that are not at their defaults, as words of a command; paths without their folders."""
    words = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name in names and value != parameter.default:
            words.append(parameter.opts[0])
            if not isinstance(value, bool):
                words.append(Path(str(value)).name)
    return words
