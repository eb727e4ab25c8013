"""One tree of errors, so that a caller can catch as much or as little as wanted.

    RestyleError
    ├── ImageError          a picture that cannot be read or written
    ├── VideoError          a video that cannot be read or written, or a camera that is not there
    ├── ModelFileError      a model folder or style file that is missing, damaged or of another model
    ├── DeviceError         a device or engine that was asked for and is not there
    ├── ExportError         a target whose compiler cannot be had or refuses the model
    ├── LimitError          a picture larger than the limit allows
    ├── MissingExtraError   a feature whose optional packages are not installed
    └── UnknownNameError    a name of no bundled style or model (also a ValueError)

    ShapeError              tensors or arrays that do not fit each other (a ValueError)

A caller's mistake in a value is a plain ``ValueError`` or ``TypeError`` that names the argument,
the value and what is allowed. Everything under ``RestyleError`` is the world's doing.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class RestyleError(Exception):
    """Base of every error that is not the programmer's mistake."""


class ImageError(RestyleError):
    """A picture cannot be read or written."""


class VideoError(RestyleError):
    """A video cannot be read or written, or a camera is not there."""


class ModelFileError(RestyleError):
    """A model folder or a style file is missing, damaged, or belongs to another model."""


class DeviceError(RestyleError):
    """A device or engine was asked for by name and is not there."""


class ExportError(RestyleError):
    """A model cannot be brought to a target: its compiler cannot be had, or refuses the model."""


class LimitError(RestyleError):
    """A picture is larger than the limit allows."""


class MissingExtraError(RestyleError):
    """A feature needs optional packages; the message holds the install command."""

    def __init__(self, feature: str, *, extra: str) -> None:
        super().__init__(f"{feature} needs packages that are not installed: pip install 'restyle[{extra}]'")


class UnknownNameError(RestyleError, ValueError):
    """A name that nothing bundled bears; the message suggests the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
        super().__init__(f"no {kind} is called {name!r}; {hint}")


class ShapeError(ValueError):
    """Tensors or arrays do not have the shape that an operation needs."""


def disk_is_full(error: BaseException | None) -> bool:
    """Whether that is what an error comes from, be it told by the system or by FFmpeg."""
    while error is not None and getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
        error = error.__cause__
    return error is not None
