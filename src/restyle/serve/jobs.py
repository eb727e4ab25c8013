"""Videos take long: each is a job, painted one after the other in a thread, with its files in one private folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from restyle.errors import LimitError
from restyle.serve.limits import Limits
from restyle.serve.problems import Problem, as_problem

try:
    import fcntl
except ImportError:  # Windows: what a killed server leaves there is left to the system's own tidying
    fcntl = None  # type: ignore[assignment]

ROOM = "restyle-serve-"
FORGET_EVERY_S = 60.0

Report = Callable[[int, int | None], None]
Work = Callable[[Path, Path, Report], tuple[str, ...]]
"""Paint one file into another, report each frame, return notes."""


class Cancelled(Exception):
    """The job is not wanted any more."""


@dataclass
class Job:
    """A video on its way.

    Attributes:
        id: Random: only who is told it can ask for the job.
        folder: Where its files are.
        state: ``queued``, ``running``, ``done``, ``failed`` or ``cancelled``.
        frames_done: Frames painted.
        frames: All frames, as far as the file says.
        notes: What could not be kept.
        problem: Why it failed: status and sentence.
        ended: When it ended, on the clock of ``time.monotonic``.
    """

    id: str
    folder: Path
    state: str = "queued"
    frames_done: int = 0
    frames: int | None = None
    notes: tuple[str, ...] = ()
    problem: tuple[int, str] | None = None
    ended: float | None = None
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def source(self) -> Path:
        """The uploaded file."""
        return self.folder / "source"

    @property
    def result(self) -> Path:
        """The painted file, once the job is done."""
        return self.folder / "painted.mp4"

    def without_paths(self, sentence: str) -> str:
        """A sentence for the client, to whom the names in our folder are nothing."""
        return re.sub(rf"['\"]?{re.escape(str(self.folder))}[^'\"\s]*['\"]?", "the file", sentence)


class JobRunner:
    """Runs jobs one by one and forgets them some time after they have ended."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._jobs: dict[str, Job] = {}

    def open(self) -> None:
        """Make the private folder; those of servers that were killed are removed."""
        self._folder, self._lock = _private_folder()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="restyle-video")

    async def forget_in_time(self) -> None:
        """Remove old results, whether or not anybody asks for a job; runs until it is cancelled."""
        while True:
            await asyncio.sleep(FORGET_EVERY_S)
            self._forget()

    def cancel_all(self) -> None:
        """Let no job go on; those who follow one are told of its end. May be called by a signal."""
        for job in list(self._jobs.values()):
            job.cancel.set()

    def close(self) -> None:
        """Stop the running job and remove all files."""
        self.cancel_all()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._jobs.clear()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()

    def prepare(self) -> Job:
        """A new job with an empty folder.

        Raises:
            Problem: 503, too many are waiting.
        """
        self._forget()
        if sum(job.ended is None for job in self._jobs.values()) >= self._limits.videos:
            raise Problem(503, "other videos are waiting already; try again later", retry_after_s=60)
        job = Job(secrets.token_urlsafe(16), self._folder / secrets.token_hex(8))
        job.folder.mkdir(mode=0o700)
        self._jobs[job.id] = job
        return job

    def start(self, job: Job, work: Work) -> None:
        """Let a prepared job be painted when its turn comes."""
        self._thread.submit(self._run, job, work)

    def find(self, name: str) -> Job:
        """The job of an id.

        Raises:
            Problem: 404, there is none, or no longer.
        """
        self._forget()
        if name not in self._jobs:
            sentence = "no such job, or no longer: videos are kept for a while, and no job outlives the server"
            raise Problem(404, sentence)
        return self._jobs[name]

    def remove(self, job: Job) -> None:
        """Stop a job and remove its files."""
        job.cancel.set()
        self._jobs.pop(job.id, None)
        if job.state != "running":  # else the thread removes them
            shutil.rmtree(job.folder, ignore_errors=True)

    def _run(self, job: Job, work: Work) -> None:
        began = self._clock()

        def report(done: int, frames: int | None) -> None:
            job.frames_done, job.frames = done, frames
            if job.cancel.is_set():
                raise Cancelled
            if done > self._limits.video_frames:
                raise LimitError(f"the video has more than {self._limits.video_frames:,} frames")
            if self._clock() - began > self._limits.video_s:
                raise LimitError(f"the video was not painted within {self._limits.video_s:g} s")

        if job.cancel.is_set():
            return
        job.state = "running"
        try:
            job.notes = work(job.source, job.result, report)
            job.state = "done"
        except Cancelled:
            job.state = "cancelled"
        except Exception as error:
            problem = as_problem(error)
            job.problem, job.state = (problem.status_code, job.without_paths(problem.detail)), "failed"
        finally:
            job.ended = self._clock()
            job.source.unlink(missing_ok=True)
            if job.id not in self._jobs:
                shutil.rmtree(job.folder, ignore_errors=True)

    def _forget(self) -> None:
        now = self._clock()
        for job in list(self._jobs.values()):
            if job.ended is not None and now - job.ended > self._limits.result_s:
                self.remove(job)


def _private_folder() -> tuple[Path, IO[bytes]]:
    """A new folder that only we can read, and the open file whose lock says that we live."""
    above = Path(tempfile.gettempdir())
    for other in above.glob(f"{ROOM}*"):
        with contextlib.suppress(OSError):
            if fcntl and other.lstat().st_uid == os.getuid():
                with (other / "lock").open("rb") as theirs:
                    fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where its server lives
                    shutil.rmtree(other)
    folder = Path(tempfile.mkdtemp(prefix=ROOM))
    lock = (folder / "lock").open("wb")
    if fcntl:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return folder, lock
