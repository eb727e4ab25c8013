"""Training of either network: reconstruction first, then style. One loop for a processor, a GPU, and many of them.

One run is a folder: ``checkpoint.pt`` (everything needed to go on), ``log.jsonl`` (a line of losses every few steps),
``progress/`` and ``montage.png`` (what the averaged weights painted at which step), and events for TensorBoard.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from restyle.learn.run import Run
from restyle.learn.settings import TrainSettings

SAVE_EVERY_S = 300


def train(settings: TrainSettings, report: Callable[[int, Mapping[str, float]], None] | None = None) -> Path:
    """Train a network, or go on with an interrupted run in the same folder.

    Started by ``accelerate launch`` with several processes, each paints its own pairs and all move alike.

    Args:
        settings: See ``TrainSettings``.
        report: Called after every step with the number of steps done and the losses; in the first process only.

    Returns:
        The path of the last checkpoint.

    Raises:
        ImageError: a folder is missing or holds no pictures.
        ModelFileError: the loss weights or a checkpoint cannot be used.
        DeviceError: there is no such device.
        ValueError: the gradients ran away; the last checkpoint is still whole.
    """
    run = Run(settings)
    until = time.monotonic() + 60 * settings.max_minutes if settings.max_minutes else math.inf
    saved = time.monotonic()
    rounds = run.rounds()
    with contextlib.closing(run.record), _stop_signals() as stopped:
        while run.step < settings.steps and not run.stop_wanted:
            stop = bool(stopped) or time.monotonic() >= until
            if stop and run.accelerator.num_processes == 1:
                break
            losses = run.advance(next(rounds), stop=stop)  # several processes must agree to stop, in this step
            if report and run.first:
                report(run.step, losses)
            if run.first and time.monotonic() - saved > SAVE_EVERY_S:
                run.save()
                saved = time.monotonic()
        path = run.save() if run.step != run.saved_step else run.path
    run.accelerator.wait_for_everyone()
    return path


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and termination while a step runs, so that a stop falls between steps and all is saved.

    The second signal has its ordinary effect, in case a step does not end.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may handle signals
        return

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, kept[signal.Signals(number)])

    kept = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
