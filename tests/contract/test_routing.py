"""Promotion and rollback, and the history of both."""

import json
from pathlib import Path

import pytest

from contract import routing
from contract.errors import BundleError, RoutingError
from contract.evidence import Reason, Verdict
from tests.conftest import NAME, add_version


def production(models: Path) -> int | None:
    return routing.read(models, NAME).production


def test_promotions_and_rollbacks_are_undone_one_by_one(models: Path) -> None:
    for version in (2, 3):
        add_version(models)
        routing.promote(models, NAME, version, by="ada", why="better")

    assert production(models) == 3
    assert routing.rollback(models, NAME, by="ada", why="worse").production == 2
    assert routing.rollback(models, NAME, by="ada", why="worse").production == 1
    with pytest.raises(RoutingError, match="no earlier production version"):
        routing.rollback(models, NAME, by="ada", why="worse")
    assert production(models) == 1

    events = routing.history(models, NAME)
    assert [(e.action, e.from_version, e.to_version) for e in events] == [
        ("promote", None, 1),
        ("promote", 1, 2),
        ("promote", 2, 3),
        ("rollback", 3, 2),
        ("rollback", 2, 1),
    ]
    assert {(e.by, e.why) for e in events[1:]} == {("ada", "better"), ("ada", "worse")}


def test_the_file_is_what_the_contract_says(models: Path) -> None:
    assert json.loads((models / NAME / routing.ROUTING).read_text()) == {
        "production": 1,
        "canary": None,
        "shadow": None,
    }


def test_a_version_or_model_that_is_not_there(models: Path) -> None:
    with pytest.raises(RoutingError, match=r"flights has no version 9; versions: 1"):
        routing.promote(models, NAME, 9, by="test", why="")
    with pytest.raises(RoutingError, match=r"no model .fligths.*models: flights"):
        routing.promote(models, "fligths", 1, by="test", why="")
    with pytest.raises(RoutingError, match=r"no model .\.\./flights."):
        routing.rollback(models, "../flights", by="test", why="")


def test_an_altered_version_is_not_promoted(models: Path) -> None:
    (add_version(models).path / "saved_model.pb").write_bytes(b"altered")
    with pytest.raises(BundleError, match=r"saved_model\.pb"):
        routing.promote(models, NAME, 2, by="test", why="")

    assert production(models) == 1
    assert len(routing.history(models, NAME)) == 1


def test_a_history_line_cut_short_by_a_crash_is_neither_read_nor_joined(models: Path) -> None:
    with (models / NAME / routing.HISTORY).open("a") as file:
        file.write('{"at": "2026-')
    assert len(routing.history(models, NAME)) == 1

    add_version(models)
    routing.promote(models, NAME, 2, by="test", why="")
    assert [event.to_version for event in routing.history(models, NAME)] == [1, 2]


def test_a_routing_that_is_none_is_an_error(models: Path) -> None:
    (models / NAME / routing.ROUTING).write_text('{"production": "latest"}')
    with pytest.raises(RoutingError, match="production"):
        routing.read(models, NAME)


def test_a_verdict_is_noted_and_changes_no_traffic(models: Path) -> None:
    add_version(models)
    routing.judged(models, NAME, 2, passed=False, by="ada", why="roc_auc: -0.1")
    routing.judged(models, NAME, 2, passed=True, by="ada", why="5 checks passed")

    assert production(models) == 1
    events = routing.history(models, NAME)[1:]
    assert [(e.action, e.from_version, e.to_version, e.by, e.why) for e in events] == [
        ("refused", 1, 2, "ada", "roc_auc: -0.1"),
        ("passed", 1, 2, "ada", "5 checks passed"),
    ]
    with pytest.raises(RoutingError, match="no earlier production version"):  # a verdict is nothing to go back to
        routing.rollback(models, NAME, by="ada", why="")


def test_a_verdict_before_anything_serves(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    routing.judged(tmp_path, NAME, 1, passed=True, by="ada", why="")

    assert [(e.action, e.from_version) for e in routing.history(tmp_path, NAME)] == [("passed", None)]


def test_what_the_gate_refused_is_not_promoted_by_accident(models: Path) -> None:
    reasons = (
        Reason(check="roc_auc", passed=False, detail="-0.1 against flights/1"),
        Reason(check="slices", passed=True, detail="fine"),
        Reason(check="limits", passed=False, detail="9 MB; allowed 1 MB"),
    )
    add_version(models, verdict=Verdict(passed=False, against=1, reasons=reasons))
    add_version(models, verdict=Verdict(passed=True, against=1, reasons=reasons[1:2]))
    add_version(models, verdict=None)  # from before there was a gate
    with pytest.raises(RoutingError) as refused:
        routing.require_passed(models, NAME, 2)

    assert str(refused.value) == (
        "the gate refused flights/2:\n  roc_auc: -0.1 against flights/1\n  limits: 9 MB; allowed 1 MB\n"
        "to promote it all the same: --force"
    )
    for version in (3, 4):
        routing.require_passed(models, NAME, version)
    with pytest.raises(RoutingError, match="flights has no version 9"):
        routing.require_passed(models, NAME, 9)
