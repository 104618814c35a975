"""Rows by how strange they are, against scoring them one by one."""

import numpy as np
import pytest

from contract.encoded import Encoded
from contract.features import Encoder
from contract.manifest import Manifest
from contract.outlier import BOUNDS
from service.counting.store import OwnMemory
from service.counting.watch import Watch
from service.processes.shared import SharedFolder
from tests.service import untrained
from tests.service.scraped import Samples, scraped, value
from tests.service.untrained import BINARY, Process, Served, some_rows
from training.exporting import outliers

METRIC = "hornpipe_outlier_score"


def manifest(name: str = "flights") -> Manifest:
    made = untrained.table(name)
    rows, _ = some_rows(500, 3, BINARY, seed=3)
    outlier = outliers.of_rows(Encoder(made.features), rows, made.drift, seed=0)
    assert outlier is not None
    return Manifest.model_validate(made.model_dump() | {"outlier": outlier.model_dump()})


def cumulative(samples: Samples, name: str) -> list[float]:
    bounds = [*map(str, BOUNDS), "+Inf"]
    return [value(samples, f"{METRIC}_bucket", model=name, version="1", le=bound) for bound in bounds]


def shares_of(watch: Watch, rows: Encoded) -> np.ndarray | None:
    return watch.outlier_shares(*watch.inputs.columns(rows))


@pytest.mark.parametrize("sizes", [(1,) * 40, (511, 1, 512, 513)], ids=str)
def test_every_row_is_in_the_bucket_of_its_share(sizes: tuple[int, ...]) -> None:
    served = Served(manifest())
    process = Process(OwnMemory(), served)
    parts = [some_rows(size, 3, BINARY, seed) for seed, size in enumerate(sizes)]
    for rows, answers in parts:
        served.monitor.observe(rows, {"probability": answers}, rows.rows)
    every = Encoded.join([rows for rows, _ in parts])
    shares = shares_of(served.monitor.watch, every)
    assert shares is not None

    samples = scraped(process.metrics)

    assert cumulative(samples, "flights") == [(shares <= bound).sum() for bound in (*BOUNDS, np.inf)]
    assert value(samples, f"{METRIC}_count", model="flights", version="1") == len(shares)
    assert value(samples, f"{METRIC}_sum", model="flights", version="1") == pytest.approx(shares.sum())


def test_it_is_there_at_zero_and_absent_where_nothing_is_scored() -> None:
    process = Process(OwnMemory(), Served(manifest()), Served(untrained.table("older")))

    samples = scraped(process.metrics)

    assert cumulative(samples, "flights") == [0] * (len(BOUNDS) + 1)
    assert not [labels for name, labels in samples if name.startswith(METRIC) and ("model", "older") in labels]


def test_all_processes_are_added_up_and_other_counts_are_what_they_were(tmp_path) -> None:
    served = [Served(manifest()), Served(manifest())]
    processes = [Process(SharedFolder(tmp_path, worker), each) for worker, each in enumerate(served)]
    answers = [each.answer(700, seed) for seed, each in enumerate(served)]

    samples = scraped(processes[0].metrics)

    assert cumulative(samples, "flights")[-1] == 1400
    positive = sum(int((each >= 0.5).sum()) for each in answers)
    assert value(samples, "hornpipe_predictions_total", model="flights", version="1", label="yes") == positive
    assert value(samples, "hornpipe_prediction_score_count", model="flights", version="1") == 1400


def test_shares_do_not_depend_on_what_else_is_asked() -> None:
    made = manifest()
    watch = Watch(made, Encoder(made.features))
    rows, _ = some_rows(100, 3, BINARY, seed=9)

    alone = np.concatenate([shares_of(watch, rows.take(slice(i, i + 1))) for i in range(100)])

    assert shares_of(watch, rows) == pytest.approx(alone, abs=1e-5)
    assert shares_of(Watch(untrained.table(), Encoder(made.features)), rows) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"numbers": "number 9"}, "inputs that the drift baseline lacks"),
        ({"numbers": "color"}, "a number or a category, and not both"),
        ({"categories": "shape"}, "inputs that the drift baseline lacks"),
        ({"shares": 1}, "a share of each value"),
    ],
    ids=str,
)
def test_a_manifest_that_scores_what_it_does_not_watch_is_refused(change: dict[str, object], problem: str) -> None:
    known = manifest().model_dump()
    numbers, categories = known["outlier"]["numbers"], known["outlier"]["categories"]
    if "numbers" in change:
        numbers[change["numbers"]] = numbers.pop("number 0")
    elif "categories" in change:
        categories[change["categories"]] = categories.pop("color")
    else:
        categories["color"] |= {"shares": [*categories["color"]["shares"], 0.0]}

    with pytest.raises(ValueError, match=problem):
        Manifest.model_validate(known)
