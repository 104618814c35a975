"""Every alert rings when it should and not when it should not, as Prometheus' own promtool evaluates it."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from contract.drift import CRITICAL_Z, chi_square
from tests.deploy.job_alerts import JOB_CASES
from tests.deploy.promtool import GROUPS, RULES, Case, evaluate, needs, rings, series

pytestmark = needs("promtool")
M = {"model": "m", "version": "1"}
LOADED = series("hornpipe_model_info", "1x3000", **M, runtime="litert")
SECONDS = "hornpipe_request_duration_seconds"
# Rows a minute in four bins, whose PSI is 0.88, 0.18 and 0.01.
SHIFTS = ((70, 10, 10, 10), (45, 18, 18, 19), (29, 25, 23, 23))


def watched(kind: str, rows: Sequence[float], every_minutes: int = 1, **labels: str) -> list[dict[str, str]]:
    """Four bins of a quarter each in the baseline, and how many rows come into each at a time."""
    level = "feature" if kind == "input" else "output"
    labels = {**M, level: "x"} | labels
    metric = "hornpipe_baseline_rows" if kind == "input" else "hornpipe_output_baseline_rows"
    found = [series(metric, "10000x3000", model=labels["model"], version=labels["version"])]
    for bin_, count in zip("abcd", rows, strict=True):
        found.append(series(f"hornpipe_{kind}_baseline_ratio", "0.25x3000", **labels, bin=bin_))
        found.append(series(f"hornpipe_{kind}_bin_total", f"0+{count * every_minutes}x3000", **labels, bin=bin_))
    return found


def drifts(alert: str, kind: str) -> list[Case]:
    level = "feature" if kind == "input" else "output"
    who = {**M, level: "x", "severity": "warning"}
    hour, day, week = ({**who, "window": window} for window in ("1h", "24h", "7d"))
    large, middle, small = SHIFTS
    few = (1.4, 0.2, 0.2, 0.2)  # 120 rows an hour

    def case(name: str, rows: Sequence[float], at: str, *firing: dict[str, str], unloaded: bool = False) -> Case:
        days = at.endswith("d")
        given = watched(kind, rows, 60 if days else 10)
        return Case(alert, name, given + [LOADED] * (not unloaded), at, firing, "1h" if days else "10m")

    return [
        case("after half an hour", large, "90m", hour),
        case("not at once", large, "30m"),
        case("an hour's not if it is middling", middle, "90m"),
        case("a day's if it is middling", middle, "2d", day),
        case("a week's too", middle, "8d", day, week),
        case("no window if it is small", small, "8d"),
        case("no hour of few rows, but a day of them", few, "2d", day),
        case("no version that is gone", large, "90m", unloaded=True),
        case("no version that is gone, over days", large, "8d", unloaded=True),
    ]


def test_the_shifts_are_as_large_as_is_said() -> None:
    shares = np.array(SHIFTS) / 100

    assert np.sum((shares - 0.25) * np.log(4 * shares), axis=1).round(2).tolist() == [0.88, 0.18, 0.01]
    assert chi_square(3, CRITICAL_Z) / 200 < 0.25  # so that not chance but size decides


def bins(kind: str, rates: dict[str, float], baseline: dict[str, float], learnt: int = 10000) -> list[dict[str, str]]:
    level = "feature" if kind == "input" else "output"
    labels = {**M, level: "x"}
    return [
        *(series(f"hornpipe_{kind}_bin_total", f"0+{rate}x3000", **labels, bin=b) for b, rate in rates.items()),
        *(series(f"hornpipe_{kind}_baseline_ratio", f"{ratio}x3000", **labels, bin=b) for b, ratio in baseline.items()),
        series("hornpipe_baseline_rows", f"{learnt}x3000", **M),
        series("hornpipe_output_baseline_rows", f"{learnt}x3000", **M),
    ]


def same_output() -> list[Case]:
    who = {**M, "output": "x", "severity": "critical"}
    even, rare = {"low": 0.5, "high": 0.5}, {"low": 0.95, "high": 0.05}
    one, both, slow = {"low": 20, "high": 0}, {"low": 19, "high": 1}, {"low": 2, "high": 0}
    quarter, hour = {**who, "window": "15m"}, {**who, "window": "1h"}
    alert = "HornpipeSameOutput"
    return [
        Case(alert, "rings over 15 minutes and an hour", bins("output", one, even), "70m", (quarter, hour)),
        Case(alert, "rings over an hour where fewer ask", bins("output", slow, even), "70m", (hour,)),
        Case(alert, "not if one of twenty differs", bins("output", both, even), "70m"),
        Case(alert, "not if the baseline is so too", bins("output", one, rare), "70m"),
        Case(alert, "not of too few rows", bins("output", {"low": 1, "high": 0}, even), "70m"),
    ]


def missing_inputs() -> list[Case]:
    """`rate` of `rows` a minute are so, over 70 minutes; or over a day and a half."""
    alert = "HornpipeMissingInputs"

    def surge(
        name: str,
        bin_: str,
        rate: float,
        before: float,
        *windows: str,
        rows: float = 100,
        days: bool = False,
        learnt: int = 10000,
        unloaded: bool = False,
    ) -> Case:
        every = 60 if days else 1
        given = bins("input", {"a": (rows - rate) * every, bin_: rate * every}, {"a": 1 - before, bin_: before}, learnt)
        given += [LOADED] * (not unloaded)
        who = [{**M, "feature": "x", "bin": bin_, "severity": "warning", "window": window} for window in windows]
        return Case(alert, name, given, "36h" if days else "70m", who, "1h" if days else "1m")

    return [
        surge("is missing", "missing", 10, 0.01, "1h"),
        surge("is unseen", "unseen", 10, 0.01, "1h"),
        surge("is no number", "non_finite", 10, 0.01, "1h"),
        surge("not if it always was", "missing", 10, 0.1),
        surge("not a little more", "missing", 5, 0.01),
        surge("not of another bin", "above", 50, 0.01),
        surge("not of few rows", "missing", 0.3, 0.01, rows=1),
        surge("not what chance may do to few rows", "missing", 0.4, 0.1, rows=2),
        surge("what chance may not do to few rows", "missing", 1.2, 0.1, "1h", rows=2),
        surge("not what chance may have done to few rows of training", "missing", 45, 0.3, learnt=100),
        surge("not of a version that is gone", "missing", 10, 0.01, unloaded=True),
        surge("a day of few rows is missing", "missing", 0.3, 0.01, "24h", rows=1, days=True),
        surge("a day of few rows is unseen", "unseen", 0.3, 0.01, "24h", rows=1, days=True),
        surge("a day of few rows is no number", "non_finite", 0.3, 0.01, "24h", rows=1, days=True),
        surge("the hour's alone where there are many", "missing", 10, 0.01, "1h", days=True),
        surge("not a little more over a day", "missing", 0.05, 0.01, rows=1, days=True),
        surge("not of another bin over a day", "above", 0.3, 0.01, rows=1, days=True),
        surge("not of a day with hardly any rows", "missing", 0.03, 0.01, rows=0.06, days=True),
        surge("not of a version that is gone, over a day", "missing", 0.3, 0.01, rows=1, days=True, unloaded=True),
    ]


def down() -> list[Case]:
    who = {"job": "hornpipe", "instance": "a", "severity": "critical"}
    up = {"job": "hornpipe", "instance": "a"}
    return [
        Case("HornpipeDown", "rings", [series("up", "1x5 0x20", **up)], "10m", (who,)),
        Case("HornpipeDown", "not at once", [series("up", "1x5 0x20", **up)], "7m"),
        Case("HornpipeDown", "not if it is up", [series("up", "1x30", **up)], "10m"),
        Case("HornpipeDown", "not another job", [series("up", "0x30", job="node", instance="a")], "10m"),
    ]


def no_model() -> list[Case]:
    at = {"job": "hornpipe", "instance": "a"}
    who, workers = {**at, "severity": "critical"}, series("hornpipe_workers", "2x60", **at)
    elsewhere = series("hornpipe_model_info", "1x60", job="hornpipe", instance="b", **M)
    return [
        Case("HornpipeNoModel", "rings", [workers], "20m", (who,)),
        Case("HornpipeNoModel", "rings if another has one", [workers, elsewhere], "20m", (who,)),
        Case("HornpipeNoModel", "not while the first is loaded", [workers], "10m"),
        Case("HornpipeNoModel", "not with one", [workers, series("hornpipe_model_info", "1x60", **at, **M)], "20m"),
    ]


def requests(model: str = "m", instance: str = "a", **rates: float) -> list[dict[str, str]]:
    """So many a minute, by outcome."""
    labels = {"model": model, "instance": instance, "route": "/predict"}
    return [series(f"{SECONDS}_count", f"0+{rate}x3000", **labels, outcome=outcome) for outcome, rate in rates.items()]


def errors() -> list[Case]:
    alert, who = "HornpipeErrors", {"model": "m", "severity": "critical"}
    both = [*requests(ok=95, error=0), *requests(instance="b", ok=80, error=20)]
    return [
        Case(alert, "rings", both, "20m", (who,)),
        Case(alert, "not at once", both, "3m"),
        Case(alert, "of requests without a model", requests("", ok=1, error=9), "20m", ({"severity": "critical"},)),
        Case(alert, "not one of a hundred", requests(ok=99, error=1), "20m"),
        Case(alert, "not wrong requests", requests(ok=1, invalid=99), "20m"),
        Case(alert, "not four errors at night", requests(ok=0, error=0.8), "20m"),
    ]


def invalid_requests() -> list[Case]:
    alert, who = "HornpipeInvalidRequests", {"model": "m", "severity": "warning"}
    return [
        Case(alert, "rings", requests(ok=70, invalid=30), "40m", (who,)),
        Case(alert, "not one of ten", requests(ok=90, invalid=10), "40m"),
        Case(alert, "not of few", requests(ok=0, invalid=1), "40m"),
        Case(alert, "not of no model", requests("", ok=0, invalid=100), "40m"),
    ]


def histogram(metric: str, slow: float, fast: float, **labels: str) -> list[dict[str, str]]:
    """So many a minute take 0.25 to 1 s, so many less than 50 ms."""
    total = slow + fast
    buckets = {"0.05": fast, "0.25": fast, "1.0": total, "+Inf": total}
    found = [series(f"{metric}_bucket", f"0+{rate}x300", model="m", le=le, **labels) for le, rate in buckets.items()]
    return [*found, series(f"{metric}_count", f"0+{total}x300", model="m", **labels)]


def slow() -> list[Case]:
    alert, who = "HornpipeSlow", {"model": "m", "severity": "warning"}

    def case(name: str, at: str, slow: float, fast: float, *firing: dict[str, str], outcome: str = "ok") -> Case:
        return Case(alert, name, histogram(SECONDS, slow, fast, route="/predict", outcome=outcome), at, firing)

    return [
        case("rings", "30m", 5, 95, who),
        case("not at once", "5m", 5, 95),
        case("not if few are slow", "30m", 0.5, 99.5),
        case("not of few", "30m", 10, 0),
        case("not of requests that were turned away", "30m", 50, 50, outcome="rejected"),
    ]


def queue() -> list[Case]:
    alert, who, metric = "HornpipeQueue", {"model": "m", "severity": "warning"}, "hornpipe_stage_duration_seconds"
    return [
        Case(alert, "rings", histogram(metric, 5, 95, stage="queue"), "30m", (who,)),
        Case(alert, "not if few wait", histogram(metric, 0.5, 99.5, stage="queue"), "30m"),
        Case(alert, "not of few", histogram(metric, 10, 0, stage="queue"), "30m"),
        Case(alert, "not if they run for long", histogram(metric, 50, 50, stage="run"), "30m"),
    ]


def overloaded() -> list[Case]:
    alert, who = "HornpipeOverloaded", {"model": "m", "severity": "critical"}

    def turned_away(reason: str, rate: float) -> list[dict[str, str]]:
        return [
            *requests(ok=100, rejected=rate),
            series("hornpipe_rejected_total", f"0+{rate}x60", model="m", reason=reason),
        ]

    return [
        Case(alert, "rings", turned_away("overloaded", 5), "20m", (who,)),
        Case(alert, "rings if all come too late", turned_away("deadline", 5), "20m", (who,)),
        Case(alert, "not one of 200", turned_away("overloaded", 0.5), "20m"),
        Case(alert, "not by a rate limit", turned_away("rate_limited", 50), "20m"),
    ]


def no_traffic() -> list[Case]:
    alert, who = "HornpipeNoTraffic", {"model": "m", "severity": "warning"}
    name = {"model": "m", "route": "/predict", "outcome": "ok"}

    def until(hours: int, *, a_step: int = 10, then: str = "+0x60") -> list[dict[str, str]]:
        """Steps of ten minutes, so many requests each until then."""
        steps = hours * 6
        return [series(f"{SECONDS}_count", f"0+{a_step}x{steps} {a_step * steps}{then}", **name)]

    def case(what: str, given: list[dict[str, str]], at: str, *firing: dict[str, str]) -> Case:
        return Case(alert, what, given, at, firing, "10m")

    weekly = [series(f"{SECONDS}_count", "0+10x60 600+0x1080 600+10x60", **name)]
    return [
        case("rings", [*until(36), LOADED], "38h", who),
        case("not within the hour", [*until(36), LOADED], "36h30m"),
        case("not if nobody ever asked at this hour", [*until(3), LOADED], "30h"),
        case("not if hardly anybody did", [*until(36, a_step=1), LOADED], "38h"),
        case("not if somebody asks", [*until(36, then="+1x60"), LOADED], "38h"),
        case("not of a model that is not loaded", until(36), "38h"),
        case("of the hour a week ago, though nobody asked yesterday", [*weekly, LOADED], "172h", who),
    ]


def old_model() -> list[Case]:
    """promtool's clock begins at 1970."""
    alert, who, created = (
        "HornpipeOldModel",
        {"model": "m", "severity": "warning"},
        "hornpipe_model_created_timestamp_seconds",
    )
    newer = {"model": "m", "version": "2"}
    made = [series(created, "86400x3000", **M), series(created, f"{80 * 86400}x3000", **newer)]
    both = [LOADED, series("hornpipe_model_info", "1x3000", **newer)]

    def case(name: str, given: list[dict[str, str]], at: str, *firing: dict[str, str]) -> Case:
        return Case(alert, name, given, at, firing, "1d")

    return [
        case("rings", [made[0], LOADED], "93d", who),
        case("not before", [made[0], LOADED], "90d"),
        case("not if a newer one is loaded", [*made, *both], "93d"),
        case("if the newer one is not", [*made, LOADED], "93d", who),
        case("not if none is", made, "93d"),
    ]


def quality() -> list[Case]:
    alert = "HornpipeQualityDown"

    def measured(
        metric: str, now: tuple[float, float], then: tuple[float, float], rows: int = 500
    ) -> list[dict[str, str]]:
        ends = {"hornpipe_quality": now, "hornpipe_quality_baseline": then}
        found = [
            series(f"{name}_{end}", f"{value}x300", **M, metric=metric, instance="a")
            for name, interval in ends.items()
            for end, value in zip(("low", "high"), interval, strict=True)
        ]
        return [*found, series("hornpipe_quality_rows", f"{rows}x300", **M, instance="a")]

    def case(name: str, given: list[dict[str, str]], *metrics: str, at: str = "2h") -> Case:
        return Case(alert, name, given, at, [{**M, "metric": each, "severity": "critical"} for each in metrics])

    return [
        case("rings", measured("roc_auc", (0.6, 0.69), (0.7, 0.74)), "roc_auc"),
        case("rings where less is better", measured("log_loss", (0.5, 0.6), (0.4, 0.45)), "log_loss"),
        case("not if the intervals touch", measured("roc_auc", (0.6, 0.71), (0.7, 0.74))),
        case("not if it is better", measured("rmse", (1, 2), (3, 4))),
        case("not of few labels", measured("roc_auc", (0.2, 0.3), (0.7, 0.74), rows=50)),
        case("not of what follows the mix of labels", measured("precision", (0.2, 0.3), (0.7, 0.74))),
        case("not at once", measured("roc_auc", (0.6, 0.69), (0.7, 0.74)), at="30m"),
    ]


CASES = [
    *drifts("HornpipeInputDrift", "input"),
    *drifts("HornpipePredictionDrift", "output"),
    *(case for cases in (same_output, missing_inputs, down, no_model, errors, invalid_requests) for case in cases()),
    *(case for cases in (slow, queue, overloaded, no_traffic, old_model, quality) for case in cases()),
    *JOB_CASES,
]


def needed(case: Case) -> list[str]:
    """The groups that the alert is in and is made of; the others only take time."""
    for group in ("hornpipe-service-alerts", "hornpipe-job-alerts"):
        if case.alert in {rule["alert"] for rule in GROUPS[group]}:
            return [group]
    days = ["hours", "drift-24h", "drift-7d"]
    if case.alert == "HornpipeSameOutput":
        days = []
    elif case.alert == "HornpipeMissingInputs":
        days = days[:2] if case.every == "1h" else []
    return [f"hornpipe-{name}" for name in ("baseline", "drift-1h", *days, "drift-alerts")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.name}")
def test_alert(tmp_path: Path, case: Case) -> None:
    expression = rings(case.alert, case.at, *case.firing)

    given, every, groups = case.given, case.every, needed(case)

    assert evaluate(tmp_path, given, step=every, every=every, expressions=[expression], groups=groups) == ""


def test_every_alert_is_seen_ringing_and_silent() -> None:
    alerts = {
        (rule["alert"], rule["labels"].get("window")) for name in GROUPS for rule in GROUPS[name] if "alert" in rule
    }
    ringing = {(case.alert, firing.get("window")) for case in CASES for firing in case.firing}

    assert ringing == alerts
    assert {case.alert for case in CASES if not case.firing} == {name for name, _ in alerts}


def test_what_is_told_to_people(tmp_path: Path) -> None:
    told = [
        (
            "HornpipeErrors",
            requests("", ok=10, error=90),
            {"severity": "critical"},
            {
                "summary": "The service fails 90% of its requests",
                "description": "90% of the requests of five minutes ended in a server error.",
                "runbook": "docs/monitoring.md#hornpipeerrors",
            },
        ),
        (
            "HornpipeInputDrift",
            [*watched("input", SHIFTS[0], 10), LOADED],
            {**M, "feature": "x", "window": "1h", "severity": "warning"},
            {
                "summary": "m is asked about other x than it has learned",
                "description": "PSI of x over 1h is 0.88, for version 1 of m.",
                "runbook": "docs/monitoring.md#hornpipeinputdrift",
            },
        ),
    ]
    for (alert, given, labels, annotations), every in zip(told, ("1m", "10m"), strict=True):
        wanted = [{"exp_labels": labels, "exp_annotations": annotations}]
        alerts = [{"eval_time": "70m", "alertname": alert, "exp_alerts": wanted}]
        assert evaluate(tmp_path, given, step=every, every=every, alerts=alerts) == ""


def test_alerts_are_documented() -> None:
    page = Path("docs/monitoring.md").read_text()
    for name in {rule["alert"] for rules in GROUPS.values() for rule in rules if "alert" in rule}:
        assert f"### {name}\n" in page
    for rules in GROUPS.values():
        for rule in rules:
            if "alert" in rule:
                assert rule["annotations"]["runbook"] == f"docs/monitoring.md#{rule['alert'].lower()}"


def test_promtool_has_nothing_to_complain_of() -> None:
    files = [*map(str, RULES.glob("*.yml"))]
    assert len(files) == 3
    subprocess.run(["promtool", "check", "rules", *files], check=True, capture_output=True)
    subprocess.run(["promtool", "check", "config", "deploy/prometheus/prometheus.yml"], check=True, capture_output=True)
