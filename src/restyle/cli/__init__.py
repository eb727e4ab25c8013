"""The command line: one function per command, and the table from errors to exit codes.

A command imports its room only when it runs, so that ``restyle --help`` needs no engine and stylizing needs no torch.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from typing import Annotated

import typer

import restyle
from restyle.cli import camera, evaluate, export, image, listing, optimize, serve, train, video
from restyle.cli.report import FAULT, describe, error_document, exit_code, print_json

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Repaint any picture in the style of any other picture.",
    epilog="Exit codes: 0 done, 1 a fault of restyle, 2 wrong usage, 3 a picture or video cannot be read or written, "
    "4 a model or style file cannot be used, 5 the device is not there, 6 a picture is too large, "
    "7 an extra is not installed, 8 an export's compiler cannot be had or refuses the model, 130 interrupted.",
)
app.command("image")(image.image)
app.command("video")(video.video)
app.command("camera")(camera.camera)
app.command("serve")(serve.serve)
app.command("models")(listing.models)
app.command("styles")(listing.styles)
app.command("info")(listing.info)
app.command("optimize")(optimize.optimize)
app.command("train")(train.train)
app.command("reconstruct")(train.reconstruct)
app.command("export")(export.export)
app.command("evaluate")(evaluate.evaluate)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"restyle {restyle.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Entry point of the ``restyle`` command: every foreseen error becomes one sentence and an exit code."""
    # Pillow warns of damaged metadata in words for programmers; what matters to a user comes as a note or an error.
    warnings.filterwarnings("ignore", module="PIL")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name that the terminal cannot show is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        code = exit_code(error)
        if "--json" in sys.argv:
            with contextlib.suppress(OSError):  # standard output itself may be what failed
                print_json(error_document(error))
        if code == FAULT:
            raise
        if str(error):  # without a command, the help has been printed and there is nothing to add
            typer.echo(f"restyle: {describe(error)}", err=True)
    sys.exit(code)


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: libraries that were just being loaded say that they failed."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or _was_interrupted(error.__cause__))
