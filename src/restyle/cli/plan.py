"""What ``restyle image`` is to paint: photographs, styles and masks, found and checked before anything is painted."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from restyle import gallery
from restyle.batch.folders import find_pictures
from restyle.cli.options import parse_mask, parse_style, refuse_address
from restyle.controls.masks import MaskFile, PersonMask
from restyle.controls.people import fetch_person_model
from restyle.errors import ImageError
from restyle.image import READABLE
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
    """What is painted with: the weighted mean of paintings, or the square between four."""

    name: str
    paintings: tuple[Path, ...]
    weights: tuple[float, ...]
    square: bool = False
    frame: str = ""

    def words(self) -> list[str]:
        """``STYLE:WEIGHT`` as a user would type them, without folders."""
        bundled = {entry.path: entry.name for entry in gallery.styles()}
        names = [bundled.get(path, path.name) for path in self.paintings]
        return [f"{name}:{weight:g}" if weight != 1 else name for name, weight in zip(names, self.weights, strict=True)]


ONLY_REGIONS = Look("regions", (), ())
"""No painting but in the regions."""


# --- contents ---------------------------------------------------------------------------------------------------------


def find_contents(
    words: Sequence[str], output: str, *, repeated: bool = False
) -> tuple[list[Content], list[ImageError]]:
    """The photographs that a user means, and an error for each subfolder that cannot be read.

    Args:
        words: Files, folders, names of samples, or ``-``.
        output: Where paintings go to; not looked into.
        repeated: Keep what is given twice, as pairs need it; otherwise each photograph comes once.
    """
    contents: list[Content] = []
    stdin: Content | None = None
    problems: list[ImageError] = []
    for word in words:
        if word == "-":
            stdin = stdin or Content(_read_stdin(), "-", "stdin", ".png")
            contents.append(stdin)
            continue
        refuse_address(word)
        path = gallery.find(word, kind="sample")
        found = [path]
        if os.path.isdir(path):
            found, unread = find_pictures(path, leave_out=[_output_below(path, output, "photographs")])
            problems += unread
            if not found:
                raise unread[0] if unread else no_pictures(path)
        contents += [as_content(one, path) for one in found]
    if not repeated:
        contents = list({_identity(one): one for one in reversed(contents)}.values())[::-1]
    return contents, problems


def _identity(content: Content) -> tuple[str, ...]:
    """Equal for what is the same photograph; not for a link to it, which has a name of its own and so an output."""
    if isinstance(content.source, bytes):
        return (content.name,)
    return os.path.realpath(content.source.parent), content.source.name, str(content.folder)


def find_watched(words: Sequence[str], output: str) -> Path:
    """The one folder that is to be watched."""
    if len(words) != 1 or not os.path.isdir(words[0]):
        raise ImageError(f"--watch needs one folder that exists, got {', '.join(words)}")
    _output_below(Path(words[0]), output, "photographs")
    return Path(words[0])


def as_content(path: Path, root: Path) -> Content:
    """A picture found below ``root``, or given as such."""
    folder = path.parent.relative_to(root) if path != root else Path()
    return Content(path, str(path), path.stem, path.suffix, folder)


def no_pictures(folder: Path) -> ImageError:
    """The error for a folder without pictures."""
    return ImageError(f"there is no picture in {str(folder)!r}; looked for {', '.join(sorted(READABLE))}")


def _output_below(folder: Path, output: str, what: str) -> Path:
    """The output folder, so that outputs are not taken for photographs, styles or masks by the next command."""
    if os.path.realpath(output) == os.path.realpath(folder):
        raise ImageError(f"the outputs would lie among the {what} in {str(folder)!r}; name another folder")
    return Path(output)


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise ImageError("standard input is closed; send a picture into it")
    if sys.stdin.isatty():
        raise ImageError("standard input is a terminal; send a picture into it")
    return sys.stdin.buffer.read()


# --- styles -----------------------------------------------------------------------------------------------------------


def find_looks(words: Sequence[str], way: str | None, frames: int, output: str) -> tuple[str, list[Look]]:
    """The way several styles are used, and what photographs are painted with.

    Args:
        words: ``STYLE[:WEIGHT]`` or a folder.
        way: One of ``WAYS``; None = mix, or each where a folder is given.
        frames: Of a morph.
        output: Where paintings go to; not looked into.
    """
    named: list[tuple[str, Path, float]] = []
    for word in words:
        refuse_address(word)
        name, weight = parse_style(word)
        path = gallery.find(name)
        if os.path.isdir(path):
            found, problems = find_pictures(path, leave_out=[_output_below(path, output, "styles")])
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


def pair(contents: Sequence[Content], looks: Sequence[Look], way: str) -> list[tuple[Content, Look]]:
    """Which photograph is painted with what."""
    if way != "pairs":
        return [(content, look) for content in contents for look in looks or [ONLY_REGIONS]]
    if len(contents) != len(looks):
        raise ValueError(f"--pairs needs as many styles as photographs, got {len(looks)} and {len(contents)}")
    return list(zip(contents, looks, strict=True))


# --- masks ------------------------------------------------------------------------------------------------------------


MaskOf = Callable[[Content], MaskFile | PersonMask]
"""Finds the mask of a photograph; an ImageError where it has none."""


@dataclass(frozen=True)
class PlannedRegion:
    """A part of every photograph, and what it is painted with; no look = the photograph is kept there."""

    mask_of: MaskOf
    look: Look | None
    strength: float


def find_masks(text: str, feather: float, output: str) -> MaskOf:
    """``sky.png`` for all photographs, ``masks/`` with one for each, or ``person``; ``not:`` before it turns it round.

    Raises:
        ValueError: it names nothing.
        ImageError: there is no such file, no picture in the folder, or ``output`` is that folder.
        MissingExtraError, ModelFileError: people cannot be found; see ``fetch_person_model``.
    """
    path, inverse = parse_mask(text)
    if str(path) == "person" and not os.path.exists(path):
        fetch_person_model()  # now, not once for every picture if it cannot be had
        return lambda _: PersonMask(inverse, feather)
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise ImageError(f"there is no mask {str(path)!r}")
        return lambda _: MaskFile(path, inverse, feather)
    found, problems = find_pictures(path, leave_out=[_output_below(path, output, "masks")])
    if problems or not found:
        raise problems[0] if problems else no_pictures(path)
    by_name = {one.relative_to(path).with_suffix("").as_posix(): one for one in reversed(found)}

    def mask_of(content: Content) -> MaskFile:
        name = (content.folder / content.stem).as_posix()
        if name not in by_name:
            raise ImageError(f"{content.name!r} has no mask: there is no picture {name!r} in {str(path)!r}")
        return MaskFile(by_name[name], inverse, feather)

    return mask_of


def parse_region(text: str, feather: float, output: str) -> PlannedRegion:
    """``MASK=STYLE[:WEIGHT][,STYLE[:WEIGHT]...][@STRENGTH]``, or ``MASK=keep``.

    Raises:
        ValueError: it is nothing of the kind, or the strength cannot be.
        ImageError: as for ``find_masks``.
    """
    number = r"\d+(?:\.\d*)?|\.\d+"
    match = re.fullmatch(rf"([^=]+)=(.+?)(?:@({number}))?", text)
    if not match:
        raise ValueError(
            f"region must be MASK=STYLE, such as sky.png=wave, sky.png=wave:2,ink@0.5 or face.png=keep; got {text!r}"
        )
    mask_of, words, strength = find_masks(match[1], feather, output), match[2], float(match[3] or 1)
    try:
        check_options(strength=strength)
    except ValueError as error:
        raise ValueError(f"region {text!r}: {error}") from error
    if words == "keep" and match[3]:
        raise ValueError(f"region {text!r}: keep takes no strength; give the styles around it one")
    if words == "keep":
        return PlannedRegion(mask_of, None, strength)
    names, weights = zip(
        *(parse_style(word) for word in ([words] if os.path.exists(words) else words.split(","))), strict=True
    )
    return PlannedRegion(mask_of, Look("+".join(names), tuple(map(gallery.find, names)), weights), strength)
