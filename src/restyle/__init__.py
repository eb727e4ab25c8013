"""Repaint pictures in the style of other pictures.

>>> import restyle
>>> restyle.stylize("photo.jpg", "painting.jpg").save("out.png")  # doctest: +SKIP

The public names are loaded when they are first used, so importing restyle costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restyle.controls.masks import MaskFile as MaskFile
    from restyle.controls.masks import PersonMask as PersonMask
    from restyle.controls.masks import Region as Region
    from restyle.errors import DeviceError as DeviceError
    from restyle.errors import ImageError as ImageError
    from restyle.errors import LimitError as LimitError
    from restyle.errors import MissingExtraError as MissingExtraError
    from restyle.errors import ModelFileError as ModelFileError
    from restyle.errors import RestyleError as RestyleError
    from restyle.errors import ShapeError as ShapeError
    from restyle.errors import UnknownNameError as UnknownNameError
    from restyle.errors import VideoError as VideoError
    from restyle.image import Picture as Picture
    from restyle.image import read_image as read_image
    from restyle.image import write_image as write_image
    from restyle.style import Style as Style
    from restyle.stylizer import Stylizer as Stylizer
    from restyle.stylizer import stylize as stylize

__version__ = "0.1.0"

_HOMES = {
    "MaskFile": "controls.masks",
    "PersonMask": "controls.masks",
    "Region": "controls.masks",
    "Style": "style",
    "Stylizer": "stylizer",
    "stylize": "stylizer",
    "Picture": "image",
    "read_image": "image",
    "write_image": "image",
    "RestyleError": "errors",
    "DeviceError": "errors",
    "ImageError": "errors",
    "LimitError": "errors",
    "MissingExtraError": "errors",
    "ModelFileError": "errors",
    "ShapeError": "errors",
    "UnknownNameError": "errors",
    "VideoError": "errors",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'restyle' has no attribute {name!r}")
    return getattr(import_module(f"restyle.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
