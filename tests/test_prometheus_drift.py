"""A real Prometheus scrapes two real services of one model that get different shares of drifted flights, and what its
rules record is held equal to the service's own functions, and to SciPy on the rows that were sent.

`increase()` extrapolates to the edges of its range, each service by a factor of its own. So the rules run twice: as
they are, and with the counters themselves in the place of their increase, which is the same here, since they begin at
0 within the hour. The second must be equal; the first must be too, once the factors are known.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

from contract.drift import CRITICAL_Z, Drift, chi_square, drift
from contract.manifest import CategoryBins, Manifest
from tests.conftest import NAME, Trained
from tests.deploy.prometheus import Prometheus, hurried_rules, needs_prometheus, running
from tests.test_server import Process, Start, start
from tests.waiting import wait_until

__all__ = ["start"]  # the fixture of test_server, which ends what it has started

pytestmark = needs_prometheus

Row = dict[str, Any]
Recorded = dict[str, dict[str, float]]  # measures by input or output
Baselines = dict[str, tuple[tuple[float, ...], int]]  # ratios and rows by input or output
KINDS = {"input": "feature", "output": "output"}
MEASURES = ("psi", "js", "linf", "psi_critical")
WRITTEN = 1e-6  # a baseline's ratios are exported with seven digits


class Sent(NamedTuple):
    """Flights that a service got, and the probabilities that it answered."""

    rows: list[Row]
    probabilities: list[float]


class Scene(NamedTuple):
    prometheus: Prometheus
    services: list[Process]
    sent: list[Sent]


def exact_rules() -> dict[str, Any]:
    """The rules of an hour under names of their own, with counters in the place of their increase."""
    wanted = [
        group for group in hurried_rules()["groups"] if group["name"] in ("hornpipe-baseline", "hornpipe-drift-1h")
    ]
    text = json.dumps(wanted).replace("model_version_", "exact_model_version_").replace("hornpipe-", "exact-")
    for kind in KINDS:
        extrapolated = f"increase(hornpipe_{kind}_bin_total[1h])"
        assert text.count(extrapolated) == 1
        text = text.replace(extrapolated, f"hornpipe_{kind}_bin_total")
    return {"groups": json.loads(text)}


@pytest.fixture(scope="module")
def mixed(flights: Path, trained: Trained) -> list[list[Row]]:
    """Flights of January to July, of which 10% of the first service's and 60% of the second's are long ones of winter
    to the west, as they really were."""
    names = [feature.name for feature in trained.bundle.manifest.features]
    known = ds.dataset([flights / f"2013-{month:02}.parquet" for month in range(1, 8)]).to_table(columns=names)
    later = ds.dataset([flights / f"2013-{month}.parquet" for month in (11, 12)]).to_table(columns=names)
    later = later.filter(pc.greater(later["distance"], 1500))
    rng = np.random.default_rng(3)

    def some(table: pa.Table, count: int) -> list[Row]:
        return table.take(rng.choice(len(table), count, replace=False)).to_pylist()

    return [some(known, 1080) + some(later, 120), some(known, 160) + some(later, 240)]


@pytest.fixture
def scene(start: Start, tmp_path: Path) -> Iterator[Scene]:
    """Both have been scraped while nothing had been counted."""
    services = [start(), start()]
    rules = hurried_rules()
    rules["groups"] += exact_rules()["groups"]
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with running(folder, *(f"127.0.0.1:{each.port}" for each in services), rules=rules) as prometheus:
        scraped = "count(count by (instance) (hornpipe_input_bin_total == 0))"
        wait_until(lambda: [each["value"][1] for each in prometheus.query(scraped)] == ["2"], "both are scraped")
        yield Scene(prometheus, services, [])


def send(scene: Scene, number: int, rows: list[Row]) -> None:
    """All to one service."""
    answers: list[Row] = []
    for i in range(0, len(rows), 100):
        answer = scene.services[number].client.post("/predict", json={"instances": rows[i : i + 100]})
        answers += answer.raise_for_status().json()["predictions"]
    scene.sent.append(Sent(rows, [each["probabilities"]["late"] for each in answers]))


def by_hand(manifest: Manifest, sent: list[Sent]) -> dict[str, np.ndarray]:
    """Rows by bin of every input and of the probability, by NumPy, from what was sent and answered."""
    rows = [row for each in sent for row in each.rows]
    found = {}
    for feature in manifest.features:
        bins, values = manifest.drift.inputs[feature.name], [row[feature.name] for row in rows]
        found[feature.name] = (
            of_categories(bins.categories, feature.vocabulary, values)
            if isinstance(bins, CategoryBins)
            else of_numbers(bins.edges, values)
        )
    probabilities = [each for some in sent for each in some.probabilities]
    found["probability"] = of_numbers(manifest.drift.outputs["probability"].edges, probabilities)
    return found


def of_numbers(edges: tuple[float, ...], given: list[float | None]) -> np.ndarray:
    values = np.array([np.nan if value is None else value for value in given], np.float32)
    inside, _ = np.histogram(values[np.isfinite(values)], np.array(edges, np.float32))
    outside = (values < np.float32(edges[0])).sum(), (values > np.float32(edges[-1])).sum()
    return np.array([outside[0], *inside, outside[1], np.isnan(values).sum(), 0])


def of_categories(categories: tuple[str, ...], vocabulary: tuple[str, ...], given: list[str | None]) -> np.ndarray:
    came = Counter(value if value is None or value in vocabulary else "\0" for value in given)
    missing, unseen, counts = came.pop(None, 0), came.pop("\0", 0), [came.pop(each, 0) for each in categories]
    return np.array([*counts, came.total(), missing, unseen])


def oracle(counts: np.ndarray, baseline: tuple[float, ...], baseline_rows: int) -> dict[str, float]:
    """By SciPy, from the definitions; counts need not be whole."""
    rows, q = counts.sum(), np.array(baseline)
    smoothed = counts + np.minimum(0.5, rows * q)
    p = smoothed / smoothed.sum()
    return {
        "psi": rel_entr(p, q).sum() + rel_entr(q, p).sum(),
        "js": jensenshannon(p, q, base=2),
        "linf": np.linalg.norm(p - q, np.inf),
        "psi_critical": (1 / rows + 1 / baseline_rows) * chi_square(len(q) - 1, CRITICAL_Z),
    }


def recorded(prometheus: Prometheus, prefix: str, at: float) -> Recorded:
    """By input or output, what its judgement came to at a moment."""
    found: Recorded = {}
    for kind, level in KINDS.items():
        for measure in MEASURES:
            for each in prometheus.query(f"{prefix}model_version_{level}:hornpipe_{kind}:{measure}1h", at):
                found.setdefault(each["metric"][level], {})[measure] = float(each["value"][1])
    return found


def judged(prometheus: Prometheus, prefix: str = "") -> float:
    """The moment of the last judgement, by the rule that comes last in it; NaN where it has come to nothing."""
    return prometheus.value(f"max(timestamp({prefix}model_version_output:hornpipe_output:psi_critical1h))")


def rows_judged(prometheus: Prometheus, at: float) -> set[float]:
    names = [f"exact_model_version_{level}:hornpipe_{kind}_rows:increase1h" for kind, level in KINDS.items()]
    return {float(each["value"][1]) for name in names for each in prometheus.query(name, at)}


def exactly(scene: Scene, given: Baselines) -> Recorded:
    """What was recorded by the first judgement that saw all rows of all inputs and outputs: a service whose scrape
    takes longer than it may is in none."""
    total, found = sum(len(each.rows) for each in scene.sent), Recorded()

    def look() -> bool:
        at = judged(scene.prometheus, "exact_")
        if math.isfinite(at) and rows_judged(scene.prometheus, at) == {total}:
            found.update(recorded(scene.prometheus, "exact_", at))
        return is_whole(found, given)

    wait_until(look, f"{total} rows are judged")
    return found


def is_whole(found: Recorded, given: Baselines) -> bool:
    return found.keys() == given.keys() and all(each.keys() == set(MEASURES) for each in found.values())


def rows_of(said: Row) -> np.ndarray:
    return np.array([each["rows"] for each in said["bins"]])


def told(service: Process) -> dict[str, Row]:
    """What the service itself says of the hour, by input or output."""
    answer = service.client.get(f"/models/{NAME}/drift", params={"window": "1h"}).raise_for_status().json()
    return {each["name"]: each for each in answer["inputs"] + answer["outputs"]}


def baselines(manifest: Manifest) -> Baselines:
    """Ratios and rows."""
    inputs = {name: (bins.ratios, manifest.drift.rows) for name, bins in manifest.drift.inputs.items()}
    outputs = {name: (bins.ratios, manifest.data.validation_rows) for name, bins in manifest.drift.outputs.items()}
    return {**inputs, **outputs}


def factors(scene: Scene, at: float) -> list[float] | None:
    """How many times its rows increase() makes of each service's, at a moment. None where the judgement of that moment
    saw other samples: a scrape has the time at which it began, and is there when it has ended."""
    rows = [len(each.rows) for each in scene.sent]
    for kind, level, name in (("input", "feature", "distance"), ("output", "output", "probability")):
        each = f'sum by (instance) (increase(hornpipe_{kind}_bin_total{{{level}="{name}"}}[1h]))'
        by_instance = {one["metric"]["instance"]: float(one["value"][1]) for one in scene.prometheus.query(each, at)}
        found = [by_instance.get(f"127.0.0.1:{service.port}", math.nan) for service in scene.services]
        rows_seen = f'model_version_{level}:hornpipe_{kind}_rows:increase1h{{{level}="{name}"}}'
        if scene.prometheus.value(rows_seen, at) != pytest.approx(sum(found), rel=1e-12):
            return None
    return [increase / count for increase, count in zip(found, rows, strict=True)]


def judgement(scene: Scene, given: Baselines) -> tuple[Recorded, list[float]]:
    """What a judgement by all samples before it came to, and its factors."""
    found: list[tuple[Recorded, list[float]]] = []

    def look() -> bool:
        at = judged(scene.prometheus)
        scale = factors(scene, at) if math.isfinite(at) else None
        if scale is not None and is_whole(said := recorded(scene.prometheus, "", at), given):
            found.append((said, scale))
        return bool(found)

    wait_until(look, "a judgement saw all samples before it")
    return found[0]


def as_recorded(found: Drift) -> dict[str, float]:
    return {"psi": found.psi, "js": found.js, "linf": found.linf, "psi_critical": found.critical}


def same(expected: dict[str, float]) -> object:
    return pytest.approx(expected, rel=WRITTEN, abs=WRITTEN)


def test_prometheus_the_service_and_scipy_agree(scene: Scene, mixed: list[list[Row]], trained: Trained) -> None:
    manifest = trained.bundle.manifest
    given = baselines(manifest)
    send(scene, 0, mixed[0])
    what_one_service_says_is_recorded(scene, manifest, given)
    send(scene, 1, mixed[1])
    found = exactly(scene, given)
    counts = [{name: rows_of(each) for name, each in told(service).items()} for service in scene.services]
    both = {name: counts[0][name] + counts[1][name] for name in counts[0]}
    assert {name: both[name].tolist() for name in by_hand(manifest, scene.sent)} == listed(
        by_hand(manifest, scene.sent)
    )

    the_sum_is_judged(found, both, given)
    the_rules_as_they_are_differ_by_extrapolation_alone(scene, counts, given)


def what_one_service_says_is_recorded(scene: Scene, manifest: Manifest, given: Baselines) -> None:
    found, said = exactly(scene, given), told(scene.services[0])

    assert found.keys() == said.keys() == given.keys()
    for name, each in said.items():
        assert found[name] == same({measure: each[measure.removeprefix("psi_")] for measure in MEASURES})
    by_hands = by_hand(manifest, scene.sent)
    assert {name: rows_of(said[name]).tolist() for name in by_hands} == listed(by_hands)


def the_sum_is_judged(found: Recorded, both: dict[str, np.ndarray], given: Baselines) -> None:
    """And not each service, nor their mean."""
    for name, (ratios, rows) in given.items():
        own = drift(both[name], ratios, rows)
        assert found[name] == same(oracle(both[name], ratios, rows))
        assert found[name] == same(as_recorded(own))
        assert own.drifted == (found[name]["psi"] > max(0.1, found[name]["psi_critical"]))
    assert drift(both["month"], *given["month"]).drifted
    assert not drift(both["day_of_week"], *given["day_of_week"]).drifted


def the_rules_as_they_are_differ_by_extrapolation_alone(
    scene: Scene, counts: list[dict[str, np.ndarray]], given: Baselines
) -> None:
    """Of an hour of scrapes each 15 seconds that would be 0.4% of the rows; here it is some of a few seconds, and more
    where a busy machine has scraped seldom."""
    found, scale = judgement(scene, given)

    assert min(scale) > 0.999, scale
    for name, (ratios, rows) in given.items():
        scaled = scale[0] * counts[0][name] + scale[1] * counts[1][name]
        assert found[name] == same(oracle(scaled, ratios, rows))


def listed(counts: dict[str, np.ndarray]) -> dict[str, list[int]]:
    return {name: each.tolist() for name, each in counts.items()}
