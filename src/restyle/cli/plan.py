"""What ``restyle image`` is to paint, and where to: decided and checked before anything is painted."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from restyle import gallery
from restyle.batch.folders import ENDINGS, check_pattern, find_pictures, name_output
from restyle.batch.pipeline import MaskFile
from restyle.cli.options import parse_mask, parse_style
from restyle.errors import ImageError, UnknownNameError
from restyle.image import WRITABLE, check_writable
from restyle.stylizer import check_options

WAYS = ("mix", "each", "pairs", "grid", "morph")
"""What several styles are for."""


@dataclass(frozen=True)
class Content:
    """A photograph: where it is, how messages call it, and its folder below the folder that was given."""

    source: Path | bytes
    name: str
    stem: str
    ending: str
    folder: Path = Path()


@dataclass(frozen=True)
class Look:
    """What a photograph is painted with: the weighted mean of paintings, or the square between four."""

    name: str
    paintings: tuple[Path, ...]
    weights: tuple[float, ...]
    square: bool = False
    frame: str = ""


ONLY_REGIONS = Look("regions", (), ())
"""No painting but in the regions."""


@dataclass(frozen=True)
class Planned:
    """One picture to be painted."""

    content: Content
    look: Look
    output: Path


# --- contents ---------------------------------------------------------------------------------------------------------


def find_contents(words: Sequence[str], output: str) -> tuple[list[Content], list[ImageError]]:
    """The photographs that a user means, each once, and an error for each subfolder that cannot be read."""
    contents: dict[tuple[object, Path], Content] = {}
    problems: list[ImageError] = []
    for word in words:
        if word == "-":
            if ("-", Path()) not in contents:
                contents["-", Path()] = Content(_read_stdin(), "-", "stdin", ".png")
            continue
        path = gallery.find(word, kind="sample")
        found = [path]
        if os.path.isdir(path):
            found, unread = find_pictures(path, leave_out=[_output_below(path, output)])
            problems += unread
            if not found:
                raise unread[0] if unread else no_pictures(path)
        for one in found:
            content = as_content(one, path)
            contents.setdefault((os.path.realpath(one), content.folder), content)
    return list(contents.values()), problems


def find_watched(words: Sequence[str], output: str) -> Path:
    """The one folder that is to be watched."""
    if len(words) != 1 or not os.path.isdir(words[0]):
        raise ImageError(f"--watch needs one folder that exists, got {', '.join(words)}")
    _output_below(Path(words[0]), output)
    return Path(words[0])


def as_content(path: Path, root: Path) -> Content:
    """A picture found below ``root``, or given as such."""
    folder = path.parent.relative_to(root) if path != root else Path()
    return Content(path, str(path), path.stem, path.suffix, folder)


def no_pictures(folder: Path) -> ImageError:
    """The error for a folder without pictures."""
    return ImageError(f"there is no picture in {str(folder)!r}; looked for {', '.join(sorted(ENDINGS))}")


def _output_below(folder: Path, output: str) -> Path:
    """The output folder, so that outputs are not painted again."""
    if os.path.realpath(output) == os.path.realpath(folder):
        raise ImageError(f"the outputs would lie among the photographs in {str(folder)!r}; name another folder")
    return Path(output)


def _read_stdin() -> bytes:
    if sys.stdin.isatty():
        raise ImageError("standard input is a terminal; send a picture into it")
    return sys.stdin.buffer.read()


# --- styles -----------------------------------------------------------------------------------------------------------


def find_looks(words: Sequence[str], way: str | None, frames: int) -> tuple[str, list[Look]]:
    """The way several styles are used, and what photographs are painted with.

    Args:
        words: ``STYLE[:WEIGHT]`` or a folder.
        way: One of ``WAYS``; None = mix, or each where a folder is given.
        frames: Of a morph.
    """
    named: list[tuple[str, Path, float]] = []
    for word in words:
        name, weight = parse_style(word)
        path = gallery.find(name)
        if os.path.isdir(path):
            found, problems = find_pictures(path)
            if problems or not found:
                raise problems[0] if problems else no_pictures(path)
            # A style in a subfolder bears its name too: monet/1.jpg and morisot/1.jpg are two styles.
            named += [("-".join(one.relative_to(path).with_suffix("").parts), one, weight) for one in found]
            way = way or "each"
        else:
            named.append((path.stem, path, weight))
    if not named and way:
        raise ValueError(f"--{'each-style' if way == 'each' else way} needs --style")
    way = way or "mix"
    if not named:  # then only regions are painted
        return way, []
    names, paintings, weights = (tuple(column) for column in zip(*named, strict=True))
    if way == "mix":
        return way, [Look("+".join(names), paintings, weights)]
    if any(weight != 1 for weight in weights):
        raise ValueError(f"weights are for styles that are mixed, got {', '.join(words)}")
    if way in ("each", "pairs"):
        return way, [Look(name, (path,), (1.0,)) for name, path, _ in named]
    if way == "grid":
        if len(named) != 4:
            raise ValueError(f"--grid needs four styles, got {len(named)}")
        return way, [Look("+".join(names), paintings, weights, square=True)]
    return way, _morph(names, paintings, frames)


def _morph(names: tuple[str, ...], paintings: tuple[Path, ...], frames: int) -> list[Look]:
    """Looks that go from the first style to the last in equal steps, through all between."""
    if len(names) < 2 or frames < 2:
        raise ValueError(f"--morph needs two styles or more and two frames or more, got {len(names)} and {frames}")
    looks = []
    for frame in range(frames):
        place = frame * (len(names) - 1) / (frames - 1)
        weights = tuple(max(0.0, 1 - abs(place - index)) for index in range(len(names)))
        looks.append(Look("+".join(names), paintings, weights, frame=f"{frame + 1:0{max(4, len(str(frames)))}}"))
    return looks


# --- masks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MaskWord:
    """A mask as a user names it: one picture for all photographs, or a folder with one for each."""

    path: Path
    inverse: bool
    feather: float
    by_name: Mapping[str, Path] | None = None

    def find(self, content: Content) -> MaskFile:
        """The mask of a photograph.

        Raises:
            ImageError: the folder has none for it.
        """
        path = self.path
        if self.by_name is not None:
            name = (content.folder / content.stem).as_posix()
            if name not in self.by_name:
                raise ImageError(f"{content.name!r} has no mask: there is no picture {name!r} in {str(self.path)!r}")
            path = self.by_name[name]
        return MaskFile(path, self.inverse, self.feather)


def find_mask(text: str, feather: float) -> MaskWord:
    """``sky.png``, ``not:sky.png`` or ``masks/``."""
    path, inverse = parse_mask(text)
    if os.path.isdir(path):
        found, problems = find_pictures(path)
        if problems or not found:
            raise problems[0] if problems else no_pictures(path)
        by_name = {one.relative_to(path).with_suffix("").as_posix(): one for one in reversed(found)}
        return MaskWord(path, inverse, feather, by_name)
    if not os.path.exists(path):
        raise ImageError(f"there is no mask {str(path)!r}")
    return MaskWord(path, inverse, feather)


@dataclass(frozen=True)
class RegionWord:
    """A region as a user names it; no paintings = the photograph is kept there."""

    mask: MaskWord
    paintings: tuple[Path, ...]
    weights: tuple[float, ...]
    strength: float


def parse_region(text: str, feather: float) -> RegionWord:
    """``MASK=STYLE[:WEIGHT][,STYLE[:WEIGHT]...][@STRENGTH]``, or ``MASK=keep``."""
    number = r"\d+(?:\.\d*)?|\.\d+"
    match = re.fullmatch(rf"([^=]+)=(.+?)(?:@({number}))?", text)
    if not match:
        raise ValueError(
            f"region must be MASK=STYLE, such as sky.png=wave, sky.png=wave:2,ink@0.5 or face.png=keep; got {text!r}"
        )
    mask, words, strength = find_mask(match[1], feather), match[2], float(match[3] or 1)
    try:
        check_options(strength=strength)
    except ValueError as error:
        raise ValueError(f"region {text!r}: {error}") from error
    if words == "keep":
        return RegionWord(mask, (), (), strength)
    named = [parse_style(word) for word in ([words] if os.path.exists(words) else words.split(","))]
    paintings = tuple(gallery.find(name) for name, _ in named)
    return RegionWord(mask, paintings, tuple(weight for _, weight in named), strength)


# --- outputs ----------------------------------------------------------------------------------------------------------

PATTERNS = {"each": "{content}_{style}", "morph": "{content}_{frame}"}
"""How outputs are called in a folder unless the user says otherwise; in other ways, like the photographs."""


def pair(contents: Sequence[Content], looks: Sequence[Look], way: str) -> list[tuple[Content, Look]]:
    """Which photograph is painted with what."""
    if way != "pairs":
        return [(content, look) for content in contents for look in looks or [ONLY_REGIONS]]
    if len(contents) != len(looks):
        raise ValueError(f"--pairs needs as many styles as photographs, got {len(looks)} and {len(contents)}")
    return list(zip(contents, looks, strict=True))


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
            ImageError: the output is an empty word.

        Attributes ``to_stdout`` and ``format`` say whether a picture goes to standard output, and as what.
        """
        if not output:
            raise ImageError("the output is an empty word; name a file or a folder")
        self.output, self.pattern = output, PATTERNS.get(way, "{content}") if name is None else name
        check_pattern(self.pattern)
        self._ending = "." + format.lower().removeprefix(".") if format is not None else ""
        if self._ending and self._ending not in WRITABLE:
            raise UnknownNameError("picture format", self._ending, WRITABLE)
        if self._ending and Path(self.pattern).suffix.lower() in WRITABLE:
            raise ValueError(f"the format is given twice, by --name {name} and --format {format}")
        self.to_stdout = output == "-"
        self.format = self._ending or ".png"
        self._wants_folder = way in ("each", "pairs", "morph") or name is not None
        self._overwrite, self._skip_existing = overwrite, skip_existing

    def place(self, pictures: Sequence[tuple[Content, Look]], *, many: bool) -> list[Planned]:
        """Give every picture its file; what is there already is left out where that is wanted.

        Args:
            pictures: What is painted with what.
            many: More of them may come: the output is a folder, whatever their number.

        Raises:
            ImageError: two pictures for one file, a file that exists or is a photograph itself, or no way to write.
            UnknownNameError: the file's ending names no format.
        """
        in_folder = self._is_folder(many=many or self._wants_folder or len(pictures) > 1)
        planned = [
            Planned(content, look, self._in_folder(content, look) if in_folder else Path(self.output))
            for content, look in pictures
        ]
        self._check_collisions(planned)
        if self.to_stdout:
            if sys.stdout.isatty():
                raise ImageError("standard output is a terminal; send the picture into a file or a program")
            return planned
        left = [one for one in planned if not (self._skip_existing and os.path.lexists(one.output))]
        exist = [one for one in left if os.path.lexists(one.output)]
        if len(exist) > 1 and not self._overwrite:
            raise ImageError(
                f"{str(exist[0].output)!r} and {len(exist) - 1} more exist already; --skip-existing paints the others, "
                "--overwrite replaces them"
            )
        for one in left:
            _check_file(one.output, overwrite=self._overwrite, in_folder=in_folder)
        return left

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

    def _check_collisions(self, planned: Sequence[Planned]) -> None:
        taken: dict[str, Planned] = {}
        uses = Counter(os.path.realpath(one.content.source) for one in planned if isinstance(one.content.source, Path))
        for one in planned:
            other = taken.setdefault(os.path.normcase(os.path.abspath(one.output)), one)
            if other is not one:
                told = " and ".join(f"{each.content.name!r} in the style {each.look.name!r}" for each in (other, one))
                raise ImageError(f"{told} would both be written to {str(one.output)!r}; see --name and --format")
            target = os.path.realpath(one.output)
            own = isinstance(one.content.source, Path) and os.path.realpath(one.content.source) == target
            if self._overwrite and uses[target] > own:
                raise ImageError(f"{str(one.output)!r} is itself one of the photographs, and would be lost")


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
