"""The same work on many processes or machines, by Ray Data: a loaded model in each, and what failed with a machine done
again. Needs the extra ``scale``.
"""

from __future__ import annotations

import builtins
import logging
import os
import pickle
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from restyle import errors
from restyle.batch.pipeline import Job, Result, run
from restyle.controls.masks import MaskFile
from restyle.errors import DeviceError, MissingExtraError, RestyleError
from restyle.image import read_size
from restyle.stylizer import Stylizer

CHUNK = 8
"""Jobs that a worker takes at a time; after its death so many are begun again."""

THREADS = 4
"""Processor threads of a worker, where the caller does not say and the machine has as many."""

OBJECT_STORE_BYTES = 100_000_000
"""Memory that a Ray started here sets aside; pictures do not pass through it."""


def run_on_cluster(
    jobs: Iterable[Job],
    engine: Mapping[str, Any],
    *,
    address: str = "local",
    workers: int | None = None,
    **options: Any,
) -> Generator[Result, None, None]:
    """Paint many pictures in worker processes that read and write the files themselves.

    A worker that dies is started again, and so is what it had in hand; each job gives one result and one file.

    Args:
        jobs: Their files must have the same paths on all machines; outputs must be files.
        engine: As for ``Stylizer.load``, the same for all workers.
        address: ``local`` starts Ray on this machine for this call, ``auto`` joins a cluster that this machine is part
            of, anything else is the address of one.
        workers: None = as many as the cluster has processor threads for.
        options: As for ``run``.

    Yields:
        One result for each job, in no particular order.

    Raises:
        MissingExtraError: Ray is not installed.
        DeviceError: there is no cluster at this address.
        ValueError: workers below 1, or an output that is no file.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    jobs = list(jobs)
    items = [{"number": number, "job": pickle.dumps(_absolute(job))} for number, job in enumerate(jobs)]
    ray = _start_ray(address)
    try:
        cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        threads = engine.get("threads") or max(1, min(THREADS, cpus // (workers or 1)))
        # Without as many threads as it asks for, a worker would wait for ever.
        threads, most = min(threads, cpus), max(1, cpus // min(threads, cpus))
        done = ray.data.from_items(items, override_num_blocks=-(-len(items) // CHUNK)).map_batches(
            _Worker,
            fn_constructor_kwargs={"engine": {**engine, "threads": threads}, "options": options},
            batch_size=CHUNK,
            compute=ray.data.ActorPoolStrategy(size=min(workers or most, most)),
            num_cpus=threads,
        )
        for row in done.iter_rows():
            yield _unpacked(jobs[row["number"]], row["result"])
    finally:
        if address == "local":
            ray.shutdown()


class _Worker:
    """A process that paints: made once by Ray, called for every chunk."""

    def __init__(self, engine: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        import ray

        self._stylizer = Stylizer.load(**engine)
        self._options = options
        # Unless files may be replaced, none was there when the work began: what a second worker finds has been painted.
        reborn = ray.get_runtime_context().was_current_actor_reconstructed
        self._keeps_what_is_there = reborn and not options.get("overwrite")

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        jobs = [pickle.loads(job) for job in rows["job"]]
        there = [job for job in jobs if self._keeps_what_is_there and job.output.exists()]
        results = [Result(job, size=read_size(job.output)) for job in there]
        results += run([job for job in jobs if job not in there], self._stylizer, **self._options)
        numbers = {id(job): number for job, number in zip(jobs, rows["number"], strict=True)}
        return {
            "number": np.array([numbers[id(result.job)] for result in results]),
            "result": [_packed(result) for result in results],
        }


def _packed(result: Result) -> bytes:
    """A result without its job; of an error its kind and words, since not every exception can be pickled."""
    error = (type(result.error).__name__, str(result.error)) if result.error else None
    return pickle.dumps((error, result.size, result.seconds, result.notes))


def _unpacked(job: Job, packed: bytes) -> Result:
    told, size, seconds, notes = pickle.loads(packed)
    error: Exception | None = None
    if told:
        kind: Any = getattr(errors, told[0], None) or getattr(builtins, told[0], RestyleError)
        error = kind.__new__(kind)  # past __init__, whose arguments may differ
        error.args = (told[1],)
    return Result(job, error, size, seconds, notes)


def _absolute(job: Job) -> Job:
    """The job with paths that do not depend on the folder in which a process runs."""
    if not isinstance(job.output, Path):
        raise ValueError(f"a worker can write to files only, got the output {job.output!r}")

    def there(mask: Any) -> Any:
        return replace(mask, path=Path(mask.path).absolute()) if isinstance(mask, MaskFile) else mask

    return replace(
        job,
        content=job.content.absolute() if isinstance(job.content, Path) else job.content,
        output=job.output.absolute(),
        mask=there(job.mask),
        regions=tuple(replace(region, mask=there(region.mask)) for region in job.regions),
    )


def _start_ray(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about anyone's work is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming behaviour; without it, it warns
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("a cluster", extra="scale") from error
    own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES} if address == "local" else {}
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, ignore_reinit_error=True, **own)
    except Exception as error:  # Ray raises several kinds
        raise DeviceError(f"there is no Ray cluster at {address!r}: {' '.join(str(error).split())[:200]}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


def write_manifest(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write what came of every picture as a table in Parquet, beside and then renamed.

    A manifest that is there already is continued: rows of outputs that were painted anew are replaced.

    Args:
        rows: One for each picture; columns are taken from them all.
        path: Of the file.

    Raises:
        MissingExtraError: pyarrow is not installed.
        OSError: the file cannot be written, or what is there is no manifest.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError("a manifest", extra="scale") from error
    beside = path.with_name(f".{path.name}.part")
    try:
        before = parquet.read_table(path).to_pylist() if path.exists() else []
        key = [(row.get("content"), row.get("style"), row.get("output")) for row in rows]
        kept = [row for row in before if (row.get("content"), row.get("style"), row.get("output")) not in key]
        columns = dict.fromkeys(column for row in [*kept, *rows] for column in row)
        table = [{column: row.get(column) for column in columns} for row in [*kept, *rows]]
        parquet.write_table(pyarrow.Table.from_pylist(table), beside)
        os.replace(beside, path)
    except (OSError, pyarrow.ArrowException) as error:
        raise OSError(f"cannot write the manifest {str(path)!r}: {error}") from error
