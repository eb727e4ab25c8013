"""The Dockerfile, as far as it can be tried without Docker: its words mean something, its health check is true."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
from served import serving

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def steps():
    """[(instruction, its words)]"""
    lines = (PROJECT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line and not line.startswith("#")]


def words_of(steps, instruction):
    return [words for name, words in steps if name == instruction]


def test_what_it_copies_and_installs_is_there(steps):
    for words in words_of(steps, "COPY"):
        if "--from" not in words:
            assert all((PROJECT / name).exists() for name in words.split()[:-1]), words
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (wanted,) = re.findall(r"pip install --no-cache-dir '\.\[(.*?)\]'", " ".join(words_of(steps, "RUN")))
    assert set(wanted.split(",")) == {"serve", "video"} <= set(extras)


def test_it_runs_as_an_ordinary_user_and_serves(steps, run):
    (user,) = words_of(steps, "USER")
    assert int(user) > 0 and [name for name, _ in steps].index("USER") < [name for name, _ in steps].index("ENTRYPOINT")
    program, *words = json.loads(words_of(steps, "ENTRYPOINT")[0])
    assert program == "restyle"
    code, _, err = run(*words, "--token-file", "none")  # its words are understood: only that file is missing
    assert (code, "cannot read the token file" in err) == (3, True)


def test_the_health_check_tells_whether_the_server_answers(steps, model):
    (check,) = words_of(steps, "HEALTHCHECK")
    program, *words = json.loads(re.search(r"CMD\s+(\[.*\])", check)[1])
    assert program == "python" and words_of(steps, "EXPOSE") == ["8000"]

    def ask(port):
        command = [sys.executable, *(word.replace(":8000/", f":{port}/") for word in words)]
        return subprocess.run(command, capture_output=True).returncode

    with serving(model) as ((_, port), _):
        assert ask(port) == 0
    assert ask(port) != 0
