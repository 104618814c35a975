"""Which old versions go, and that they go whole."""

from pathlib import Path

import pytest

from contract import bundle, routing
from contract.errors import RoutingError
from contract.pruning import REMOVED_PREFIX, keep_by_policy, prune
from tests.contract.published import NAME, publish


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Eight versions, of which 1, 4 and then 6 were promoted."""
    for _ in range(8):
        publish(tmp_path, policy="manual", keep=2)
    for version in (1, 4, 6):
        routing.promote(tmp_path, NAME, version, by="ada", why="")
    return tmp_path


def test_production_the_one_before_it_and_what_is_newer_stay(models: Path) -> None:
    assert prune(models, NAME, 1, by="ada", why="") == [1, 2, 3, 5]
    assert bundle.versions(models, NAME) == [4, 6, 7, 8]
    assert [(e.action, e.to_version) for e in routing.history(models, NAME)][-4:] == [
        ("removed", version) for version in (1, 2, 3, 5)
    ]
    assert routing.rollback(models, NAME, by="ada", why="").production == 4


def test_so_many_of_the_newest_stay(models: Path) -> None:
    assert prune(models, NAME, 5, by="ada", why="") == [1, 2, 3]
    assert prune(models, NAME, 5, by="ada", why="") == []


def test_whatever_has_a_role_stays(models: Path) -> None:
    routing.canary(models, NAME, 3, 5, by="ada", why="")
    routing.shadow(models, NAME, 2, by="ada", why="")
    routing.pin(models, NAME, 1, by="ada", why="")
    assert prune(models, NAME, 1, by="ada", why="") == []

    routing.canary_off(models, NAME, by="ada", why="")
    assert prune(models, NAME, 1, by="ada", why="") == [3, 5]


def test_also_while_the_model_is_unloaded(models: Path) -> None:
    routing.unload(models, NAME, by="ada", why="")

    assert prune(models, NAME, 1, by="ada", why="") == [1, 2, 3, 5]
    assert 6 in bundle.versions(models, NAME)


def test_a_dry_run_changes_nothing(models: Path) -> None:
    before = sorted(models.rglob("*"))

    assert prune(models, NAME, 1, by="ada", why="", dry_run=True) == [1, 2, 3, 5]
    assert sorted(models.rglob("*")) == before


def test_what_a_killed_process_left_is_removed(models: Path) -> None:
    left = models / NAME / f"{REMOVED_PREFIX}3-1"
    (models / NAME / "3").rename(left)

    prune(models, NAME, 8, by="ada", why="")

    assert not left.exists()


def test_where_nothing_serves_nothing_goes(tmp_path: Path) -> None:
    for _ in range(3):
        publish(tmp_path)

    assert prune(tmp_path, NAME, 1, by="ada", why="") == []
    assert keep_by_policy(tmp_path, NAME, by="ada") == []


def test_the_policy_is_that_of_production(models: Path) -> None:
    assert keep_by_policy(models, NAME, by="ada") == [1, 2, 3, 5]
    assert routing.history(models, NAME)[-1].why == "promotion.keep = 2"


def test_without_keep_everything_stays(tmp_path: Path) -> None:
    for _ in range(3):
        publish(tmp_path)
    routing.promote(tmp_path, NAME, 3, by="ada", why="")

    assert keep_by_policy(tmp_path, NAME, by="ada") == []


def test_what_cannot_be_is_refused(models: Path) -> None:
    with pytest.raises(RoutingError, match="at least one version must be kept, got 0"):
        prune(models, NAME, 0, by="ada", why="")
    with pytest.raises(RoutingError, match="there is no model"):
        prune(models, "fligths", 1, by="ada", why="")
    assert bundle.versions(models, NAME) == list(range(1, 9))
