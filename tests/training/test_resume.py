"""Killed at any moment and started again, a run ends in the same weights and the same record; with real processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("never_killed")
    assert lives(folder, seed=0, count=0, names="SIGKILL")[0]["code"] == 0
    return dict(np.load(folder / "end.npz"))


def lives(folder: Path, seed: int, count: int, names: str) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "tests.training.lives", str(folder), str(seed), str(count), names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_same_end(folder: Path, expected: dict[str, np.ndarray]) -> None:
    end = dict(np.load(folder / "end.npz"))
    assert json.loads(str(end.pop("record"))) == json.loads(str(expected["record"]))
    for name, weights in end.items():
        np.testing.assert_array_equal(weights, expected[name], err_msg=name)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_killed_run_ends_like_one_never_killed(never_killed: dict, tmp_path: Path, kills: int) -> None:
    endings = lives(tmp_path, seed=kills, count=kills, names="SIGKILL")

    assert [ending["code"] for ending in endings] == [-signal.SIGKILL] * kills + [0]
    assert_same_end(tmp_path, never_killed)
    assert len(list((tmp_path / "small").iterdir())) == 1, "all lives went on with one run"


def test_a_signal_saves_and_stops_within_two_seconds(never_killed: dict, tmp_path: Path) -> None:
    *interrupted, last = lives(tmp_path, seed=1, count=5, names="SIGTERM,SIGINT")

    for i, ending in enumerate(interrupted):
        if i % 4 == 3 and not ending["said"]:
            continue  # the signal came before anybody listened, and before there was anything to save
        assert ending["code"] == 3, ending
        assert ending["seconds"] < 2 * (os.cpu_count() or 1)  # of processor time: others may have it
        assert "the same command" in ending["said"]
    assert "saved at step " in interrupted[0]["said"]
    assert last["code"] == 0
    assert_same_end(tmp_path, never_killed)
