"""Painting what was planned, and telling of it: while it happens, and at the end."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from restyle import batch
from restyle.cli.plan import (
    Look,
    MaskWord,
    Outputs,
    Planned,
    RegionWord,
    as_content,
    find_contents,
    find_watched,
    pair,
)
from restyle.cli.report import describe, error_document, exit_code, print_json
from restyle.errors import RestyleError
from restyle.image import read_image
from restyle.style import Style
from restyle.stylizer import Stylizer

MANIFEST = "manifest.parquet"
"""What a cluster leaves in the output folder beside the pictures."""


@dataclass(frozen=True)
class How:
    """What is the same for all pictures.

    Attributes:
        strength: Of the styles outside of regions.
        mask: Where to paint; None = everywhere.
        regions: Parts with styles of their own.
        reading: How paintings are read, as for ``Stylizer.encode_style``.
        limit_pixels: Larger pictures are refused.
        engine: As for ``Stylizer.load``.
        options: As for ``batch.run``.
        cluster: Address of a Ray cluster; None = this process.
        workers: Of the cluster.
    """

    strength: float
    mask: MaskWord | None
    regions: Sequence[RegionWord]
    reading: Mapping[str, Any]
    limit_pixels: int
    engine: Mapping[str, Any]
    options: Mapping[str, Any]
    cluster: str | None = None
    workers: int | None = None


def paint_all(
    words: Sequence[str], looks: Sequence[Look], way: str, outputs: Outputs, how: How, report: Report
) -> None:
    """Paint all that is there and end."""
    contents, problems = find_contents(words, outputs.output)
    pictures = pair(contents, looks, way)
    planned = outputs.place(pictures, many=any(map(os.path.isdir, words)))
    for problem in problems:
        report.failed(-1, {"content": str(getattr(problem.__cause__, "filename", ""))}, problem)
    report.skipped = len(pictures) - len(planned)
    try:
        if planned:
            Painter(how, [one.look for one in planned], way, report).paint(planned, outputs)
    except KeyboardInterrupt:
        if len(planned) > 1:
            typer.echo("restyle: interrupted; the same command with --skip-existing goes on", err=True)
        raise
    finally:
        report.tell_failures()
    if how.cluster and os.path.isdir(outputs.output):
        from restyle.batch.cluster import write_manifest

        rows = [{**row, "strength": how.strength} for row in report.rows()]
        write_manifest(rows, Path(outputs.output) / MANIFEST)


def watch(words: Sequence[str], looks: Sequence[Look], way: str, outputs: Outputs, how: How, report: Report) -> None:
    """Paint what is in a folder and what comes into it, until Ctrl-C."""
    root = find_watched(words, outputs.output)
    outputs.place([], many=True)
    painter = Painter(how, looks, way, report)
    if not report.quiet:
        typer.echo(f"watching {str(root)!r}; Ctrl-C ends", err=True)
    for paths in batch.watch_folder(root, leave_out=[Path(outputs.output)]):
        for path in paths:
            pictures = pair([as_content(path, root)], looks, way)
            try:
                painter.paint(outputs.place(pictures, many=True), outputs)
            except RestyleError as error:
                report.failed(0, {"content": str(path)}, error)
        report.tell_failures()


class Painter:
    """A loaded model with its styles."""

    def __init__(self, how: How, looks: Sequence[Look], way: str, report: Report) -> None:
        """Load the model and encode the paintings.

        Of styles that are painted one by one, those that cannot be read are reported and left out.
        """
        self._how, self._report = how, report
        self._stylizer = report.stylizer = Stylizer.load(**how.engine)
        self._styles: dict[Path, Style] = {}
        broken: dict[Path, RestyleError] = {}
        in_regions = [path for region in how.regions for path in region.paintings]
        for path in dict.fromkeys([*in_regions, *(path for look in looks for path in look.paintings)]):
            try:
                pixels = read_image(path, limit_pixels=how.limit_pixels).pixels
                self._styles[path] = self._stylizer.encode_style(pixels, **how.reading)
            except RestyleError as error:
                broken[path] = error
        for path, reason in broken.items():
            if way not in ("each", "pairs") or path in in_regions or len(broken) == len(set(looks)):
                raise reason
            report.failed(-1, {"style": str(path)}, reason)

    def paint(self, planned: Sequence[Planned], outputs: Outputs) -> None:
        """Paint pictures and report each.

        Raises:
            ImageError: the disk is full, so that going on is useless.
        """
        report = self._report
        jobs: dict[int, tuple[int, Planned, batch.Job]] = {}
        for number, one in enumerate(planned):
            if all(path in self._styles for path in one.look.paintings):
                try:
                    job = self._job(one, outputs)
                    jobs[id(job)] = (number, one, job)
                except RestyleError as error:
                    report.failed(number, _about(one), error)
        shown = len(jobs) > 1 and not report.quiet and not report.as_json and sys.stderr.isatty()
        work = self._work([job for _, _, job in jobs.values()])
        with (
            # Ray tells of dying workers on standard output, which is ours.
            redirect_stdout(sys.stderr) if self._how.cluster else nullcontext(),
            _progress(len(jobs)) if shown else nullcontext(lambda: None) as advance,
            closing(work) as results,
        ):
            for result in results:
                number, one, _ = jobs[id(result.job)]
                if result.error is None:
                    report.painted(number, one, result)
                elif _disk_is_full(result.error):
                    raise result.error
                else:
                    report.failed(number, _about(one), result.error)
                advance()

    def _work(self, jobs: list[batch.Job]) -> Generator[batch.Result, None, None]:
        how = self._how
        if how.cluster is None:
            return batch.run(jobs, self._stylizer, **how.options)
        from restyle.batch.cluster import run_on_cluster

        return run_on_cluster(jobs, how.engine, address=how.cluster, workers=how.workers, **how.options)

    def _job(self, one: Planned, outputs: Outputs) -> batch.Job:
        how = self._how
        regions = tuple(
            batch.RegionFile(region.mask.find(one.content), self._mix(region), region.strength)
            for region in how.regions
        )
        mask = how.mask.find(one.content) if how.mask else None
        target = sys.stdout.buffer if outputs.to_stdout else one.output
        style: Any = tuple(map(self._styles.get, one.look.paintings)) if one.look.square else self._mix(one.look)
        strength = how.strength
        if style is None:  # only regions are painted
            style, strength = next(iter(self._styles.values())), 0.0
        return batch.Job(one.content.source, target, style, strength, mask, regions, outputs.format)

    def _mix(self, parts: Look | RegionWord) -> Style | None:
        styles = [self._styles[path] for path in parts.paintings]
        return Style.mix(styles, parts.weights) if styles else None


def _about(one: Planned) -> dict[str, str]:
    return {"content": one.content.name, "style": one.look.name}


class Report:
    """Tells what came of each picture: lines for people, or JSON for programs."""

    def __init__(self, *, as_json: bool, quiet: bool, to_stdout: bool, by_line: bool) -> None:
        self.as_json, self.quiet, self.to_stdout, self.by_line = as_json, quiet, to_stdout, by_line
        self.stylizer: Stylizer | None = None
        self.skipped = 0
        self._out = sys.stdout
        self._rows: list[tuple[int, dict[str, Any]]] = []
        self._failures: list[tuple[int, str, Exception]] = []
        self._told = 0
        self._started = time.perf_counter()

    def painted(self, number: int, one: Planned, result: batch.Result) -> None:
        """Tell of a picture; ``number`` is its place in the order of what was asked for."""
        (height, width), seconds, notes = result.size, round(result.seconds, 3), list(result.notes)
        row = {**_about(one), "output": str(one.output), "height": height, "width": width}
        self._keep(number, {**row, "seconds": seconds, "notes": notes})
        if not (self.as_json or self.quiet):
            line = f"{one.output}  {width} x {height}  {seconds:.2f} s"
            typer.echo("\n  ".join([line, *notes]), file=sys.stderr if self.to_stdout else self._out)

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
        if self.as_json:
            engine = {}
            if self.stylizer:
                names = ("device", "engine", "precision")
                engine = {"model": self.stylizer.card.identity} | {key: getattr(self.stylizer, key) for key in names}
            print_json({**engine, **document, "skipped": self.skipped, "pictures": self.rows()})
        elif not self.quiet and len(self._rows) + self.skipped > 1:
            seconds, failed = time.perf_counter() - self._started, len(self._failures)
            painted = len(self._rows) - failed
            counts = {"painted": painted, "failed": failed, "skipped": self.skipped}
            told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            rate = f"  {seconds:.1f} s, {painted / seconds:.2f} pictures a second" if painted else ""
            typer.echo(told + rate)

    def exit_code(self) -> int:
        """That of the first failure; 0 if there is none."""
        return exit_code(min(self._failures, key=lambda failure: failure[0])[2]) if self._failures else 0


def _disk_is_full(error: Exception) -> bool:
    reason = error.__cause__ or error
    return isinstance(reason, OSError) and reason.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar with rate and remaining time on standard error; gives what to call after each picture."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn

    class Rate(ProgressColumn):
        def render(self, task: Task) -> str:
            return f"{task.speed:.2f} pictures a second" if task.speed else ""

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    # Lines on the same terminal go above the bar; those for a file or a pipe must stay there.
    console, to_terminal = Console(stderr=True), sys.stdout.isatty()
    with Progress(*columns, console=console, redirect_stdout=to_terminal, speed_estimate_period=120) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
