"""Killed at any moment and started again, a run ends in the same weights and the same record; with real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Lives = Callable[[Path, int, int, str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def lives() -> Iterator[Lives]:
    """Into this folder, with this seed, so many that are ended by these signals, and one to the end: how each ended."""
    command = [sys.executable, "-m", "tests.training.lives"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def live(folder: Path, seed: int, count: int, names: str) -> list[dict[str, Any]]:
            process.stdin.write(f"{folder} {seed} {count} {names}\n")
            return json.loads(process.stdout.readline())

        yield live


@pytest.fixture(scope="module")
def never_killed(lives: Lives, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("never_killed")
    assert lives(folder, 0, 0, "SIGKILL")[0]["code"] == 0
    return dict(np.load(folder / "end.npz"))


def assert_same_end(folder: Path, expected: dict[str, np.ndarray]) -> None:
    end = dict(np.load(folder / "end.npz"))
    assert json.loads(str(end.pop("record"))) == json.loads(str(expected["record"]))
    for name, weights in end.items():
        np.testing.assert_array_equal(weights, expected[name], err_msg=name)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.timeout(900))])
@pytest.mark.slow
def test_a_killed_run_ends_like_one_never_killed(
    lives: Lives, never_killed: dict[str, np.ndarray], tmp_path: Path, kills: int
) -> None:
    endings = lives(tmp_path, kills, kills, "SIGKILL")

    assert [ending["code"] for ending in endings] == [-signal.SIGKILL] * kills + [0]
    assert_same_end(tmp_path, never_killed)
    assert len(list((tmp_path / "small").iterdir())) == 1, "all lives went on with one run"


def test_a_signal_saves_and_stops_within_two_seconds(
    lives: Lives, never_killed: dict[str, np.ndarray], tmp_path: Path
) -> None:
    *interrupted, last = lives(tmp_path, 1, 5, "SIGTERM,SIGINT")

    for i, ending in enumerate(interrupted):
        if i % 4 == 3 and not ending["said"]:
            continue  # the signal came before anybody listened, and before there was anything to save
        assert ending["code"] == 3, ending
        assert ending["seconds"] < 2 * (os.cpu_count() or 1)  # of processor time: others may have it
        assert "the same command" in ending["said"]
    assert "saved at step " in interrupted[0]["said"]
    assert last["code"] == 0
    assert_same_end(tmp_path, never_killed)
