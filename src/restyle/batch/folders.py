"""Folders of pictures: what is in them, what is new in them, and how outputs are called."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from restyle.errors import ImageError
from restyle.image import READABLE, WRITABLE

FIELDS = ("content", "style", "frame")
"""What a name pattern may hold in braces."""


def find_pictures(folder: Path, *, leave_out: Sequence[Path] = ()) -> tuple[list[Path], list[ImageError]]:
    """All pictures below a folder, at any depth, told by their endings.

    Hidden files and folders are left out. A link to a file counts as that file; links to folders are not followed, so
    that a circle of them has no end to reach.

    Args:
        folder: Where to look.
        leave_out: Folders below it that are not looked into.

    Returns:
        The files, sorted by name, and one error for each folder below that cannot be read.

    Raises:
        ImageError: ``folder`` itself cannot be read.
    """
    closed = {os.path.realpath(one) for one in leave_out}
    problems: list[OSError] = []
    found = []
    for parent, folders, files in os.walk(folder, onerror=problems.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if closed:
            folders[:] = [name for name in folders if os.path.realpath(os.path.join(parent, name)) not in closed]
        for name in files:
            path = os.path.join(parent, name)
            # Reading a pipe would never end; a link into nowhere is kept, so that reading it says so.
            is_file = os.path.isfile(path) or not os.path.exists(path)
            if is_file and os.path.splitext(name)[1].lower() in READABLE and not name.startswith("."):
                found.append(Path(path))
    errors = [_unreadable(error) for error in problems]
    if problems and os.path.abspath(problems[0].filename) == os.path.abspath(folder):
        raise errors[0]
    return sorted(found), errors


def _unreadable(problem: OSError) -> ImageError:
    error = ImageError(f"cannot read the folder {problem.filename!r}: {problem.strerror}")
    error.__cause__ = problem  # which names the folder
    return error


def watch_folder(folder: Path, *, interval_s: float = 1.0, leave_out: Sequence[Path] = ()) -> Iterator[list[Path]]:
    """Tell of the pictures that are in a folder and that come into it, for ever.

    A file is told of when its size and its time of change have stayed for one interval, and again when it has changed.
    Looking again and again, unlike the messages of the operating system, works on every kind of drive.

    Args:
        folder: Where to look, at any depth.
        interval_s: Seconds between two looks; at least nine times as long as a look takes.
        leave_out: As for ``find_pictures``.

    Yields:
        The pictures that are complete since the last time, sorted by name; never an empty list.

    Raises:
        ImageError: the folder cannot be read, or no longer.
    """
    before: dict[Path, tuple[int, int]] = {}
    told: dict[Path, tuple[int, int]] = {}
    while True:
        started = time.monotonic()
        paths = find_pictures(folder, leave_out=leave_out)[0]
        now = {path: state for path in paths if (state := _state(path))}
        ready = [path for path, state in now.items() if before.get(path) == state != told.get(path)]
        before = now
        took = time.monotonic() - started
        if ready:
            told.update((path, now[path]) for path in ready)
            yield ready
        time.sleep(max(interval_s, 9 * took))


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of change; None for a file that is gone or still empty."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_size, stat.st_mtime_ns) if stat.st_size else None


def check_pattern(pattern: str) -> None:
    """Refuse a name pattern that ``name_output`` could not follow.

    Raises:
        ValueError: an unknown field, a brace that is none, or a name that leads out of the output folder.
    """
    fields = ", ".join(f"{{{field}}}" for field in FIELDS)
    for field in re.findall(r"\{(.*?)\}", pattern):
        if field not in FIELDS:
            raise ValueError(f"name has an unknown field {{{field}}}; known: {fields}")
    rest = re.sub(r"\{.*?\}", "x", pattern)
    if "{" in rest or "}" in rest:
        raise ValueError(f"name must hold braces only around a field ({fields}), got {pattern!r}")
    parts = rest.split("/")
    # A backslash and a colon are separators on Windows; refused everywhere, so that a command works everywhere.
    if any(part in ("", ".", "..") for part in parts) or any(sign in rest for sign in "\\:\0"):
        raise ValueError(f"name must lead to a file inside the output folder, got {pattern!r}")


def name_output(
    pattern: str, *, content: str, ending: str, folder: str | Path = "", style: str = "", frame: str = ""
) -> Path:
    """The path of an output below the output folder.

    Args:
        pattern: Such as ``{content}_{style}`` or ``{style}/{content}.png``; see ``check_pattern``. An ending that names
            a picture format chooses the format.
        content: Name of the photograph without its ending.
        ending: Of the output, if the pattern has none; ``.jpg`` where this one cannot be written, as with HEIC.
        folder: Where the photograph lies below the folder that was given; kept, in front of the part of the pattern
            that holds ``{content}``.
        style: Name of the style.
        frame: Number of the frame.
    """
    parts = pattern.split("/")
    place = next((index for index, part in enumerate(parts) if "{content}" in part), len(parts) - 1)
    values = {"content": content, "style": style, "frame": frame}
    # One pass: a photograph may be called {style}.
    named = [re.sub(r"\{(\w+)\}", lambda match: values[match[1]], part) for part in parts]
    path = PurePosixPath(*named[:place], PurePosixPath(Path(folder).as_posix()), *named[place:])
    if PurePosixPath(pattern).suffix.lower() not in WRITABLE:
        path = path.with_name(path.name + (ending if ending.lower() in WRITABLE else ".jpg"))
    return Path(path)
