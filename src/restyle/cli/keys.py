"""Single keys from the terminal, while a command runs."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator

LISTEN_S = 0.2
"""How often is looked whether to stop listening."""


@contextlib.contextmanager
def listening_for_keys(press: Callable[[str], object]) -> Iterator[bool]:
    """Call ``press`` with each key of the terminal, in a thread; False = there is no terminal to listen to.

    Ctrl-C goes on doing what it does.
    """
    if not _in_front():
        yield False
        return
    stop = threading.Event()
    with _key_by_key():
        thread = threading.Thread(target=_listen, args=(press, stop), daemon=True)
        thread.start()
        try:
            yield True
        finally:
            stop.set()
            thread.join(timeout=2)


def _in_front() -> bool:
    """Whether a person types to this program: a job in the background would be stopped for listening."""
    try:
        number = sys.stdin.fileno()
        return os.isatty(number) and (sys.platform == "win32" or os.tcgetpgrp(number) == os.getpgrp())
    except (OSError, ValueError, AttributeError):  # no standard input at all
        return False


@contextlib.contextmanager
def _key_by_key() -> Iterator[None]:
    """Have the terminal hand over each key at once, unseen."""
    if sys.platform == "win32":
        yield
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    kept = termios.tcgetattr(number)
    tty.setcbreak(number)
    try:
        yield
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, kept)


def _listen(press: Callable[[str], object], stop: threading.Event) -> None:
    while not stop.is_set():
        if sys.platform == "win32":
            import msvcrt

            if msvcrt.kbhit():
                press(msvcrt.getwch())
            else:
                stop.wait(LISTEN_S / 4)
        elif select.select([sys.stdin], [], [], LISTEN_S)[0]:
            key = os.read(sys.stdin.fileno(), 1)
            if not key:  # the terminal is gone
                return
            press(key.decode("ascii", "ignore"))
