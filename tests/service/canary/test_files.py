"""What processes have counted, and whether they live: in files that outlast them."""

import subprocess
import sys
from pathlib import Path

from service.canary.evidence import Evidence, Moments, Side
from service.canary.files import FOLDER, Shelf

TRIAL = "2-beside-1-20260301T120000.000000"


def seen(requests: int) -> Evidence:
    moments = Moments.of([0.5] * requests)
    return Evidence(canary=Side(requests=requests, seconds={1: moments}, bins=(requests, 0, 1)))


# A process of its own: one that has threads had better not be forked.
OTHER = """
import os, signal, sys
from tests.service.canary.test_files import *
shelf = Shelf(Path(sys.argv[1]), TRIAL)
shelf.write({"step": seen(3)})
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
shelf.close()
"""


def die(model: Path, *, killed: bool) -> None:
    """Another process counts three requests, and ends: as it should, or not."""
    ended = subprocess.run([sys.executable, "-c", OTHER, model, "killed" if killed else "as it should"], check=False)
    assert ended.returncode == (-9 if killed else 0)


def test_what_all_have_counted_adds_up_also_of_those_that_are_gone(tmp_path: Path) -> None:
    die(tmp_path, killed=True)
    die(tmp_path, killed=False)
    first, second = Shelf(tmp_path, TRIAL), Shelf(tmp_path, TRIAL)
    first.write({"step": seen(10)})
    first.write({"step": seen(11), "next": seen(1)})
    second.write({"next": seen(2)})

    assert second.read() == first.read()
    assert {step: each.canary.requests for step, each in first.read().items()} == {"step": 17, "next": 3}
    assert first.read()["step"].canary.bins == (17, 0, 3)


def test_only_those_that_were_killed_have_died(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, TRIAL)
    die(tmp_path, killed=False)
    assert shelf.deaths() == 0

    for count in (1, 2, 3):
        die(tmp_path, killed=True)
        assert shelf.deaths() == count


def test_one_of_them_leads_until_it_ends(tmp_path: Path) -> None:
    first, second = Shelf(tmp_path, TRIAL), Shelf(tmp_path, TRIAL)

    assert (first.leads(), second.leads(), first.leads()) == (True, False, True)
    first.close()
    assert second.leads()


def test_files_that_are_none_count_for_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, TRIAL)
    shelf.write({"step": seen(5)})
    (tmp_path / FOLDER / f"{TRIAL}.torn.json").write_bytes(b'{"step": {"can')
    (tmp_path / FOLDER / f"{TRIAL}.other.json").write_bytes(b'{"step": {"moons": 3}}')

    assert shelf.read()["step"].canary.requests == 5


def test_what_other_trials_left_is_swept_away(tmp_path: Path) -> None:
    before = Shelf(tmp_path, "2-beside-1-20260101T000000.000000")
    before.write({"step": seen(5)})
    shelf = Shelf(tmp_path, TRIAL)
    shelf.write({"step": seen(7)})
    assert shelf.leads()

    shelf.sweep()

    assert shelf.read()["step"].canary.requests == 7
    assert {path.name.split(".")[0] for path in (tmp_path / FOLDER).iterdir()} == {"lock", TRIAL.split(".")[0]}
