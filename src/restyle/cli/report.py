"""How the command line speaks: exit codes, one-sentence errors, JSON."""

from __future__ import annotations

import json
from typing import Any

import typer

from restyle.errors import (
    DeviceError,
    ExportError,
    ImageError,
    LimitError,
    MissingExtraError,
    ModelFileError,
    UnknownNameError,
    VideoError,
)

FAULT = 1
"""Exit code of what nobody foresaw: a fault of restyle."""

EXIT_CODES: dict[type[Exception], int] = {
    UnknownNameError: 2,
    ValueError: 2,
    ImageError: 3,
    VideoError: 3,
    ModelFileError: 4,
    DeviceError: 5,
    LimitError: 6,
    MissingExtraError: 7,
    ExportError: 8,
    OSError: 3,
    MemoryError: 6,
}
"""The first class that an error belongs to decides."""


def exit_code(error: Exception) -> int:
    """The exit code for an error."""
    if _is_usage_error(error):
        return 2
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), FAULT)


def describe(error: Exception) -> str:
    """The error as one line."""
    if _is_usage_error(error):
        context = getattr(error, "ctx", None)
        sentence = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        return f"{sentence.rstrip('.')}. See {context.command_path} --help" if context else sentence
    return " ".join(str(error).split()) or type(error).__name__


def _is_usage_error(error: Exception) -> bool:
    # Typer's and click's own errors have no common base that is public in all their versions.
    return hasattr(error, "format_message")


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(document, indent=2, default=str))


def error_document(error: Exception) -> dict[str, Any]:
    """What ``--json`` says of an error."""
    return {"error": {"kind": type(error).__name__, "message": describe(error), "exit_code": exit_code(error)}}


def print_table(heads: list[str], rows: list[list[str]]) -> None:
    """Columns of text, as wide as they need to be."""
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
