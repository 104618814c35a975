"""How often the drift alerts ring while nothing has drifted, and how soon when something has.

    python -m benchmarks.drift_alarms

Years of traffic of a model with 20 features and 5 watched outputs go minute by minute through the arithmetic of
deploy/prometheus/rules (drift_rules.py), at several volumes with a daily and a weekly cycle. Writes DRIFT.md and
drift_alarms.png beside this file.
"""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from benchmarks import drift_report
from benchmarks.drift_rules import HOUR, WINDOWS, Baseline, Counts, Drift, Floats, alarms, all_alarms, drift, runs
from contract.drift import CRITICAL_Z
from contract.histogram import ratios

DAY = 24 * HOUR
WEEK = 7 * DAY
YEAR = 52 * WEEK
MONTH = YEAR / 12
YEARS = 3
VOLUMES = (10, 30, 100, 300, 1000, 5000, 20_000)
BASELINE_ROWS = 20_000
SIZES = (0.05, 0.12, 0.2, 0.35, 0.5, 1.0, 2.0)
ZS = (2.0, 3.0, 4.0, CRITICAL_Z)
TRIES = 100
AMPLITUDES = (0.2, 0.3, 0.4, 0.5, 0.8)
ALIKE = (1, 2, 5, 20)
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Feature:
    """Bins of these probabilities while nothing drifts."""

    name: str
    probabilities: Floats

    def baseline(self, rng: np.random.Generator) -> Baseline:
        return Baseline(np.array(ratios(rng.multinomial(BASELINE_ROWS, self.probabilities))), BASELINE_ROWS)


def number(name: str, missing: float = 0.0) -> Feature:
    """Ten quantile bins, below, above, missing, non-finite."""
    return Feature(name, np.r_[0.0005, np.full(10, (1 - missing - 0.001) / 10), 0.0005, missing, 0])


def category(name: str, count: int) -> Feature:
    """Frequent and rare ones as words are (Zipf); other, missing, unseen."""
    shares = 1 / np.arange(1, count + 1)
    return Feature(name, np.r_[0.97 * shares / shares.sum(), 0.02, 0.01, 0])


def model() -> list[Feature]:
    """Twenty features and five outputs."""
    numbers = [number(f"number {i}", missing) for i, missing in enumerate((0, 0, 0, 0, 0, 0, 0.001, 0.01, 0.05, 0.3))]
    categories = [category(f"category {i}", count) for i, count in enumerate((2, 2, 3, 4, 5, 7, 10, 15, 20, 20))]
    return [*numbers, *categories, *(number(f"output {i}") for i in range(5))]


def traffic(rng: np.random.Generator, rows_an_hour: float, minutes: int, start: int = 0) -> Counts:
    """Rows a minute: at night a tenth of what comes by day, at weekends four tenths of a weekday."""
    moment = np.arange(start, start + minutes)
    by_day = 1 - 0.82 * np.cos(2 * np.pi * moment / DAY)
    by_week = np.where(moment % WEEK < 5 * DAY, 1.0, 0.4) / (5.8 / 7)
    return rng.poisson(rows_an_hour / HOUR * by_day * by_week)


def quiet(rng: np.random.Generator, rows_an_hour: float, minutes: int) -> Counter[str]:
    """Alarms of the whole model in that time, by window and by rule."""
    found: Counter[str] = Counter()
    rows = traffic(rng, rows_an_hour, minutes)
    for feature in model():
        counts, baseline = rng.multinomial(rows, feature.probabilities), feature.baseline(rng)
        for window in WINDOWS:
            drifts = drift(counts, baseline, window)
            found[window.name] += len(alarms(drifts, window))
            found[f"bare {window.name}"] += len(runs((drifts.psi > 0.1) & (drifts.rows > 0), 0))
            found["critical alone"] += len(runs(drifts.holds(0, least_rows=1), 0))
            for z in ZS:
                found[f"z={z:g}"] += len(alarms(drifts, window, z))
    return found


def shifted(delta: float) -> Floats:
    """The bins of a standard normal number whose mean has moved by `delta` deviations."""
    edges = norm.ppf(np.r_[0.0005, np.linspace(0.1, 0.9, 9), 0.9995])
    return np.r_[np.diff(norm.cdf(np.r_[-np.inf, edges, np.inf] - delta)), 0, 0]


def delta_of(size: float) -> float:
    """How far the mean must move for PSI to be so large."""
    there = shifted(0)[:-2]

    def psi(delta: float) -> float:
        return float(np.sum((shifted(delta)[:-2] - there) * np.log(shifted(delta)[:-2] / there)))

    return float(brentq(lambda delta: psi(delta) - size, 0, 4))


def delays(rng: np.random.Generator, rows_an_hour: float, size: float, tries: int) -> Floats:
    """Hours from a sudden shift until the first alarm of any window, infinite where none rings within two weeks."""
    before, after = 8 * DAY, 14 * DAY
    feature, moved = Feature("number", shifted(0)), shifted(delta_of(size))
    found = []
    for _ in range(tries):
        rows = traffic(rng, rows_an_hour, before + after, int(rng.integers(WEEK)))
        quiet, loud = rng.multinomial(rows[:before], feature.probabilities), rng.multinomial(rows[before:], moved)
        rung = [hours - before / HOUR for _, hours in all_alarms(np.r_[quiet, loud], feature.baseline(rng))]
        found.append(min((hour for hours in rung for hour in hours if hour > 0), default=np.inf))
    return np.array(found)


def cycle(rng: np.random.Generator, amplitude: float, period: int, minutes: int) -> tuple[Counts, Baseline]:
    """A number whose mean goes up and down every day, or is higher at weekends, by so many deviations; its baseline is
    of whole cycles. A thousand rows an hour."""
    moment = np.arange(minutes)
    waves = np.sin(2 * np.pi * moment / DAY) if period == DAY else (moment % WEEK >= 5 * DAY).astype(float)
    deltas = np.round(amplitude * waves, 2)
    rows = traffic(rng, 1000, minutes)
    counts = np.zeros((minutes, len(shifted(0))), np.int64)
    for delta in np.unique(deltas):
        counts[deltas == delta] = rng.multinomial(rows[deltas == delta], shifted(delta))
    return counts, Feature("cycle", counts.sum(axis=0) / counts.sum()).baseline(rng)


def cycles(rng: np.random.Generator, amplitude: float, period: int) -> list[float]:
    """Alarms a month, by window."""
    counts, baseline = cycle(rng, amplitude, period, YEAR // 2)
    return [len(hours) / 6 for _, hours in all_alarms(counts, baseline)]


def clumps(rng: np.random.Generator, alike: int, least_rows: int) -> list[float]:
    """Alarms a month of the whole model, by window, if so many rows at a time are all alike. 300 rows an hour."""
    found = np.zeros(len(WINDOWS))
    rows = traffic(rng, 300 / alike, YEAR // 4)
    for feature in model():
        counts, baseline = alike * rng.multinomial(rows, feature.probabilities), feature.baseline(rng)
        drifts = [drift(counts, baseline, window) for window in WINDOWS]
        found += [len(alarms(d, w, least_rows=least_rows)) / 3 for d, w in zip(drifts, WINDOWS, strict=True)]
    return found.tolist()


def measure() -> drift_report.Results:
    rngs = iter(np.random.default_rng(2013).spawn(1000))
    return drift_report.Results(
        months=YEARS * 12,
        quiet={volume: quiet(next(rngs), volume, YEARS * YEAR) for volume in VOLUMES},
        delays={(v, size): delays(next(rngs), v, size, TRIES) for v in VOLUMES for size in SIZES},
        days={amplitude: cycles(next(rngs), amplitude, DAY) for amplitude in AMPLITUDES},
        weeks={amplitude: cycles(next(rngs), amplitude, WEEK) for amplitude in AMPLITUDES},
        clumps={(alike, least): clumps(next(rngs), alike, least) for alike in ALIKE for least in (200, 600 * alike)},
    )


def quiet_trace(rng: np.random.Generator) -> tuple[Drift, Drift]:
    """An hour's and a day's drift in four weeks of no drift, of a category with 100 rows an hour."""
    feature = category("category", 20)
    counts, baseline = rng.multinomial(traffic(rng, 100, 4 * WEEK), feature.probabilities), feature.baseline(rng)
    return drift(counts, baseline, WINDOWS[0]), drift(counts, baseline, WINDOWS[1])


def cycle_trace(rng: np.random.Generator) -> list[Drift]:
    """By window, of a number with a daily cycle."""
    counts, baseline = cycle(rng, 0.5, DAY, 4 * WEEK)
    return [drift(counts, baseline, window) for window in WINDOWS]


def main() -> None:
    began = time.process_time()
    results = measure()
    rng = np.random.default_rng(9)
    drift_report.draw(results, quiet_trace(rng), cycle_trace(rng), FOLDER / "drift_alarms.png")
    text = drift_report.render(results, time.process_time() - began)
    (FOLDER / "DRIFT.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
