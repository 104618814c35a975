"""hornpipe jobs as a person uses it, in a terminal and in a script."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import hornpipe
from contract.job import Job, Order, Progress, State
from contract.jobs import Jobs, opened
from tests.waiting import wait_until

LONG = "roc_auc 0.60 is worse than production's 0.71 by more than 0.01, " * 5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def jobs(path: Path) -> Iterator[Jobs]:
    with opened(path) as table:
        yield table


@pytest.fixture
def run(path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def call(*arguments: str) -> tuple[int, str]:
        code = hornpipe.main(["jobs", *arguments, "--jobs", str(path)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def claimed(jobs: Jobs, model: str = "flights") -> Job:
    jobs.ask(Order(model=model, config="[data]", cause="drift", asked_by="ann", why="it rang"))
    job = jobs.claim("w1", 60.0)
    assert job is not None
    return job


def test_a_list_has_a_line_a_job_however_narrow_the_terminal(
    jobs: Jobs, run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("list")[1].startswith("no jobs in ")
    result = {"version": 8, "reasons": [{"check": "production", "passed": False, "detail": LONG}]}
    jobs.end(claimed(jobs), "refused", result)
    jobs.renew(claimed(jobs), 60.0, Progress(stage="training", epoch=3, epochs=8, loss=0.49, eta=61.0))
    monkeypatch.setattr("hornpipe.job_view.LOG_WIDTH", 90)
    code, said = run("list")
    lines = [line.rstrip() for line in said.splitlines() if "flights" in line]

    assert code == 0
    assert len(lines) == 2
    assert "running" in lines[0]
    assert "epoch 3 of 8" in lines[0]
    assert "refused" in lines[1]
    assert lines[1].endswith("…")
    assert run("list", "--state", "failed")[1].startswith("no such jobs in ")


def test_show_says_who_asked_and_what_came_of_it_and_all_as_json(
    jobs: Jobs, run: Callable[..., tuple[int, str]]
) -> None:
    job = claimed(jobs)
    jobs.end(job, "failed", error="the config of flights:\n  training.epoks: unknown key")
    code, said = run("show", "1")

    assert code == 0
    for part in ("failed", "by ann (drift): it rang", "1 of 3", "training.epoks: unknown key"):
        assert part in said
    assert json.loads(run("show", "1", "--json")[1])["order"]["config"] == "[data]"


def test_an_order_of_another_hornpipe_is_shown(jobs: Jobs, path: Path, run: Callable[..., tuple[int, str]]) -> None:
    jobs.ask(Order(model="flights", config="[data]", cause="drift", asked_by="ann", why="it rang"))
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE job SET wish = json_insert(wish, '$.gpus', 8)")

    assert "gpus: Extra inputs are not permitted" in run("show", "1")[1]
    assert "gpus: Extra inputs" in run("list")[1]
    code, said = run("retry", "1")
    assert code == 1
    assert "job 1 was asked for by another Hornpipe" in said
    assert run("cancel", "1")[0] == 0


def test_what_cannot_be_done_says_what_can(jobs: Jobs, path: Path, run: Callable[..., tuple[int, str]]) -> None:
    job = claimed(jobs)
    for action in ("show", "log", "cancel", "retry"):
        code, said = run(action, "7")
        assert code == 1
        assert f"there is no job 7 in {path}; hornpipe jobs list shows those that are there" in said
    jobs.end(job, "failed", error="no data")
    assert run("retry", "1")[0] == 0
    code, said = run("retry", "1")
    assert code == 1
    assert "already has an open job, number 2: hornpipe jobs log 2 --follow shows it" in said


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("refused", 3), ("failed", 1), ("cancelled", 1)])
def test_following_ends_with_the_job_and_its_exit_code_says_how(
    jobs: Jobs, path: Path, run: Callable[..., tuple[int, str]], state: State, code: int
) -> None:
    job = claimed(jobs)
    jobs.write(job.id, ["one [bold]line[/]"])

    def end_it() -> None:
        with opened(path) as table:
            wait_until(lambda: table.get(job.id).progress.epoch == 2, "it is seen")
            table.write(job.id, ["another"])
            table.end(job, state, {"version": 4} if code != 1 else None, "why" if code == 1 else None)

    ending = threading.Thread(target=end_it)
    ending.start()
    jobs.renew(job, 60.0, Progress(stage="training", epoch=2, epochs=8))
    found, said = run("log", str(job.id), "--follow")
    ending.join()

    assert found == code
    assert said.startswith("one [bold]line[/]\nanother\n")
    assert state in said


def test_who_only_looks_makes_no_table(run: Callable[..., tuple[int, str]], path: Path) -> None:
    code, said = run("list")
    assert (code, said.startswith(f"no jobs: there is no job table {path} yet")) == (0, True)
    for wish in (("show", "1"), ("log", "1"), ("cancel", "1"), ("retry", "1")):
        code, said = run(*wish)
        assert (code, said.startswith(f"hornpipe: there is no job table {path}; --jobs")) == (1, True)
    assert not path.exists()


def test_numbers_that_are_none_are_refused(
    jobs: Jobs, run: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no job 99999999999999999999 in " in run("show", "9" * 20)[1]
    for wrong in (
        ("list", "--most", "0"),
        ("run", "x.toml", "--attempts", "0"),
        ("run", "x.toml", "--attempts", "101"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run(*wrong)
        assert "expected a whole number from 1 to" in capsys.readouterr().err
    for lease in ("0", "-5", "nan", "inf", "soon"):
        with pytest.raises(SystemExit, match="2"):
            hornpipe.main(["worker", f"--lease={lease}"])
        assert "expected from 1 to 86400 seconds" in capsys.readouterr().err


def test_a_reason_that_is_too_long_is_told(run: Callable[..., tuple[int, str]], path: Path) -> None:
    code, said = run("run", "examples/flights/train.toml", "--why", "x" * 1001)
    assert (code, "why: String should have at most 1000 characters" in said) == (1, True)
    assert not path.exists()


def test_data_that_were_refused_are_shown_with_their_reason(jobs: Jobs, run: Callable[..., tuple[int, str]]) -> None:
    jobs.end(claimed(jobs), "refused", error="flights:\n  nothing new to learn", refusal="nothing_new")
    assert "nothing new to learn" in run("show", "1")[1]
    assert json.loads(run("show", "1", "--json")[1])["refusal"] == "nothing_new"
    assert run("log", "1", "--follow")[0] == 3
