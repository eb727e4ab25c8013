"""Pictures on Ray: what one process paints, workers paint, even if one of them is killed. Skipped without the extra."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from restyle.batch import cluster
from restyle.errors import ImageError, MissingExtraError, UnknownNameError
from restyle.image import read_image, write_image

COUNT = 200


@pytest.fixture
def photos(tmp_path, photo):
    (tmp_path / "photos").mkdir()
    small = np.ascontiguousarray(photo[:48, :64])
    for number in range(COUNT):
        write_image(tmp_path / "photos" / f"{number:03}.png", np.roll(small, number, axis=1))
    (tmp_path / "photos" / "bad.png").write_bytes(b"no picture")
    return tmp_path


def test_without_ray_the_message_says_how_to_install_it(monkeypatch, photos, run):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = run("image", photos / "photos", "--style", "wave", "-o", photos / "out", "--cluster", "local")
    assert code == 7
    assert "pip install 'restyle[scale]'" in err
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError):
        cluster.write_manifest([], photos / "manifest.parquet")


def test_a_cluster_that_is_not_there_is_one_sentence(monkeypatch, photos, run):
    ray = types.ModuleType("ray")
    ray.data = types.ModuleType("ray.data")
    ray.init = lambda **_: (_ for _ in ()).throw(ConnectionError("nobody\nanswers"))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", ray.data)
    words = ["image", photos / "photos", "--style", "wave", "-o", photos / "out", "--cluster", "10.0.0.1:6379"]
    code, _, err = run(*words)
    assert (code, "no Ray cluster at '10.0.0.1:6379': nobody answers" in err) == (5, True)
    assert "Traceback" not in err


def test_results_survive_the_way_from_a_worker():
    job = cluster.Job(Path("a.png"), Path("b.png"), None)
    for error in (ImageError("broken"), UnknownNameError("style", "wav", ["wave"]), MemoryError("too much"), None):
        sent = cluster.Result(job, error, (3, 4), 0.5, ("note",))
        got = cluster._unpacked(job, cluster._packed(sent))
        assert type(got.error) is type(error) and str(got.error) == str(error)
        assert (got.size, got.seconds, got.notes, got.job) == ((3, 4), 0.5, ("note",), job)


def test_nothing_is_lost_and_nothing_twice_when_a_worker_is_killed(photos):
    pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    words = ["photos", "--style", "wave", "--precision", "f32"]
    command = [sys.executable, "-m", "restyle", "image", *words]
    subprocess.run([*command, "-o", "alone", "-q", "--threads", "1"], cwd=photos, stderr=subprocess.DEVNULL)
    with subprocess.Popen(
        [*command, "-o", "out", "--cluster", "local", "--threads", "1", "--json"],
        cwd=photos, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while process.poll() is None and len(list((photos / "out").glob("*.png"))) < 3:
            time.sleep(0.02)
        killed = [pid for pid in _descendants(process.pid) if b"MapWorker" in _command(pid)]
        for pid in killed[:1]:
            os.kill(pid, signal.SIGKILL)
        there = len(list((photos / "out").glob("*.png")))
        out, err = process.communicate(timeout=300)
    assert killed and there < COUNT, err  # it was in the middle
    assert process.returncode == 3, err  # the bad picture's
    rows = json.loads(out)["pictures"]
    assert len(rows) == COUNT + 1 and sum("error" in row for row in rows) == 1
    assert "bad.png" in err and "Traceback" not in err
    names = [f"{number:03}.png" for number in range(COUNT)]
    assert sorted(path.name for path in (photos / "out").glob("*.png")) == names
    for name in names:
        assert np.array_equal(read_image(photos / "out" / name).pixels, read_image(photos / "alone" / name).pixels)
    table = parquet.read_table(photos / "out" / "manifest.parquet").to_pylist()
    assert len(table) == COUNT + 1
    assert {row["output"] for row in table if row["output"]} == {f"out/{name}" for name in names}
    assert {row["style"] for row in table} == {"wave"} and {row["strength"] for row in table} == {1.0}


def test_a_manifest_is_continued(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    first = {"content": "a", "style": "wave", "output": "a.png", "seconds": 1.0}
    cluster.write_manifest([first, {**first, "content": "b"}], tmp_path / "m.parquet")
    cluster.write_manifest([{**first, "seconds": 2.0}, {"content": "c", "error": "broken"}], tmp_path / "m.parquet")
    rows = {row["content"]: row for row in parquet.read_table(tmp_path / "m.parquet").to_pylist()}
    assert {name: row["seconds"] for name, row in rows.items()} == {"a": 2.0, "b": 1.0, "c": None}
    assert rows["c"]["error"] == "broken"
    assert [path.name for path in tmp_path.iterdir()] == ["m.parquet"]
    (tmp_path / "m.parquet").write_bytes(b"no table")
    with pytest.raises(OSError, match="cannot write the manifest"):
        cluster.write_manifest([first], tmp_path / "m.parquet")
    assert (tmp_path / "m.parquet").read_bytes() == b"no table"


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _descendants(root):
    """Processes started by a process, and by those; only of this very test's command."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found
