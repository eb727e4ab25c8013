"""A window for live pictures, by Tk: it comes with Python, so nothing has to be installed for it.

Measured under a virtual display, a 1280 x 720 picture takes about as long to show as with pygame-ce (5 ms each), whose
package is 35 MB installed; an OpenCV with windows gets in the way of the one without that all else here stands on.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restyle.errors import DeviceError

Pixels = NDArray[np.uint8]

SHARE_OF_SCREEN = 0.85
"""A window takes at most so much of the screen's height and width at first; a person can enlarge it."""

SMALLEST_SIDE = 16
"""In pixels; a person who makes the window smaller sees nothing, which is no error."""

ANSWER_S = 2.0
"""How long the answer to a key stays."""


class Window:
    """Shows pictures and hears keys, in the thread that made it: on macOS that must be the main thread.

    Pictures follow the window's size and keep their shape. Escape and the window's own cross are the key q.

    Args:
        size: (height, width) of the pictures.
        press: Called with each key that is pressed; what it answers is shown.
        keys: The keys, and what they ask for; shown below the picture.

    Raises:
        DeviceError: there is no display, or this Python has no Tk.
    """

    def __init__(
        self, size: tuple[int, int], press: Callable[[str], str | None] = lambda _: None, keys: Mapping[str, str] = {}
    ) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise DeviceError(
                "no window can be opened: this Python has no tkinter (on Debian and Ubuntu: apt install python3-tk)"
            ) from error
        try:
            self._root = tkinter.Tk(className="restyle")
        except tkinter.TclError as error:
            raise DeviceError(f"no window can be opened: {error}") from error
        self._press, self._pressed = press, list[str]()
        self._failure: BaseException | None = None
        self._answered, self._told = -ANSWER_S, ""
        self._build(tkinter, "   ".join(f"{key} {word.lower()}" for key, word in keys.items()))
        self._fit(size)
        self.update()

    def write(self, pixels: Pixels) -> None:
        """Show a picture, (H, W, 3) uint8 RGB, and hear the keys pressed meanwhile."""
        room = self._shown.winfo_height(), self._shown.winfo_width()
        height, width = _fitted((pixels.shape[0], pixels.shape[1]), room)
        if pixels.shape[:2] != (height, width):
            how = cv2.INTER_AREA if height < pixels.shape[0] else cv2.INTER_LINEAR
            pixels = cv2.resize(pixels, (width, height), interpolation=how)
        # The format PPM is the bare pixels after one line, and Tk reads it without a file.
        self._picture.configure(data=b"P6 %d %d 255\n" % (width, height) + pixels.tobytes())
        self.update()

    def tell(self, words: str) -> None:
        """Show in the title how it goes. From any thread."""
        self._told = words

    def update(self) -> None:
        """Hear keys and draw what must be drawn; to be called again and again while no picture comes."""
        self._root.update()
        if self._failure:
            failure, self._failure = self._failure, None
            raise failure
        pressed, self._pressed[:] = self._pressed[:], []
        for key in pressed:
            if answer := self._press(key):
                self._status.configure(text=answer)
                self._answered = time.monotonic()
        if time.monotonic() - self._answered >= ANSWER_S:
            self._status.configure(text="")
        self._root.title(f"restyle: {self._told}" if self._told else "restyle")

    def close(self) -> None:
        """Take the window away."""
        self._root.destroy()
        del self._root, self._shown, self._picture, self._status
        gc.collect()  # the program would be aborted if another thread came to clear Tk's remains away

    def _build(self, tkinter: Any, words: str) -> None:
        root, ground, ink = self._root, "#111", "#ddd"
        root.configure(background=ground)
        bar = tkinter.Frame(root, background=ground)
        bar.pack(side="bottom", fill="x")
        self._status = tkinter.Label(bar, background=ground, foreground=ink)
        self._status.pack(side="right")
        tkinter.Label(bar, text=words, background=ground, foreground=ink).pack(side="left")
        self._picture = tkinter.PhotoImage(master=root)
        self._shown = tkinter.Label(root, image=self._picture, background=ground, borderwidth=0)
        self._shown.pack(expand=True, fill="both")
        # Keys only wait here: an error, or Ctrl-C, inside one of Tk's callbacks would be printed and forgotten.
        root.bind("<Key>", lambda event: self._pressed.append(event.char) if event.char else None)
        root.bind("<Escape>", lambda _: self._pressed.append("q"))
        root.protocol("WM_DELETE_WINDOW", lambda: self._pressed.append("q"))
        root.report_callback_exception = self._fail

    def _fail(self, _: object, error: BaseException, __: object) -> None:
        self._failure = error

    def _fit(self, size: tuple[int, int]) -> None:
        """Give the window a size for a picture of (height, width)."""
        root = self._root
        root.update_idletasks()
        bar = root.winfo_reqheight() - self._shown.winfo_reqheight()
        screen = root.winfo_screenheight() - bar, root.winfo_screenwidth()
        room = [min(side, round(SHARE_OF_SCREEN * most)) for side, most in zip(size, screen, strict=True)]
        height, width = _fitted(size, (room[0], room[1]))
        root.geometry(f"{width}x{height + bar}")


def _fitted(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) of a picture's shape that has room."""
    share = min(room[0] / size[0], room[1] / size[1])
    return max(SMALLEST_SIDE, round(size[0] * share)), max(SMALLEST_SIDE, round(size[1] * share))
