"""Where pictures of ``restyle image`` go, what they are called, and what may be replaced."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from restyle.batch.folders import check_pattern, name_output
from restyle.cli.options import refuse_address
from restyle.cli.plan import Content, Look
from restyle.errors import ImageError, UnknownNameError
from restyle.image import WRITABLE, check_writable


@dataclass(frozen=True)
class Planned:
    """One picture to be painted."""

    content: Content
    look: Look
    output: Path


PATTERNS = {"each": "{content}_{style}", "morph": "{content}_{frame}"}
"""How outputs are called in a folder unless the user says otherwise; in other ways, like the photographs."""


class Outputs:
    """Where pictures go, what they are called, and what may be replaced."""

    def __init__(
        self,
        output: str,
        way: str,
        *,
        name: str | None = None,
        format: str | None = None,
        overwrite: bool = False,
        skip_existing: bool = False,
    ) -> None:
        """Take the user's words.

        Raises:
            ValueError: a name pattern that cannot be, or a format that is given twice.
            UnknownNameError: no such format.
            ImageError: the output is an empty word, or an address.

        Attributes ``to_stdout`` and ``format`` say whether a picture goes to standard output, and as what.
        """
        if not output:
            raise ImageError("the output is an empty word; name a file or a folder")
        refuse_address(output)
        self.output, self.pattern = output, PATTERNS.get(way, "{content}") if name is None else name
        check_pattern(self.pattern)
        if "{frame}" in self.pattern and way != "morph":
            raise ValueError(f"--name: only the pictures of --morph have a {{frame}}, got {name!r}")
        self._ending = "." + format.lower().removeprefix(".") if format is not None else ""
        if self._ending and self._ending not in WRITABLE:
            raise UnknownNameError("picture format", self._ending, WRITABLE)
        if self._ending and Path(self.pattern).suffix.lower() in WRITABLE:
            raise ValueError(f"the format is given twice, by --name {name} and --format {format}")
        self.to_stdout = output == "-"
        self.format = self._ending or ".png"
        self._wants_folder = way in ("each", "pairs", "morph") or name is not None
        self.overwrite, self._skip_existing = overwrite, skip_existing

    def place(
        self, pictures: Sequence[tuple[Content, Look]], *, many: bool, beside: Mapping[Path, str] | None = None
    ) -> list[Planned]:
        """Give every picture its file; what is there already is left out where that is wanted.

        Args:
            pictures: What is painted with what.
            many: More of them may come: the output is a folder, whatever their number.
            beside: Files that are read beside the photographs, and what they are: masks or styles.

        Raises:
            ImageError: two pictures for one file, a file that exists or is read itself, or no way to write.
            UnknownNameError: the file's ending names no format.
        """
        in_folder = self._is_folder(many=many or self._wants_folder or len(pictures) > 1)
        planned = [
            Planned(content, look, self._in_folder(content, look) if in_folder else Path(self.output))
            for content, look in pictures
        ]
        self._check_collisions(planned, beside or {})
        if self.to_stdout:
            if sys.stdout is None:
                raise ImageError("standard output is closed; send the picture into a file or a program")
            if sys.stdout.isatty():
                raise ImageError("standard output is a terminal; send the picture into a file or a program")
            return planned
        left = [one for one in planned if not (self._skip_existing and os.path.lexists(one.output))]
        exist = [one for one in left if os.path.lexists(one.output)]
        if len(exist) > 1 and not self.overwrite:
            raise ImageError(
                f"{str(exist[0].output)!r} and {len(exist) - 1} more exist already; --skip-existing paints the others, "
                "--overwrite replaces them"
            )
        for one in left:
            _check_file(one.output, overwrite=self.overwrite, in_folder=in_folder)
        return left

    def check_folder(self) -> None:
        """Refuse a folder that could not be written into.

        Raises:
            ImageError: it cannot be made, or there is no permission.
        """
        _check_file(Path(self.output) / "picture.png", overwrite=True, in_folder=True)

    def _is_folder(self, *, many: bool) -> bool:
        if os.path.isdir(self.output) or self.output.endswith(("/", os.sep)):
            return True
        if self._ending and not (many or self.to_stdout):
            raise ValueError(f"the ending of {self.output!r} chooses the format; --format is for folders and for -o -")
        if many and (self.to_stdout or os.path.lexists(self.output) or Path(self.output).suffix.lower() in WRITABLE):
            what = "standard output" if self.to_stdout else f"a file called {self.output!r}"
            raise ImageError(f"several pictures need a folder to go to, not {what}")
        return many

    def _in_folder(self, content: Content, look: Look) -> Path:
        return Path(self.output) / name_output(
            self.pattern,
            content=content.stem,
            ending=self._ending or content.ending,
            folder=content.folder,
            style=look.name,
            frame=look.frame,
        )

    def _check_collisions(self, planned: Sequence[Planned], beside: Mapping[Path, str]) -> None:
        taken: dict[str, Planned] = {}
        uses = Counter(os.path.realpath(one.content.source) for one in planned if isinstance(one.content.source, Path))
        kinds = {os.path.realpath(path): kind for path, kind in beside.items()}
        for one in planned:
            other = taken.setdefault(os.path.normcase(os.path.abspath(one.output)), one)
            if other is not one:
                told = " and ".join(f"{each.content.name!r} in the style {each.look.name!r}" for each in (other, one))
                raise ImageError(f"{told} would both be written to {str(one.output)!r}; see --name and --format")
            target = os.path.realpath(one.output)
            own = isinstance(one.content.source, Path) and os.path.realpath(one.content.source) == target
            if self.overwrite and (uses[target] > own or target in kinds):
                kind = kinds.get(target, "photographs")
                raise ImageError(f"{str(one.output)!r} is itself one of the {kind}, and would be lost")


def _check_file(path: Path, *, overwrite: bool, in_folder: bool) -> None:
    """Refuse what could not be written."""
    there = path.parent
    while in_folder and not os.path.lexists(there):  # it will be made
        there = there.parent
    if in_folder and not os.path.isdir(there):
        raise ImageError(f"cannot write {str(path)!r}: {str(there)!r} is not a folder")
    if there == path.parent:
        check_writable(path, overwrite=overwrite)
    if not os.access(there, os.W_OK | os.X_OK):
        raise ImageError(f"cannot write {str(path)!r}: no permission to write into {str(there)!r}")
