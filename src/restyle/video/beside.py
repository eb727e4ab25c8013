"""A file that is being written: beside its place, under a name of its own, and cleared away if its writer was killed.

Whoever writes holds a lock, and the system lets go of it however the program ends. So what nobody holds is left over
from a program that was killed, and the next one that writes into the same folder removes it. A shared folder may keep
the locks of each computer apart: so nothing is removed that somebody has written to within the last hour, either.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from pathlib import Path
from typing import BinaryIO

PREFIX, SUFFIX = ".restyle-video-", ".tmp"

LEFT_S = 3600.0
"""A file that was written to within this time may be another computer's, whose lock is not seen here."""


class Beside:
    """A new, empty file in the folder of another, for this program alone.

    Args:
        path: The file that it shall become.

    Attributes:
        path: Where it lies.

    Raises:
        OSError: the folder refuses.
    """

    def __init__(self, path: Path) -> None:
        clear_away(path.parent)
        self.path = path.with_name(f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}")
        self._file: BinaryIO = self.path.open("xb")
        if sys.platform == "win32":  # an open file can be neither removed nor renamed there: that is the lock
            self._file.close()
        with contextlib.suppress(OSError):  # a network's folder may know no locks; then nobody clears away there
            _lock(self._file)

    def discard(self) -> None:
        """Remove it, if it still bears this name."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._file.close()


def clear_away(folder: Path) -> None:
    """Remove what programs that were killed have left in a folder."""
    for path in folder.glob(f"{PREFIX}*{SUFFIX}"):
        with contextlib.suppress(OSError), path.open("r+b") as file:
            if time.time() - os.fstat(file.fileno()).st_mtime < LEFT_S:
                continue
            _lock(file)
            if sys.platform == "win32":
                file.close()
            os.unlink(path)


def _lock(file: BinaryIO) -> None:
    """Take the lock of an open file.

    Raises:
        OSError: somebody has it.
    """
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
