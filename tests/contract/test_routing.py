"""Promotion and rollback, versions beside production, and the history of it all."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract import routing
from contract.errors import BundleError, RoutingError, RoutingUnreadable
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


@given(why=st.text())
@example("a line\u2028in a\x85line\x0c\r\n")
def test_whatever_is_said_comes_back(why: str) -> None:
    with TemporaryDirectory() as models:
        folder = Path(models)
        (folder / NAME).mkdir()
        routing.judged(folder, NAME, 1, passed=True, by=why, why=why)
        routing.judged(folder, NAME, 2, passed=True, by="", why="")
        assert [(event.by, event.why) for event in routing.history(folder, NAME)] == [(why, why), ("", "")]


def test_a_line_that_is_no_event_is_named(models: Path) -> None:
    with (models / NAME / routing.HISTORY).open("a") as file:
        file.write('{"at": "yesterday"}\n')
    with pytest.raises(RoutingUnreadable, match=r"history\.jsonl, line 2 is no event: .*"):
        routing.history(models, NAME)


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


def roles(models: Path) -> dict[int, tuple[str, ...]]:
    return routing.read(models, NAME).roles()


@pytest.fixture
def three(models: Path) -> Path:
    """Versions 1, in production, 2 and 3."""
    for _ in (2, 3):
        add_version(models)
    return models


def test_versions_beside_production_come_and_go_with_a_line_each(three: Path) -> None:
    said = {"by": "ada", "why": "trial"}
    routing.canary(three, NAME, 2, 2.5, **said)
    routing.canary(three, NAME, 2, 20, **said)
    routing.shadow(three, NAME, 3, **said)
    routing.pin(three, NAME, 3, **said)
    routing.pin(three, NAME, 1, **said)
    routing.pin(three, NAME, 1, **said)

    assert roles(three) == {1: ("production", "pinned"), 2: ("canary",), 3: ("shadow", "pinned")}
    assert routing.read(three, NAME).canary == routing.Canary(version=2, percent=20)
    assert routing.read(three, NAME).words() == "production 1, canary 2 (20%), shadow 3, pinned 1, 3"

    routing.canary_off(three, NAME, **said)
    routing.shadow_off(three, NAME, **said)
    routing.unpin(three, NAME, 3, **said)
    routing.unpin(three, NAME, 1, **said)
    assert roles(three) == {1: ("production",)}

    events = routing.history(three, NAME)[1:]
    assert [(e.action, e.from_version, e.to_version, e.percent) for e in events] == [
        ("canary", 1, 2, 2.5),
        ("canary", 1, 2, 20),
        ("shadow", 1, 3, None),
        ("pin", 1, 3, None),
        ("pin", 1, 1, None),
        ("pin", 1, 1, None),
        ("canary_off", 1, 2, None),
        ("shadow_off", 1, 3, None),
        ("unpin", 1, 3, None),
        ("unpin", 1, 1, None),
    ]
    assert {(e.by, e.why) for e in events} == {("ada", "trial")}


def test_promotion_and_rollback_end_the_trial_of_what_they_promote_and_no_other(three: Path) -> None:
    said = {"by": "ada", "why": ""}
    routing.canary(three, NAME, 2, 5, **said)
    routing.shadow(three, NAME, 3, **said)
    routing.pin(three, NAME, 2, **said)
    routing.promote(three, NAME, 2, **said)
    assert roles(three) == {2: ("production", "pinned"), 3: ("shadow",)}
    routing.promote(three, NAME, 3, **said)
    assert roles(three) == {3: ("production",), 2: ("pinned",)}
    routing.canary(three, NAME, 2, 50, **said)
    routing.rollback(three, NAME, **said)
    assert roles(three) == {2: ("production", "pinned")}


def test_a_model_is_taken_out_of_service_and_put_back_as_it_was(three: Path) -> None:
    routing.canary(three, NAME, 2, 5, by="ada", why="")
    before = routing.read(three, NAME)
    routing.unload(three, NAME, by="ada", why="")
    assert roles(three) == {}
    routing.load(three, NAME, by="ada", why="")

    assert routing.read(three, NAME) == before
    assert [(e.action, e.from_version, e.to_version) for e in routing.history(three, NAME)[-2:]] == [
        ("unload", 1, None),
        ("load", 1, None),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: routing.canary(m, NAME, 9, 5, by="", why=""), "flights has no version 9; versions: 1, 2, 3"),
        (lambda m: routing.canary(m, NAME, 1, 5, by="", why=""), "flights/1 is production: a canary is another"),
        (lambda m: routing.canary(m, NAME, 2, 0, by="", why=""), "more than 0 and at most 100 percent.*got 0"),
        (lambda m: routing.canary(m, NAME, 2, 100.5, by="", why=""), "more than 0 and at most 100 percent.*got 100.5"),
        (lambda m: routing.canary(m, NAME, 2, float("nan"), by="", why=""), "at most 100 percent.*got nan"),
        (lambda m: routing.canary_off(m, NAME, by="", why=""), "flights has no canary"),
        (lambda m: routing.shadow(m, NAME, 1, by="", why=""), "flights/1 is production: a shadow is another"),
        (lambda m: routing.shadow_off(m, NAME, by="", why=""), "flights has no shadow"),
        (lambda m: routing.pin(m, NAME, 0, by="", why=""), "flights has no version 0"),
        (lambda m: routing.unpin(m, NAME, 2, by="", why=""), "flights/2 is not pinned; pinned: none"),
        (lambda m: routing.unload(m, "fligths", by="", why=""), "no model .fligths."),
        (lambda m: routing.shadow_off(m, "../flights", by="", why=""), "no model .\\.\\./flights."),
    ],
)
def test_what_cannot_be_done_changes_nothing(three: Path, change: Callable[[Path], object], message: str) -> None:
    with pytest.raises(RoutingError, match=message):
        change(three)

    assert roles(three) == {1: ("production",)}
    assert len(routing.history(three, NAME)) == 1


def test_a_trial_needs_production_beside_it(three: Path) -> None:
    (three / NAME / routing.ROUTING).unlink()
    with pytest.raises(RoutingError, match="flights has no production version for a canary to stand beside"):
        routing.canary(three, NAME, 2, 5, by="", why="")
    routing.pin(three, NAME, 2, by="", why="")

    assert roles(three) == {2: ("pinned",)}


@pytest.mark.parametrize("change", [routing.shadow, routing.pin, lambda m, n, v, **s: routing.canary(m, n, v, 5, **s)])
def test_an_altered_version_gets_no_traffic_of_any_kind(three: Path, change: Callable[..., object]) -> None:
    (three / NAME / "2" / "saved_model.pb").write_bytes(b"altered")
    with pytest.raises(BundleError, match=r"saved_model\.pb"):
        change(three, NAME, 2, by="", why="")

    assert roles(three) == {1: ("production",)}


@pytest.mark.parametrize(
    "text",
    [
        '{"production": 0}',
        '{"production": 1, "canary": {"version": 2, "percent": 0}}',
        '{"production": 1, "canary": {"version": 2, "percent": 101}}',
        '{"production": 1, "canary": {"version": 2}}',
        '{"production": 1, "pinned": [1, -1]}',
        f'{{"production": 1, "pinned": {list(range(1, 200))}}}',
        '{"production": 1, "standby": 2}',
    ],
)
def test_a_routing_by_hand_is_checked(models: Path, text: str) -> None:
    (models / NAME / routing.ROUTING).write_text(text)
    with pytest.raises(RoutingError, match=r"routing\.json cannot be read"):
        routing.read(models, NAME)


def test_an_older_hornpipe_can_read_what_has_no_pins(three: Path) -> None:
    """The keys of the first format, and no more, until there is more to say."""
    routing.pin(three, NAME, 2, by="", why="")
    assert json.loads((three / NAME / routing.ROUTING).read_text())["pinned"] == [2]
    routing.unpin(three, NAME, 2, by="", why="")

    assert json.loads((three / NAME / routing.ROUTING).read_text()).keys() == {"production", "canary", "shadow"}
