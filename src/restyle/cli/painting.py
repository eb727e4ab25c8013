"""Painting what was planned."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

import restyle
from restyle import batch
from restyle.cli.outputs import Outputs, Planned
from restyle.cli.plan import Content, Look, MaskOf, PlannedRegion, as_content, find_contents, find_watched, pair
from restyle.cli.results import Report, about, progress_bar
from restyle.controls.masks import MaskFile, PersonMask, Region
from restyle.errors import ImageError, RestyleError, disk_is_full
from restyle.image import check_size, read_image, read_size
from restyle.image.sizes import wanted_size
from restyle.painter import check_memory
from restyle.style import Style
from restyle.stylizer import Stylizer

MANIFEST = "manifest.parquet"
"""What a cluster leaves in the output folder beside the pictures."""


@dataclass(frozen=True)
class How:
    """What is the same for all pictures.

    Attributes:
        strength: Of the styles outside of regions.
        mask_of: Where to paint; None = everywhere.
        regions: Parts with styles of their own.
        reading: How paintings are read, as for ``Stylizer.encode_style``.
        limit_pixels: Larger pictures are refused.
        engine: As for ``Stylizer.load``.
        options: As for ``batch.run``.
        words: The options that are not as usual, for the outputs' metadata.
        cluster: Address of a Ray cluster; None = this process.
        workers: Of the cluster.
    """

    strength: float
    mask_of: MaskOf | None
    regions: Sequence[PlannedRegion]
    reading: Mapping[str, Any]
    limit_pixels: int
    engine: Mapping[str, Any]
    options: Mapping[str, Any]
    words: Sequence[str] = field(default=())
    cluster: str | None = None
    workers: int | None = None

    def read_beside(self, pictures: Sequence[tuple[Content, Look]]) -> dict[Path, str]:
        """The files that are read beside the photographs, and what they are."""
        looks = [*(look for _, look in pictures), *(region.look for region in self.regions if region.look)]
        files = {path: "styles" for look in looks for path in look.paintings}
        for mask_of in filter(None, (self.mask_of, *(region.mask_of for region in self.regions))):
            for content, _ in pictures:
                with suppress(ImageError):  # told when its turn comes
                    mask = mask_of(content)
                    if isinstance(mask, MaskFile):
                        files[Path(mask.path)] = "masks"
        return files


def paint_all(
    words: Sequence[str], looks: Sequence[Look], way: str, outputs: Outputs, how: How, report: Report
) -> None:
    """Paint all that is there and end."""
    contents, problems = find_contents(words, outputs.output, repeated=way == "pairs")
    pictures = pair(contents, looks, way)
    planned = outputs.place(pictures, many=any(map(os.path.isdir, words)), beside=how.read_beside(pictures))
    for problem in problems:
        report.failed(-1, {"content": str(getattr(problem.__cause__, "filename", ""))}, problem)
    report.skipped = len(pictures) - len(planned)
    if report.dry:
        _foretell(planned, outputs, how, report)
        return
    try:
        if planned:
            Session(how, [one.look for one in planned], way, report).paint(planned, outputs)
    except KeyboardInterrupt:
        if len(planned) > 1 and not outputs.overwrite:
            typer.echo("restyle: interrupted; the same command with --skip-existing goes on", err=True)
        raise
    finally:
        report.tell_failures()
    if how.cluster and os.path.isdir(outputs.output):
        from restyle.batch.cluster import write_manifest

        rows = [{**row, "strength": how.strength} for row in report.rows()]
        write_manifest(rows, Path(outputs.output) / MANIFEST)


def _foretell(planned: Sequence[Planned], outputs: Outputs, how: How, report: Report) -> None:
    """Tell what would be painted, and what would fail, from the files' headers."""
    limit, tile, work_size = how.limit_pixels, how.options["tile"], how.options["work_size"]
    looks = [*(one.look for one in planned), *(region.look for region in how.regions if region.look)]
    for path in dict.fromkeys(path for look in looks for path in look.paintings):
        try:
            read_size(path, limit_pixels=limit)
        except RestyleError as error:
            report.failed(-1, {"style": str(path)}, error)
    for number, one in enumerate(planned):
        try:
            for mask_of in (how.mask_of, *(region.mask_of for region in how.regions)):
                mask = mask_of(one.content) if mask_of else None
                if isinstance(mask, MaskFile):
                    read_size(mask.path, limit_pixels=limit)
            size = wanted_size(read_size(one.content.source, limit_pixels=limit), how.options["size"], limit)
            needed = batch.estimate_memory(size, tile=tile, work_size=work_size)
            check_memory(size, needed)
            size = batch.square_size(size) if one.look.square else size
            check_size(size, one.output.suffix or outputs.format)
            report.planned(number, one, size, needed)
        except RestyleError as error:
            report.failed(number, about(one), error)
    report.tell_failures()


def watch(words: Sequence[str], looks: Sequence[Look], way: str, outputs: Outputs, how: How, report: Report) -> None:
    """Paint what is in a folder and what comes into it, until Ctrl-C or a full disk."""
    root = find_watched(words, outputs.output)
    outputs.place([], many=True)
    outputs.check_folder()
    session = Session(how, looks, way, report)
    if not report.quiet:
        typer.echo(f"watching {str(root)!r}; Ctrl-C ends", err=True)
    for paths in batch.watch_folder(root, leave_out=[Path(outputs.output)]):
        for path in paths:
            pictures = pair([as_content(path, root)], looks, way)
            try:
                planned = outputs.place(pictures, many=True, beside=how.read_beside(pictures))
                if not session.paint(planned, outputs):
                    report.tell_failures()
                    return
            except RestyleError as error:
                report.failed(0, {"content": str(path)}, error)
        report.tell_failures()


class Session:
    """A loaded model with its styles."""

    def __init__(self, how: How, looks: Sequence[Look], way: str, report: Report) -> None:
        """Load the model and encode the paintings.

        Of styles that are painted one by one, those that cannot be read are reported and left out.
        """
        self._how, self._report = how, report
        self._stylizer = report.stylizer = Stylizer.load(**how.engine)
        self._styles: dict[Path, Style] = {}
        broken: dict[Path, RestyleError] = {}
        in_regions = [path for region in how.regions if region.look for path in region.look.paintings]
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

    def paint(self, planned: Sequence[Planned], outputs: Outputs) -> bool:
        """Paint pictures and report each; end with False where the disk is full."""
        report = self._report
        jobs: dict[int, tuple[int, Planned, batch.Job]] = {}
        for number, one in enumerate(planned):
            if all(path in self._styles for path in one.look.paintings):
                try:
                    job = self._job(one, outputs)
                    jobs[id(job)] = (number, one, job)
                except RestyleError as error:
                    report.failed(number, about(one), error)
        shown = len(jobs) > 1 and not report.quiet and not report.as_json and sys.stderr.isatty()
        work = self._work([job for _, _, job in jobs.values()])
        with (
            # Ray tells of dying workers on standard output, which is ours.
            redirect_stdout(sys.stderr) if self._how.cluster else nullcontext(),
            progress_bar(len(jobs)) if shown else nullcontext(lambda: None) as advance,
            closing(work) as results,
        ):
            for done, result in enumerate(results, 1):
                number, one, _ = jobs[id(result.job)]
                if result.error is None:
                    report.painted(number, one, result)
                else:
                    report.failed(number, about(one), result.error)
                advance()
                if result.error and disk_is_full(result.error):
                    report.not_tried = len(jobs) - done  # going on is useless
                    return False
        return True

    def _work(self, jobs: list[batch.Job]) -> Generator[batch.Result, None, None]:
        how = self._how
        if how.cluster is None:
            return batch.run(jobs, self._stylizer, **how.options)
        from restyle.batch.cluster import run_on_cluster

        return run_on_cluster(jobs, how.engine, address=how.cluster, workers=how.workers, **how.options)

    def _job(self, one: Planned, outputs: Outputs) -> batch.Job:
        how = self._how
        mask = how.mask_of(one.content) if how.mask_of else None
        masks = [region.mask_of(one.content) for region in how.regions]
        target = sys.stdout.buffer if outputs.to_stdout else one.output
        style: Any = tuple(map(self._styles.get, one.look.paintings)) if one.look.square else self._mix(one.look)
        strength = how.strength
        if style is None:  # only regions are painted
            style, strength = next(iter(self._styles.values())), 0.0
        return batch.Job(
            one.content.source,
            target,
            style,
            strength,
            mask,
            tuple(
                Region(of, self._mix(region.look), region.strength)
                for region, of in zip(how.regions, masks, strict=True)
            ),
            outputs.format,
            history=self._history(one.look, mask, masks),
        )

    def _mix(self, look: Look | None) -> Style | None:
        styles = [self._styles[path] for path in look.paintings] if look else []
        return Style.mix(styles, look.weights) if look and styles else None

    def _history(self, look: Look, mask: MaskFile | PersonMask | None, masks: Sequence[MaskFile | PersonMask]) -> str:
        """The command that makes one picture, without folders, for its metadata."""
        words = [word for style in look.words() for word in ("--style", style)]
        if mask:
            words += ["--mask", _call(mask)]
        for region, own in zip(self._how.regions, masks, strict=True):
            what = ",".join(region.look.words()) if region.look else "keep"
            words += ["--region", f"{_call(own)}={what}" + (f"@{region.strength:g}" if region.strength != 1 else "")]
        command = shlex.join(["restyle", "image", "CONTENT", *words, *self._how.words, "-o", "OUTPUT"])
        card = self._stylizer.card
        return f"{command}  # restyle {restyle.__version__}, model {card.name} {card.version}"


def _call(mask: MaskFile | PersonMask) -> str:
    return ("not:" if mask.inverse else "") + (Path(mask.path).name if isinstance(mask, MaskFile) else "person")
