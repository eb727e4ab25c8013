"""What came of each picture, told while it happens and at the end: lines for people, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from restyle import batch
from restyle.cli.outputs import Planned
from restyle.cli.report import describe, error_document, exit_code, print_json
from restyle.stylizer import Stylizer


class Report:
    """Tells what came of each picture: lines for people, or JSON for programs."""

    def __init__(self, *, as_json: bool, quiet: bool, to_stdout: bool, by_line: bool, dry: bool = False) -> None:
        self.as_json, self.quiet, self.to_stdout, self.by_line, self.dry = as_json, quiet, to_stdout, by_line, dry
        self.stylizer: Stylizer | None = None
        self.skipped = self.not_tried = 0
        self._out = sys.stdout
        self._rows: list[tuple[int, dict[str, Any]]] = []
        self._failures: list[tuple[int, str, Exception]] = []
        self._told = 0
        self._started = time.perf_counter()

    def planned(self, number: int, one: Planned, size: tuple[int, int], needed_bytes: int) -> None:
        """Tell of a picture that would be painted, and of the memory that it would take."""
        height, width = size
        row = {**about(one), "output": str(one.output), "height": height, "width": width}
        self._keep(number, {**row, "memory_bytes": needed_bytes})
        if not (self.as_json or self.quiet):
            self._say(f"{_shown(one)}  {width} x {height}  {needed_bytes / 1e9:.1f} GB")

    def painted(self, number: int, one: Planned, result: batch.Result) -> None:
        """Tell of a picture; ``number`` is its place in the order of what was asked for."""
        (height, width), seconds, notes = result.size, round(result.seconds, 3), list(result.notes)
        row = {**about(one), "output": str(one.output), "height": height, "width": width}
        self._keep(number, {**row, "seconds": seconds, "notes": notes})
        if not (self.as_json or self.quiet):
            line = f"{_shown(one)}  {width} x {height}  {seconds:.2f} s"
            self._say("\n  ".join([line, *notes]))

    def _say(self, line: str) -> None:
        typer.echo(line, file=sys.stderr if self.to_stdout else self._out)

    def failed(self, number: int, about: dict[str, str], error: Exception) -> None:
        """Keep a failure until the end; ``about`` says of which content or style."""
        self._failures.append((number, next(iter(about.values())), error))
        self._keep(number, {**about, **error_document(error)})

    def _keep(self, number: int, row: dict[str, Any]) -> None:
        if not self.by_line:
            self._rows.append((number, row))
        elif self.as_json:
            typer.echo(json.dumps(row))

    def rows(self) -> list[dict[str, Any]]:
        """What came of each picture, in the order of what was asked for."""
        return [row for _, row in sorted(self._rows, key=lambda row: row[0])]

    def tell_failures(self) -> None:
        """Print each failure that was not told yet, with its reason; the same one only once."""
        told = []
        for _, name, error in sorted(self._failures[self._told :], key=lambda failure: failure[0]):
            reason = describe(error)
            # Most errors name the file that they are about.
            told.append(reason if name in reason or repr(name) in reason else f"{name!r}: {reason}")
        for line in dict.fromkeys(told):
            typer.echo(f"restyle: {line}", err=True)
        self._told = len(self._failures)

    def finish(self, **document: Any) -> None:
        """Print the document, or how many pictures and how fast where there was more than one."""
        if self.by_line:
            return
        if self.as_json:
            engine = {}
            if self.stylizer:
                names = ("device", "engine", "precision")
                engine = {"model": self.stylizer.card.identity} | {key: getattr(self.stylizer, key) for key in names}
            counts = {"skipped": self.skipped, "not_tried": self.not_tried}
            print_json({**engine, **document, **counts, "pictures": self.rows()})
        elif not self.quiet and len(self._rows) + self.skipped + self.not_tried > 1:
            seconds, failed = time.perf_counter() - self._started, len(self._failures)
            painted = len(self._rows) - failed
            counts = {"to paint" if self.dry else "painted": painted, "failed": failed, "skipped": self.skipped}
            counts["not tried"] = self.not_tried
            told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            rate = f"  {seconds:.1f} s, {painted / seconds:.2f} pictures a second" if painted else ""
            self._say(told if self.dry else told + rate)

    def exit_code(self) -> int:
        """That of the first failure; 0 if there is none."""
        return exit_code(min(self._failures, key=lambda failure: failure[0])[2]) if self._failures else 0


def about(one: Planned) -> dict[str, str]:
    """Which picture is meant, for ``Report``."""
    return {"content": one.content.name, "style": one.look.name}


def _shown(one: Planned) -> str:
    """The output's name; one that could move the terminal's cursor or worse is shown with its signs spelt out."""
    name = str(one.output)
    return name if name.isprintable() else repr(name)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[], None]]:
    """A bar with rate and remaining time on standard error; gives what to call after each picture."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn

    class Rate(ProgressColumn):
        def render(self, task: Task) -> str:
            return f"{task.speed:.2f} pictures a second" if task.speed else ""

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    # Lines on the same terminal go above the bar; those for a file or a pipe must stay there.
    console, to_terminal = Console(stderr=True), sys.stdout is not None and sys.stdout.isatty()
    with Progress(*columns, console=console, redirect_stdout=to_terminal, speed_estimate_period=120) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
