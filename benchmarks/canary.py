"""How often a canary that is no worse goes back, and how soon one that is worse does: `python -m benchmarks.canary`.

Days of traffic are made up and looked at every second by what decides in the service (service/canary): nothing is
timed, so it may run anywhere. Traffic has a day's rhythm, errors come in bursts, and how long a run takes depends on
the hour; a request is the canary's by chance. What is printed is the table in docs/retraining.md.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from contract.promotion import Margins, Promotion
from contract.quality_interval import measured
from contract.routing import Canary
from service.canary.decision import GoBack, GoOn, Trial, decide
from service.canary.evidence import Evidence, Moments, Pairs, Side, total
from service.canary.measures import ALPHA, LEAST_FAILED, Labelled, measures

DAY = 86_400
BINS = 12
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """How the canary differs: by how much more it fails, how many times as long it takes, by how many standard
    deviations its outputs lie elsewhere, on which share of rows it disagrees, by how much its ROC AUC is worse."""

    name: str
    errors: float = 0.0
    slower: float = 1.0
    shifted: float = 0.0
    disagrees: float = 0.1
    auc: float = 0.0


@dataclass(frozen=True)
class Setup:
    """`volume` is requests a day, `every` the seconds between looks; `paired` is whether production is tried on what
    the canary answers."""

    policy: Promotion
    volume: int
    label_share: float = 0.0
    paired: bool = True
    every: int = 1


@dataclass(frozen=True)
class End:
    """What became of a canary: `seconds` and its requests until then. `by` is the measure that sent it back."""

    what: str
    seconds: float = 0.0
    requests: int = 0
    by: str = ""


EQUAL = Kind("equal")
STRICT = Margins(errors=0.0, latency=1.0, distribution=1e-9, disagreement=0.1, quality=0.0)
WORSE = (
    Kind("2% more requests fail", errors=0.02),
    Kind("3% more requests fail", errors=0.03),
    Kind("5% more requests fail", errors=0.05),
    Kind("10% more requests fail", errors=0.1),
    Kind("every request fails", errors=1.0),
    Kind("a run takes twice as long", slower=2.0),
    Kind("a run takes five times as long", slower=5.0),
    Kind("outputs lie one standard deviation off", shifted=1.0),
    Kind("every second row gets another label", disagrees=0.5),
    Kind("every row gets another label", disagrees=1.0),
    Kind("ROC AUC is 0.10 worse", auc=0.1),
)


class Day:
    """Requests of one day, as both versions would answer each."""

    def __init__(self, setup: Setup, kind: Kind, seed: int) -> None:
        random = np.random.default_rng(seed)
        count = random.poisson(setup.volume)
        self.at = _arrivals(random, count)
        self.place = random.random(count)
        rhythm = 0.3 * np.sin(2 * np.pi * self.at / DAY) + _wander(random)[self.at.astype(np.int64) // 60]
        fails = np.clip(0.002 + 0.05 * _bursts(random)[self.at.astype(np.int64) // 60], 0, 1)
        chance = random.random(count)
        self.failed = np.stack([chance < fails, chance < np.clip(fails + kind.errors, 0, 1)])
        noise = random.normal(0, 0.5, (2, count))
        self.seconds = math.log(0.002) + rhythm + noise + np.array([[0.0], [math.log(kind.slower)]])
        truth = random.normal(0, 1, count)
        other = truth + random.normal(0, 0.3, count) + kind.shifted
        edges = np.linspace(-2.5, 2.5, BINS - 1)
        self.bins = np.stack([np.searchsorted(edges, truth), np.searchsorted(edges, other)])
        self.disagreed = random.random(count) < kind.disagrees
        self.labelled = random.random(count) < setup.label_share
        self.label = random.random(count) < 0.4
        apart = np.where(self.label, 1.2, 0.0)  # a ROC AUC of 0.80
        lost = np.where(self.label, 1.2 - _apart(0.80 - kind.auc), 0.0)
        score = np.stack([apart + random.normal(0, 1, count), apart - lost + random.normal(0, 1, count)])
        self.score = (1 / (1 + np.exp(-score))).astype(np.float32)


def run(setup: Setup, kind: Kind, seed: int) -> End:
    """One canary, from the beginning of a day until it serves, goes back, or the day ends."""
    day, policy = Day(setup, kind, seed), setup.policy
    percent: float | None = policy.steps[0]
    began, asked = 0.0, 0
    before: list[Evidence] = []
    while percent is not None:
        step = _Step(day, setup, percent, began, before)
        for now, evidence, quality in step.looks():
            found = measures(evidence, policy.margins, len(policy.steps), quality, before=before)
            trial = Trial("made-up", 1, Canary(version=2, percent=percent), BEGAN, BEGAN + timedelta(seconds=began))
            decided = decide(trial, policy, evidence, found, BEGAN + timedelta(seconds=now))
            if isinstance(decided, GoBack):
                worse = next(measure.name for measure in found if measure.worse)
                return End("back", now, asked + evidence.canary.requests, worse)
            if isinstance(decided, GoOn):
                asked += evidence.canary.requests
                before.append(evidence)
                percent, began = decided.percent, now
                break
        else:
            return End("stays", DAY, asked)
    return End("serves", began, asked)


class _Step:
    """Sums over the requests of a step, at each second."""

    def __init__(self, day: Day, setup: Setup, percent: float, began: float, before: list[Evidence]) -> None:
        self.setup, self.percent, self.steps_before = setup, percent, before
        self.before = total(before).production
        first = int(np.searchsorted(day.at, began))
        self.day, self.first = day, first
        self.at = day.at[first:]
        mine = day.place[first:] < percent / 100
        self.arms = [np.flatnonzero(~mine), np.flatnonzero(mine)]
        self.began = began
        self.sums = [self._sums(side) for side in (0, 1)]

    def looks(self) -> Iterator[tuple[float, Evidence, Labelled | None]]:
        """Each second at which there may be something to decide: the others are left out because nothing can be worse
        where not even what was found is, without any allowance for chance."""
        policy = self.setup.policy
        seconds = np.arange(math.floor(self.began) + 1, DAY + 1, dtype=np.float64)
        ours, theirs = (np.searchsorted(self.at[arm], seconds) for arm in self.arms)
        enough = (theirs >= policy.min_requests) & (seconds - self.began >= 60 * policy.min_minutes)
        last = int(np.argmax(enough)) if enough.any() else len(seconds) - 1
        changed = np.diff(theirs[: last + 1], prepend=0) > 0
        if self.setup.every > 1:
            changed = seconds[: last + 1] % self.setup.every == 0
        labels = (seconds[: last + 1] % 3600 == 0) if self.setup.label_share else np.zeros(last + 1, bool)
        suspicious = changed & self._may_be_worse(ours[: last + 1], theirs[: last + 1]) | labels
        suspicious[last] = True
        for i in np.flatnonzero(suspicious):
            quality = self._quality(int(ours[i]), int(theirs[i])) if labels[i] or i == last else None
            yield float(seconds[i]), self._evidence(int(ours[i]), int(theirs[i])), quality

    def _sums(self, side: int) -> dict[str, NDArray[np.float64]]:
        of = self.first + self.arms[side]
        times = self.day.seconds[side, of]
        hits = self.day.bins[side, of][:, None] == np.arange(BINS)
        pair = self.day.bins[0, of][:, None] == np.arange(BINS)
        return {
            "failed": _from_zero(self.day.failed[side, of]),
            "seconds": _from_zero(times),
            "squares": _from_zero(times**2),
            "bins": _from_zero(hits),
            "pair": _from_zero(pair),
            "disagreed": _from_zero(self.day.disagreed[of]),
        }

    def _may_be_worse(self, ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> NDArray[np.bool_]:
        margins = self.setup.policy.margins
        before, now = self.sums
        least = np.maximum(theirs, 1)
        base, failed, took = np.maximum(ours, 1), before["failed"][ours], before["seconds"][ours]
        if self.percent >= 100:
            moments = self.before.seconds.get(1, Moments())
            base, failed = np.full_like(ours, max(1, self.before.requests)), np.full(ours.shape, self.before.failed)
            took = np.full(ours.shape, moments.mean * moments.count)
        worse = now["failed"][theirs] / least - failed / base > margins.errors
        if self.percent < 100:
            worse |= any(_excess(each) > margins.errors for each in self.steps_before)
            worse &= now["failed"][theirs] + total(self.steps_before).canary.failed >= LEAST_FAILED
        worse |= now["seconds"][theirs] / least - took / base > math.log(margins.latency)
        worse |= now["disagreed"][theirs] / least > margins.disagreement
        p = (now["bins"][theirs] + 0.5) / (least[:, None] + BINS / 2)
        other = now["pair"][theirs] if self.setup.paired else before["bins"][ours]
        q = (other + 0.5) / (other.sum(axis=1, keepdims=True) + BINS / 2)
        worse |= ((p - q) * np.log(p / q)).sum(axis=1) > margins.distribution
        return worse

    def _evidence(self, ours: int, theirs: int) -> Evidence:
        production, canary = self._side(0, ours), self._side(1, theirs)
        pairs = Pairs()
        if self.setup.paired and theirs:
            sums = self.sums[1]
            pairs = Pairs(
                requests=theirs,
                disagreed=float(sums["disagreed"][theirs]),
                production=Side(bins=_whole(sums["pair"][theirs])),
                canary=Side(bins=_whole(sums["bins"][theirs])),
            )
        beside = self.percent < 100
        if not beside:
            production = self.before.model_copy(update={"bins": ()})
        return Evidence(production=production, canary=canary, pairs=pairs, beside=beside)

    def _side(self, side: int, count: int) -> Side:
        if not count:
            return Side()
        sums = {name: each[count] for name, each in self.sums[side].items()}
        mean = float(sums["seconds"]) / count
        moments = Moments(count=count, mean=mean, squares=max(0.0, float(sums["squares"]) - count * mean**2))
        return Side(requests=count, failed=int(sums["failed"]), seconds={1: moments}, bins=_whole(sums["bins"]))

    def _quality(self, ours: int, theirs: int) -> Labelled | None:
        if not self.setup.label_share:
            return None
        found = []
        for side, count in ((0, ours), (1, theirs)):
            of = self.first + self.arms[side][:count]
            of = of[self.day.labelled[of]]
            metrics = measured("binary", self.day.label[of].astype(np.int64), self.day.score[side, of])
            found.append((metrics.get("roc_auc"), len(of)))
        (before, rows), (now, canary_rows) = found
        if before is None or now is None:
            return None
        return Labelled(metric="roc_auc", production=before, canary=now, production_rows=rows, canary_rows=canary_rows)


def _arrivals(random: np.random.Generator, count: int) -> Floats:
    """Three times as many in the afternoon as at night."""
    times = random.uniform(0, DAY, 3 * count + 100)
    kept = times[random.random(len(times)) < (1 - 0.5 * np.cos(2 * np.pi * times / DAY)) / 1.5]
    return np.sort(kept[:count])


def _wander(random: np.random.Generator) -> Floats:
    """By minute: what else the machine does."""
    steps = random.normal(0, 0.05, DAY // 60 + 1)
    found = np.zeros(len(steps))
    for i in range(1, len(steps)):
        found[i] = 0.95 * found[i - 1] + steps[i]
    return found


def _bursts(random: np.random.Generator) -> Floats:
    """By minute: six times a day something that both need is away for five minutes."""
    found = np.zeros(DAY // 60 + 1)
    for start in random.integers(0, len(found) - 5, 6):
        found[start : start + 5] = 1
    return found


def _excess(step: Evidence) -> float:
    ours, theirs = step.production, step.canary
    return theirs.failed / max(1, theirs.requests) - ours.failed / max(1, ours.requests)


def _apart(auc: float) -> float:
    """Standard deviations between two classes of this ROC AUC."""
    from statistics import NormalDist

    return math.sqrt(2) * NormalDist().inv_cdf(auc)


def _from_zero(values: NDArray[np.generic]) -> Floats:
    """Sums of the first 0, 1, 2, ... values."""
    summed: Floats = np.cumsum(values, axis=0, dtype=np.float64)
    return np.concatenate([np.zeros((1, *summed.shape[1:])), summed])


def _whole(values: Floats) -> tuple[int, ...]:
    return tuple(map(int, values))


def false_alarms(days: int) -> None:
    """A canary that stays at 5% all day has more time to be taken for worse than one that goes on; one for which the
    least excess counts shows what the bounds themselves are worth."""
    careful = Promotion(policy="canary")
    endless = careful.model_copy(update={"min_requests": 10**9})
    strict = endless.model_copy(update={"margins": STRICT, "steps": [5.0]})
    print("| requests a day | by the default policy | at 5% all day | at 5% all day, margins of nothing |")
    print("| --: | --: | --: | --: |")
    for volume in (1_000, 10_000, 100_000, 1_000_000):
        count = days if volume <= 100_000 else max(10, days // 20)
        labels = min(0.2, 10_000 / volume)
        cells = [
            _told([run(Setup(careful, volume, labels), EQUAL, seed) for seed in range(count)]),
            _told([run(Setup(endless, volume, labels), EQUAL, seed) for seed in range(count)]),
            _told([run(Setup(strict, volume, labels, every=600), EQUAL, seed) for seed in range(count)]),
        ]
        print(f"| {volume:,} | {' | '.join(cells)} |", flush=True)
    print(f"\nAllowed: {ALPHA:.0%}.\n")


def _told(ends: list[End]) -> str:
    back, serves = (sum(end.what == what for end in ends) for what in ("back", "serves"))
    return f"{back} of {len(ends)} back" + (f", {serves} serve" if serves else "")


def delays(days: int) -> None:
    careful = Promotion(policy="canary")
    print("| the canary | requests a day | went back | requests to it, median (90%) | minutes | by |")
    print("| --- | --: | --: | --: | --: | --- |")
    for kind in WORSE:
        for volume in (10_000, 100_000):
            share = 0.2 if kind.auc else 0.0
            ends = [run(Setup(careful, volume, label_share=share), kind, seed) for seed in range(days)]
            back = [end for end in ends if end.what == "back"]
            if not back:
                print(f"| {kind.name} | {volume:,} | 0 of {days} | | | |", flush=True)
                continue
            requests, minutes = ([f(end) for end in back] for f in (lambda e: e.requests, lambda e: e.seconds / 60))
            asked = f"{np.median(requests):.0f} ({np.quantile(requests, 0.9):.0f})"
            waited = f"{np.median(minutes):.1f} ({np.quantile(minutes, 0.9):.1f})"
            by = ", ".join(sorted({end.by for end in back}))
            print(f"| {kind.name} | {volume:,} | {len(back)} of {days} | {asked} | {waited} | {by} |", flush=True)


def power(tries: int = 20) -> None:
    """How often a ROC AUC of 0.70 instead of 0.80 is found, at one look, by how many labelled rows of the canary."""
    print("| labelled rows of the canary | found |\n| --: | --: |")
    for rows in (200, 400, 600, 800, 1000, 1500):
        found = sum(_found(np.random.default_rng(seed), rows) for seed in range(tries))
        print(f"| {rows:,} | {found} of {tries} |", flush=True)


def _found(random: np.random.Generator, rows: int) -> bool:
    sides = []
    for auc, count in ((0.8, 8 * rows), (0.7, rows)):
        labels = (random.random(count) < 0.4).astype(np.int64)
        scores = 1 / (1 + np.exp(-(labels * _apart(auc) + random.normal(size=count))))
        sides.append(measured("binary", labels, scores.astype(np.float32))["roc_auc"])
    labelled = Labelled(
        metric="roc_auc", production=sides[0], canary=sides[1], production_rows=8 * rows, canary_rows=rows
    )
    policy = Promotion()
    return measures(Evidence(), policy.margins, len(policy.steps), labelled)[-1].worse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=300, help="of traffic, for each number in the first table")
    parser.add_argument("--only", choices=("false alarms", "delays", "power"), help="one table of the three")
    options = parser.parse_args()
    if options.only in (None, "false alarms"):
        false_alarms(options.days)
    if options.only in (None, "delays"):
        delays(max(10, options.days // 10))
    if options.only in (None, "power"):
        power()


if __name__ == "__main__":
    main()
