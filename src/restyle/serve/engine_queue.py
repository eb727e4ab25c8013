"""The bounded queue in front of the one engine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from restyle.serve.limits import Limits
from restyle.serve.meters import Meters
from restyle.serve.problems import Problem

WORKERS = 2
"""The engine paints one picture at a time with all cores; meanwhile another is read or written."""

Result = TypeVar("Result")


class EngineQueue:
    """Takes work in turn to a few threads, so that the event loop stays free.

    Whoever asks for work first takes a place, before its body is read: so the number of bodies in memory is bounded.
    """

    def __init__(self, limits: Limits, meters: Meters) -> None:
        self._limits, self._meters = limits, meters
        self._taken = 0
        self._usual_s = 0.1

    def open(self) -> None:
        """Begin; in the event loop that will ask for work."""
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="restyle-engine")
        self._turns = asyncio.Semaphore(WORKERS)

    @property
    def full(self) -> bool:
        """Whether the next request would be refused."""
        return self._taken >= self._limits.queue

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """One of the places, for as long as the context lasts.

        Raises:
            Problem: 503, all are taken.
        """
        if self.full:
            raise Problem(503, "the server is busy; try again soon", retry_after_s=self._expected_s())
        self._taken += 1
        self._meters.places.set(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self._meters.places.set(self._taken)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do work in a thread when its turn comes.

        Raises:
            Problem: 503, its turn did not come in time.
        """
        asked = time.perf_counter()
        try:
            async with asyncio.timeout(self._limits.wait_s):
                await self._turns.acquire()
        except TimeoutError:
            raise Problem(503, "the server is busy; try again soon", retry_after_s=self._expected_s()) from None
        began = time.perf_counter()
        self._meters.waited.observe(began - asked)
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        # Not when the waiting ends: a client may leave, the thread goes on to its end.
        future.add_done_callback(lambda _: self._turns.release())
        try:
            return await asyncio.shield(future)
        finally:
            took = time.perf_counter() - began
            self._meters.worked.observe(took)
            self._usual_s += 0.1 * (took - self._usual_s)

    def close(self) -> None:
        """Wait for the work that has begun."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _expected_s(self) -> float:
        return self._usual_s * self._taken / WORKERS
