"""What a person asks for while a camera runs, by a key or a button: any thread asks, the one that paints obeys."""

from __future__ import annotations

import threading
import time

from restyle.video.camera import Camera, StyleSwitch

KEYS = {
    "n": "Next style",
    "+": "Stronger",
    "-": "Weaker",
    "m": "Mirror",
    "s": "Snapshot",
    "r": "Record",
    "q": "Quit",
}
"""The keys, and what they ask for."""

STEP = 0.1
"""What one press makes stronger or weaker."""


class Remote:
    """The switches of a running camera. For any threads.

    Args:
        camera: Whose picture is mirrored.
        styles: Of which the next is shown.
        strength: To begin with, 0..2.
        recording: Whether to record from the beginning.

    Attributes:
        strength: How strong to paint now.
        recording: Whether to record now.
        stopped: Whether to end.
    """

    def __init__(self, camera: Camera, styles: StyleSwitch, *, strength: float = 1.0, recording: bool = False) -> None:
        self._camera, self._styles = camera, styles
        self.strength, self.recording, self.stopped = strength, recording, False
        self._snapshot = threading.Event()

    def press(self, key: str) -> str | None:
        """Do what a key of ``KEYS`` asks for; a few words on how things stand now, None for another key."""
        match key:
            case "n":
                return f"style {self._styles.next(time.monotonic()) + 1}"
            case "+" | "-":
                changed = self.strength + (STEP if key == "+" else -STEP)
                self.strength = round(min(2.0, max(0.0, changed)), 2)
                return f"strength {self.strength:g}"
            case "m":
                self._camera.mirror = not self._camera.mirror
                return "mirrored" if self._camera.mirror else "not mirrored"
            case "s":
                self._snapshot.set()
                return "snapshot"
            case "r":
                self.recording = not self.recording
                return "recording" if self.recording else "recording ended"
            case "q":
                self.stopped = True
                return "the end"
        return None

    def take_snapshot(self) -> bool:
        """Whether a snapshot was asked for since this was asked last."""
        asked = self._snapshot.is_set()
        self._snapshot.clear()
        return asked
