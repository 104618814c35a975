"""The recording rules, against NumPy and SciPy on the same counts, and the alerts' arithmetic as simulations use it."""

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2, entropy

from benchmarks.drift_rules import LEAST_ROWS, WINDOWS, Baseline, Window, drift
from contract.drift import CRITICAL_Z, NOTICEABLE, SMOOTHING
from contract.drift import drift as drift_of
from contract.histogram import ratios
from tests.deploy.promtool import GROUPS, evaluate, needs, series

pytestmark = needs("promtool")
HOURS = 9 * 24
STEPS = 6  # an hour
MODEL = {"model": "flights", "version": "3"}
BASELINE_ROWS = {"feature": 4000, "output": 700}
KIND = {"feature": "input", "output": "output"}
# What is watched: kind, name, and the probabilities of its bins in the baseline.
WATCHED = (
    ("feature", "distance", np.r_[0.01, np.full(10, 0.096), 0.01, 0.02, 0]),
    ("feature", "carrier", np.r_[0.6, 0.3, 0.07, 0.03, 0, 0]),
    ("output", "probability", np.r_[0, np.full(10, 0.1), 0, 0, 0]),
)
MOMENTS = (3, 30, 191, 215)


@pytest.fixture(scope="module")
def baselines() -> list[Baseline]:
    rng = np.random.default_rng(5)
    rows = [BASELINE_ROWS[level] for level, _, _ in WATCHED]
    return [
        Baseline(np.array(ratios(rng.multinomial(count, shares))), count)
        for count, (_, _, shares) in zip(rows, WATCHED, strict=True)
    ]


@pytest.fixture(scope="module")
def counts() -> list[np.ndarray]:
    """Of what is watched, [replicas, steps, bins]; what comes changes slowly."""
    rng = np.random.default_rng(6)
    found = []
    for _, _, shares in WATCHED:
        later = rng.dirichlet(200 * shares + 0.2)
        mixed = [(1 - t) * shares + t * later for t in np.linspace(0, 1, HOURS * STEPS)]
        found.append(np.array([[rng.multinomial(rng.poisson(7), each) for each in mixed] for _ in range(2)]))
    return found


def counters(increments: np.ndarray, reset: int) -> list[str]:
    """One bin's increments as the values of a counter that begins at 0 and is set back to it once."""
    total = np.r_[0, np.cumsum(increments)]
    total[reset + 1 :] -= total[reset]
    return " ".join(map(str, total.tolist()))


def exported(counts: list[np.ndarray], baselines: list[Baseline]) -> list[dict[str, str]]:
    """As two replicas export it; the second is started anew after fifty hours."""
    found = []
    for (level, name, _), replicas, baseline in zip(WATCHED, counts, baselines, strict=True):
        for number, by_bin in enumerate(replicas):
            for bin_, increments in enumerate(by_bin.T):
                labels = {"instance": f"replica {number}", **MODEL, level: name, "bin": f"{bin_}"}
                reset = 50 * STEPS if number else len(increments)
                found.append(series(f"hornpipe_{KIND[level]}_bin_total", counters(increments, reset), **labels))
                ratio = f"{baseline.ratios[bin_]}x{len(increments)}"
                found.append(series(f"hornpipe_{KIND[level]}_baseline_ratio", ratio, **labels))
    for instance in ("replica 0", "replica 1"):
        for metric, rows in (("baseline", 4000), ("output_baseline", 700)):
            found.append(series(f"hornpipe_{metric}_rows", f"{rows}x{HOURS * STEPS}", instance=instance, **MODEL))
    return found


def expected(counts: np.ndarray, baseline: Baseline, hours: int, at: int) -> dict[str, float]:
    """By SciPy, from the definitions."""
    window = counts[:, max(0, at - hours) * STEPS : at * STEPS].sum(axis=(0, 1))
    smoothed = window + np.minimum(window.sum() * baseline.ratios, SMOOTHING)
    p, q = smoothed / smoothed.sum(), baseline.ratios
    by_bin = {f"{i}": value for i, value in enumerate(window)}
    return (
        {
            "rows": window.sum(),
            "psi": entropy(p, q) + entropy(q, p),
            "js": jensenshannon(p, q, base=2),
            "linf": np.abs(p - q).max(),
            "psi_critical": drift_of(window, tuple(q), baseline.rows).critical,
            "hours": min(at, hours),
        }
        | {f"increase {b}": v for b, v in by_bin.items()}
        | {f"ratio {b}": v for b, v in enumerate(p)}
    )


def record(level: str, quantity: str, window: str) -> tuple[str, dict[str, str]]:
    """The name of the recorded series, and what labels it has besides."""
    what, _, bin_ = quantity.partition(" ")
    start, kind = f"model_version_{level}", f"hornpipe_{KIND[level]}"
    if bin_:
        return f"{start}_bin:{kind}_bin:{what}{window}", {"bin": bin_}
    suffix = {"rows": f"_rows:increase{window}", "hours": f"_hours:count{window}"}
    return f"{start}:{kind}{suffix.get(what, f':{what}{window}')}", {}


def test_prometheus_computes_what_scipy_does(tmp_path: Path, counts, baselines) -> None:
    checks, compared = [], set()
    for at, (number, hours) in product(MOMENTS, ((1, 1), (24, 24), (7, 168))):
        window = f"{number}{'h' if hours < 100 else 'd'}"
        for (level, name, _), found, baseline in zip(WATCHED, counts, baselines, strict=True):
            for quantity, value in expected(found, baseline, hours, at).items():
                if quantity == "hours" and hours == 1:
                    continue
                metric, labels = record(level, quantity, window)
                labels = {**MODEL, level: name, **labels}
                selector = series(metric, "", **labels)["series"]
                tolerance = 1e-9 * max(1, abs(value))
                checks.append(
                    {
                        "expr": f"abs({selector} - {value:.17g}) < bool {tolerance}",
                        "eval_time": f"{at}h",
                        "exp_samples": [{"labels": series("", "", **labels)["series"], "value": 1}],
                    }
                )
                compared.add(metric)

    assert evaluate(tmp_path, exported(counts, baselines), step="10m", every="1h", expressions=checks) == ""
    # The others only lead to these.
    steps = ("baseline", "bins", "chi2", "hourly", "smoothed")
    recorded = {rule["record"] for rules in GROUPS.values() for rule in rules if "record" in rule}
    assert {name for name in recorded if not any(step in name for step in steps)} == compared


def test_the_simulation_computes_what_prometheus_does(counts, baselines) -> None:
    """Both are held to the same numbers: there those of `expected` by Prometheus, here by the simulation."""
    for found, baseline, window in product(counts[:1], baselines[:1], WINDOWS):
        by_minute = np.zeros((HOURS * 60, found.shape[2]), np.int64)
        by_minute[np.arange(HOURS * STEPS) * 10 + 9] = found.sum(axis=0)
        simulated = drift(by_minute, baseline, window)
        for at in MOMENTS:
            wanted, moment = expected(found, baseline, window.hours, at), at * 60 // window.step - 1
            assert simulated.rows[moment] == wanted["rows"]
            assert simulated.psi[moment] == pytest.approx(wanted["psi"], rel=1e-9)
            assert simulated.critical(CRITICAL_Z)[moment] == pytest.approx(wanted["psi_critical"], rel=1e-9)


@pytest.mark.parametrize("bins", [3, 6, 14, 23])
def test_the_critical_value_is_a_quantile(bins: int) -> None:
    found = drift_of(np.full(bins, 100), (1 / bins,) * bins, 10_000)
    exact = (1 / (100 * bins) + 1 / 10_000) * chi2.isf(0.5 * math.erfc(CRITICAL_Z / math.sqrt(2)), bins - 1)

    assert exact <= found.critical <= 1.1 * exact


DURATIONS = {"1h": "[1h]", "24h": "23h59m59s999ms", "7d": "6d23h59m59s999ms"}


def recorded(window: str) -> dict[str, str]:
    """The rules of a window, without saying which."""
    rules = GROUPS[f"hornpipe-drift-{window}"]
    plain = {rule["record"]: rule["expr"].replace(DURATIONS[window], "RANGE") for rule in rules}
    return {name.replace(window, "WINDOW"): expression.replace(window, "WINDOW") for name, expression in plain.items()}


def test_windows_differ_in_nothing_else() -> None:
    """So that what is corrected for one is corrected for all."""
    hour, day, week = (recorded(window) for window in DURATIONS)
    counted = {name for name in day if "_bin:increase" in name or "_hours:" in name}

    assert len(counted) == 4
    assert day == week
    assert {n: e for n, e in day.items() if n not in counted} == {n: e for n, e in hour.items() if n not in counted}


def test_inputs_and_outputs_differ_in_nothing_else() -> None:
    for name, rules in GROUPS.items():
        if "alerts" not in name:
            texts = [(rule["record"], rule["expr"]) for rule in rules]
            inputs = [each for each in texts if "feature" in each[0]]
            outputs = [each for each in texts if "output" in each[0]]
            assert len(inputs) + len(outputs) == len(texts)
            assert outputs == [tuple(map(of_outputs, each)) for each in inputs]


def of_outputs(text: str) -> str:
    named = text.replace("(hornpipe_baseline_rows)", "(hornpipe_output_baseline_rows)")
    return named.replace("input", "output").replace("feature", "output")


def test_alerts_ask_for_what_was_simulated() -> None:
    rules = {(rule["alert"], rule["labels"].get("window")): rule for rule in GROUPS["hornpipe-drift-alerts"]}
    for window in WINDOWS:
        for alert, level in (("HornpipeInputDrift", "feature"), ("HornpipePredictionDrift", "output")):
            rule = rules[alert, window.name]
            assert minutes(rule["for"]) == window.minutes
            assert " ".join(rule["expr"].split()) == condition(window, level)
    assert NOTICEABLE == 0.1


def condition(window: Window, level: str) -> str:
    start, name = f"model_version_{level}:hornpipe_{KIND[level]}", window.name
    known = f" and {start}_hours:count{name} >= {window.known}" if window.known else ""
    return (
        f"{start}:psi{name} > clamp_min({start}:psi_critical{name}, {window.noticeable:g})"
        f" and {start}_rows:increase{name} >= {LEAST_ROWS}{known} and on (model, version) hornpipe_model_info"
    )


def minutes(duration: str) -> int:
    return int(duration[:-1]) * {"m": 1, "h": 60}[duration[-1]]


def test_z_is_the_one_of_the_service() -> None:
    quantiles = [rule["expr"] for rule in GROUPS["hornpipe-baseline"] if "chi2" in rule["record"]]

    assert len(quantiles) == 2
    assert all(f"+ {CRITICAL_Z} * sqrt(" in each for each in quantiles)
