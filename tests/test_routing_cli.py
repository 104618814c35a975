"""hornpipe prune, canary, promote and rollback as a person types them: what is said, and what is so afterwards."""

from collections.abc import Callable
from pathlib import Path

import pytest

import hornpipe
from contract import bundle, routing
from contract.routing import Canary
from tests.contract.published import NAME, publish

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str]:
        code = hornpipe.main([*arguments, "--models", str(tmp_path)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Six versions, of which 1 and then 4 were promoted."""
    for _ in range(6):
        publish(tmp_path)
    for version in (1, 4):
        routing.promote(tmp_path, NAME, version, by="ada", why="")
    return tmp_path


def test_prune_says_what_would_go_and_what_went(models: Path, run: Run) -> None:
    assert run("prune", NAME, "--keep", "2", "--dry-run") == (0, "flights: would remove 2, 3\n")
    assert bundle.versions(models, NAME) == [1, 2, 3, 4, 5, 6]
    assert run("prune", NAME, "--keep", "2", "--why", "room") == (0, "flights: removed 2, 3\n")
    assert bundle.versions(models, NAME) == [1, 4, 5, 6]
    assert [(event.action, event.why) for event in routing.history(models, NAME)][-2:] == [("removed", "room")] * 2
    assert run("prune", NAME, "--keep", "2") == (0, "flights: removed nothing\n")
    assert run("rollback", NAME) == (0, "flights: production 4 -> 1\n")


def test_prune_says_what_it_cannot_do(models: Path, run: Run) -> None:
    assert run("prune", NAME, "--keep", "0") == (1, "hornpipe: at least one version must be kept, got 0\n")
    code, said = run("prune", "trains", "--keep", "2")
    assert (code, "there is no model 'trains'" in said) == (1, True)
    with pytest.raises(SystemExit, match="2"):
        run("prune", NAME, "--keep", "all")
    assert bundle.versions(models, NAME) == [1, 2, 3, 4, 5, 6]


def test_promote_prunes_by_the_policy_of_what_it_promotes(models: Path, run: Run) -> None:
    publish(models, keep=2)
    assert run("promote", NAME, "7") == (
        0,
        "flights: production 4 -> 7\nflights: removed 1, 2, 3, 5, by promotion.keep\n",
    )
    assert bundle.versions(models, NAME) == [4, 6, 7]


def test_a_watched_canary_is_left_to_the_service_and_another_is_not(models: Path, run: Run) -> None:
    code, said = run("canary", NAME, "5", "--percent", "10", "--watched")
    assert code == 0, said
    assert routing.read(models, NAME).canary == Canary(version=5, percent=10, watched=True)
    assert run("canary", NAME, "5", "--percent", "20")[0] == 0
    assert routing.read(models, NAME).canary == Canary(version=5, percent=20, watched=False)
    assert run("canary", NAME, "off")[0] == 0
    assert routing.read(models, NAME).canary is None
    assert run("canary", NAME, "off") == (1, "hornpipe: flights has no canary\n")


@pytest.mark.parametrize("percent", ["0", "101", "nan", "-5"])
def test_a_share_that_is_none_is_refused(models: Path, run: Run, percent: str) -> None:
    code, said = run("canary", NAME, "5", f"--percent={percent}", "--watched")
    assert code == 1
    assert "percent" in said
    assert routing.read(models, NAME).canary is None


def test_what_the_gate_refused_gets_traffic_by_force_alone(models: Path, run: Run) -> None:
    bad = str(publish(models, against=4, passed=False))
    for command in (("canary", NAME, bad, "--watched"), ("promote", NAME, bad)):
        code, said = run(*command)
        assert (code, "the gate refused flights/7" in said, "--force" in said) == (1, True, True)
    assert routing.read(models, NAME).production == 4
    assert run("canary", NAME, bad, "--watched", "--force")[0] == 0
    assert routing.read(models, NAME).canary == Canary(version=7, percent=5, watched=True)
