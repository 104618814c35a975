"""What is decided of a canary, by evidence and a clock that are given."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from contract.evidence import Metric
from contract.promotion import Margins, Promotion
from contract.routing import Action, Canary, Event
from service.canary.decision import MOST_DEATHS, Decision, GoBack, GoOn, Stay, Trial, decide, trial
from service.canary.evidence import Evidence, Moments, Pairs, Side, total
from service.canary.measures import Labelled, Measure, measures

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = Promotion(policy="canary", min_requests=100, min_minutes=10)


def at(percent: float = 5.0, production: int = 1) -> Trial:
    return Trial("flights", production, Canary(version=2, percent=percent, watched=True), NOON, NOON)


def side(requests: int = 1000, failed: int = 0, took: float = 0.002, **more: object) -> Side:
    random = np.random.default_rng(requests)
    times = Moments.of((np.log(took) + random.normal(0, 0.3, requests)).tolist()) if requests else Moments()
    given = {"bins": (250, 250, 250, 250), "seconds": {1: times}} | more
    return Side(requests=requests, failed=failed, **given)


def found(evidence: Evidence, quality: Labelled | None = None) -> dict[str, Measure]:
    return {each.name: each for each in measures(evidence, POLICY.margins, len(POLICY.steps), quality)}


def decided(evidence: Evidence, minutes: float = 60, trial: Trial | None = None, **more: object) -> Decision:
    now = NOON + timedelta(minutes=minutes)
    return decide(trial or at(), POLICY, evidence, list(found(evidence).values()), now, **more)


EQUAL = Evidence(production=side(19_000), canary=side(1000), pairs=Pairs(requests=1000, disagreed=80))


def test_it_goes_on_by_its_steps_and_then_serves() -> None:
    after = [decided(EQUAL, trial=at(percent)) for percent in (5, 25, 30, 100)]

    assert [each.percent for each in after if isinstance(each, GoOn)] == [25, 100, 100, None]


def test_it_waits_for_requests_and_minutes() -> None:
    few = EQUAL.model_copy(update={"canary": side(99)})

    assert decided(few) == Stay(("1 more requests",))
    assert decided(EQUAL, minutes=4) == Stay(("6.0 more minutes",))
    assert isinstance(decided(EQUAL, minutes=10), GoOn)


def test_without_traffic_it_stays_and_says_so() -> None:
    assert decided(Evidence(production=side(5000))) == Stay(("no request has come to it in this step; 100 are needed",))


def test_it_goes_back_when_it_cannot_serve() -> None:
    assert decided(EQUAL, refused="a file is missing") == GoBack("it does not load: a file is missing")
    assert isinstance(decided(EQUAL, deaths=MOST_DEATHS - 1), GoOn)
    assert isinstance(decided(EQUAL, deaths=MOST_DEATHS), GoBack)
    assert decided(EQUAL, trial=at(production=3)) == GoBack("version 3, which is newer, is production")


@pytest.mark.parametrize(
    ("name", "canary"),
    [
        ("errors", {"failed": 60}),
        ("latency", {"took": 0.006}),
        ("distribution", {"bins": (700, 100, 100, 100)}),
        ("distribution", {"labels": (900, 100)}),
    ],
)
def test_worse_beyond_the_margin_goes_back_with_both_sides_numbers(name: str, canary: dict[str, object]) -> None:
    evidence = Evidence(production=side(19_000, failed=19, labels=(9500, 9500)), canary=side(1000, **canary))
    after = decided(evidence, minutes=1)  # it need not wait for that

    assert [measure.name for measure in found(evidence).values() if measure.worse] == [name]
    assert isinstance(after, GoBack)
    assert after.why.startswith(f"{name}: ")


def test_the_evidence_names_rows_margin_and_both_sides() -> None:
    evidence = Evidence(production=side(19_000, failed=19), canary=side(1000, failed=60))

    assert found(evidence)["errors"].words == (
        "60 of 1000 requests failed (6.00%), of production's 19 of 19000 (0.10%): at least 3.18% more, and 0.50% more "
        "may be"
    )


@pytest.mark.parametrize("canary", [{"failed": 2}, {"took": 0.01}, {"bins": (9, 1, 0, 0)}])
def test_few_requests_never_ring(canary: dict[str, object]) -> None:
    evidence = Evidence(production=side(190), canary=side(10, **({"bins": (3, 2, 3, 2)} | canary)))

    assert not any(measure.worse for measure in found(evidence).values())


def test_worse_within_the_margin_goes_on_however_sure() -> None:
    worse = Evidence(
        production=side(1_900_000, failed=1900, took=0.002),
        canary=side(100_000, failed=500, took=0.0028),
        pairs=Pairs(requests=100_000, disagreed=25_000),
    )

    assert isinstance(decided(worse), GoOn)
    assert found(worse)["errors"].certain == pytest.approx(0.004, abs=0.0015)


def test_a_run_that_takes_no_time_to_speak_of_may_take_twice_as_long() -> None:
    evidence = Evidence(production=side(19_000, took=0.00005), canary=side(1000, took=0.0001))

    assert not found(evidence)["latency"].worse
    assert found(evidence)["latency"].excess == pytest.approx(2, rel=0.1)


def test_times_are_compared_at_the_same_numbers_of_rows() -> None:
    """Production has larger batches: each run takes longer, and no longer than the canary's of as many rows."""
    ones, tens = side(500, took=0.001).seconds[1], side(500, took=0.01).seconds[1]
    evidence = Evidence(
        production=side(9000, seconds={1: ones, 10: tens, 40: tens}), canary=side(500, seconds={1: ones, 3: tens})
    )

    assert found(evidence)["latency"].excess == pytest.approx(1.0)
    assert found(evidence)["latency"].rows == 500


def test_when_all_traffic_is_the_canarys_from_the_first_it_is_held_to_no_errors() -> None:
    assert not found(Evidence(canary=side(1000, failed=5), beside=False))["errors"].worse
    assert found(Evidence(canary=side(1000, failed=60), beside=False))["errors"].worse


def test_what_is_compared_with_other_hours_is_held_to_wider_margins() -> None:
    """A burst of failures, or a machine that others use, is then the canary's alone."""

    def worse(*, beside: bool, failed: int, took: float) -> set[str]:
        canary = side(1000, failed=failed, took=took)
        evidence = Evidence(production=side(20_000, failed=40), canary=canary, beside=beside)
        return {name for name, each in found(evidence).items() if each.worse}

    assert worse(beside=True, failed=25, took=0.004) == {"errors", "latency"}
    assert worse(beside=False, failed=25, took=0.004) == set()
    assert worse(beside=False, failed=100, took=0.006) == {"errors", "latency"}


def test_disagreement_counts_requests_and_not_their_rows() -> None:
    assert found(Evidence(pairs=Pairs(requests=500, disagreed=300)))["disagreement"].worse
    assert not found(Evidence(pairs=Pairs(requests=3, disagreed=3)))["disagreement"].worse


@pytest.mark.parametrize(("metric", "before", "now"), [("roc_auc", 0.8, 0.7), ("rmse", 10.0, 13.0)])
def test_quality_is_by_labels_and_better_is_never_worse(metric: str, before: float, now: float) -> None:
    def labelled(first: float, second: float, rows: int) -> Labelled:
        half = 1.96 * 0.4 * first / rows**0.5
        values = (Metric(value=each, low=each - half, high=each + half) for each in (first, second))
        production, canary = values
        return Labelled(metric=metric, production=production, canary=canary, production_rows=9 * rows, canary_rows=rows)

    assert found(EQUAL, labelled(before, now, 2000))["quality"].worse
    assert not found(EQUAL, labelled(now, before, 2000))["quality"].worse
    assert not found(EQUAL, labelled(before, now, 60))["quality"].worse
    assert found(EQUAL, labelled(before, now, 60))["quality"].certain is None


def test_margins_decide() -> None:
    evidence = Evidence(production=side(19_000, failed=19), canary=side(1000, failed=60))
    lenient = Margins(errors=0.1)

    assert not any(each.worse for each in measures(evidence, lenient, 3))


def test_evidence_adds_up_as_if_one_had_seen_it_all() -> None:
    random = np.random.default_rng(4)
    values = random.normal(0, 1, 1000)
    parts = [
        Evidence(canary=Side(requests=len(each), seconds={1: Moments.of(each.tolist())}))
        for each in np.split(values, [1, 300, 301, 999])
    ]

    added = total(parts).canary
    assert added.requests == 1000
    assert added.seconds[1].mean == pytest.approx(values.mean())
    assert added.seconds[1].squares == pytest.approx(((values - values.mean()) ** 2).sum())


def event(minute: int, action: Action, version: int | None) -> Event:
    return Event(
        at=NOON + timedelta(minutes=minute),
        action=action,
        from_version=1,
        to_version=version,
        by="test",
        why="",
    )


@pytest.mark.parametrize(
    ("events", "since", "step"),
    [
        ([("promote", 1), ("canary", 2)], 1, 1),
        ([("promote", 1), ("canary", 2), ("canary", 2), ("passed", 3)], 1, 2),
        ([("canary", 2), ("canary_off", 2), ("canary", 2)], 2, 2),
        ([("canary", 3), ("canary", 2)], 1, 1),
        ([("canary", 2), ("promote", 4), ("canary", 2)], 1, 2),
        ([("canary", 2), ("rollback", 1), ("shadow", 5)], 1, 1),
        ([("canary", 2), ("promote", 2), ("rollback", 1), ("canary", 2)], 3, 3),
    ],
)
def test_the_history_says_when_it_began(events: list[tuple[Action, int]], since: int, step: int) -> None:
    lines = [event(minute, *each) for minute, each in enumerate(events)]
    began = trial("flights", 1, Canary(version=2, percent=5), lines)

    assert began is not None
    assert (began.since, began.step_since) == (NOON + timedelta(minutes=since), NOON + timedelta(minutes=step))


@pytest.mark.parametrize("events", [[], [("canary", 2), ("canary_off", 2)], [("canary", 3)]])
def test_what_the_history_does_not_know_is_no_trial(events: list[tuple[Action, int]]) -> None:
    lines = [event(minute, *each) for minute, each in enumerate(events)]

    assert trial("flights", 1, Canary(version=2, percent=5), lines) is None
