"""What the command line does when it is told to end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stopping_like_ctrl_c() -> Iterator[None]:
    """Be ended by SIGTERM, or by a terminal that closes, as tidily as by Ctrl-C."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # One that is ignored, as under nohup, stays so.
    kept = {number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) == signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def only_one_ctrl_c() -> Iterator[None]:
    """Ignore all Ctrl-C after the first, so that the way out is not interrupted, too."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as in a shell's background
        yield
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        if not stopped:
            signal.signal(signal.SIGINT, signal.default_int_handler)
