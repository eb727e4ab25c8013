"""The camera's window, in a process of its own: Tk does not survive what the other tests leave behind in theirs."""

import subprocess
import sys
from pathlib import Path

import pytest

NOTHING_RAN = 5  # pytest's exit status


def test_the_camera_has_a_window():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rs",
        "-p",
        "no:cacheprovider",
        Path(__file__).with_name("window_cases.py"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if result.returncode == NOTHING_RAN:
        pytest.skip(result.stdout.partition("SKIPPED")[2].splitlines()[0])
    assert result.returncode == 0, result.stdout + result.stderr
