"""What Ctrl-C does, for the server and for videos: however often it is pressed, the way out is not interrupted."""

import signal

import pytest

from restyle.cli.signals import only_one_ctrl_c


@pytest.fixture(autouse=True)
def signals_as_before():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_only_the_first_ctrl_c_counts():
    with pytest.raises(KeyboardInterrupt), only_one_ctrl_c():
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def test_without_ctrl_c_all_is_as_before():
    with only_one_ctrl_c():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_video_is_left_once(tmp_path, monkeypatch):
    """In 5 of 36 tries a second Ctrl-C ended the program with SIGABRT, in the end of a library's threads."""
    pytest.importorskip("av")
    pytest.importorskip("cv2")
    from restyle.cli.video import video

    def interrupted(*_, **__):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)  # must not come through
            cleaned_up.append(True)

    cleaned_up = []
    monkeypatch.setattr("restyle.cli.video._parse_time", interrupted)
    with pytest.raises(KeyboardInterrupt):
        video("film.mp4", ["wave"], tmp_path / "painted.mp4")
    assert cleaned_up == [True]
