"""Real flights through a real service, with what became of them: against scikit-learn on the answers' own numbers."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.dataset as ds
import pytest
from sklearn import metrics as oracle

from contract import bundle, routing
from contract.estimate import calibrated, estimated
from contract.manifest import BinaryOutput, Manifest, MulticlassOutput, RegressionOutput
from contract.quality_interval import MEASURED
from service.labels.labelled import Joined
from service.quality.quality import HEADLINES, Known, Quality, quality
from service.quality.rows import collected, days
from service.quality.words import summary
from tests.conftest import NAME, Serve, Trained, add_version
from tests.service.processes.test_workers import workers
from tests.service.scraped import Samples, parsed, total, value
from tests.test_server import Start, start
from tests.waiting import PATIENCE_SECONDS, wait_until
from training.evaluation.estimation import expectation
from training.task import TASKS

__all__ = ["start"]

OFTEN = {"quality_seconds": 0.1}


def computed(url: str) -> float:
    """When the quality was computed last; 0 while nobody answers."""
    try:
        samples = parsed(httpx.get(f"{url}/metrics", timeout=PATIENCE_SECONDS).text)
        return value(samples, "hornpipe_quality_timestamp_seconds")
    except httpx.TransportError:
        return 0.0


@pytest.fixture
def rows(trained: Trained, some_flights: Path) -> list[dict[str, Any]]:
    """Flights of all months, as clients send them, and their outcome."""
    names = [feature.name for feature in trained.bundle.manifest.features]
    table = ds.dataset(some_flights).to_table(columns=[*names, "outcome"]).to_pylist()
    return [{name: each for name, each in row.items() if each is not None} for row in table]


def ask(client: httpx.Client, rows: list[dict[str, Any]], **more: object) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Probabilities of being late, and the feedback of all rows; a hundred rows a request."""
    late, feedback = [], []
    for first in range(0, len(rows), 100):
        some = rows[first : first + 100]
        body = {"instances": [{k: v for k, v in row.items() if k != "outcome"} for row in some], **more}
        answer = client.post("/predict", json=body).raise_for_status().json()
        late += [each["probabilities"]["late"] for each in answer["predictions"]]
        feedback += [
            {"request_id": answer["request_id"], "row": i, "label": row["outcome"]} for i, row in enumerate(some)
        ]
    return np.array(late, np.float32), feedback


def report(client: httpx.Client, rows: int, labelled: int, **query: object) -> dict[str, Any]:
    """Once the log is indexed that far."""
    found: dict[str, Any] = {}

    def there() -> bool:
        found.update(client.get(f"/models/{NAME}/quality", params=query).raise_for_status().json())
        return [(each["rows"], each["labelled"]) for each in found["versions"]][:1] == [(rows, labelled)]

    wait_until(there, "all rows and labels are there")
    return found


def scrape(client: httpx.Client) -> Samples:
    return parsed(client.get("/metrics").raise_for_status().text)


def values_of(samples: Samples, name: str, version: int = 1) -> dict[str, float]:
    wanted = {("model", NAME), ("version", str(version))}
    return {dict(labels)["metric"]: each for (n, labels), each in samples.items() if n == name and wanted < labels}


@pytest.fixture
def manifest(models: Path, trained: Trained) -> Manifest:
    """Of version 1 again, which now says "late" of some flights as well."""
    first, answers = trained.bundle.manifest, trained.assessment.scores_validation
    output = BinaryOutput(**first.output.model_dump() | {"threshold": float(np.quantile(answers, 0.7))})
    bins = first.drift.outputs["probability"]
    learnt = expectation(output, bins, trained.prepared.validation.labels, answers, 0)
    routing.promote(
        models, NAME, add_version(models, output=output, expectation=learnt).manifest.version, by="test", why=""
    )
    return bundle.read_version(models, NAME, 2).manifest


@pytest.fixture
def logging(manifest: Manifest, serve: Serve, tmp_path: Path) -> httpx.Client:
    return serve(predictions_dir=tmp_path / "kept", **OFTEN)


def test_quality_is_what_scikit_learn_makes_of_the_answers(
    logging: httpx.Client, rows: list[dict[str, Any]], manifest: Manifest
) -> None:
    began = time.time()
    late, feedback = ask(logging, rows)
    known = feedback[:500]
    logging.post("/feedback", json=known).raise_for_status()
    truth = np.array([each["label"] == "late" for each in known])
    said = late[:500] >= np.float32(manifest.output.threshold)

    found = report(logging, len(rows), 500)

    (version,) = found["versions"]
    assert (version["version"], version["labelled_share"]) == (2, 500 / len(rows))
    assert 0 <= version["label_delay_seconds"] < time.time() - began
    figures = version["metrics"]
    assert next(iter(figures)) == "roc_auc"
    assert figures.keys() == set(MEASURED["binary"])
    expected = {
        "roc_auc": oracle.roc_auc_score(truth, late[:500]),
        "log_loss": oracle.log_loss(truth, late[:500].astype(float)),
        "brier": oracle.brier_score_loss(truth, late[:500]),
        "accuracy": oracle.accuracy_score(truth, said),
        "precision": oracle.precision_score(truth, said, zero_division=0),
        "recall": oracle.recall_score(truth, said),
        "f1": oracle.f1_score(truth, said),
    }
    for name, each in expected.items():
        assert figures[name]["value"] == pytest.approx(each, abs=1e-6), name
        assert figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"]
        promised = manifest.metrics[name]
        assert [figures[name][f"baseline{end}"] for end in ("", "_low", "_high")] == pytest.approx(
            [promised.value, promised.low, promised.high]
        )

    of_all, of_known = (
        estimated(calibrated(manifest.expectation, each), each, manifest.output.threshold)
        for each in (late, late[:500])
    )
    for name in of_all:
        assert figures[name]["estimate"] == pytest.approx(of_all[name], abs=1e-5)
        assert figures[name]["error"] == pytest.approx(of_known[name] - figures[name]["value"], abs=1e-5)
    assert version["answered"]["rows"] == len(rows)
    assert version["answered"]["estimates"]["roc_auc"] == pytest.approx(figures["roc_auc"]["estimate"], abs=0.02)
    assert "500 of 720 rows predicted in the last 7 days have a label (69%)" in version["summary"]
    assert [sum(day[each] for day in version["days"]) for each in ("rows", "labelled")] == [720, 500]
    if began // DAY == time.time() // DAY:  # else there may be two
        assert [day["metrics"] for day in version["days"]] == [figures]


def test_metrics_have_what_was_computed_last(
    logging: httpx.Client, rows: list[dict[str, Any]], manifest: Manifest
) -> None:
    before, began = scrape(logging), time.time()
    _, feedback = ask(logging, rows[:300])
    logging.post("/feedback", json=feedback).raise_for_status()
    samples: Samples = {}

    def all_is_computed() -> bool:
        samples.clear()
        samples.update(scrape(logging))
        of = ("hornpipe_quality_rows", "hornpipe_quality_estimate_rows")
        return [total(samples, each) for each in of] == [300, 300]

    wait_until(all_is_computed, "the quality of all rows is there")
    (version,) = report(logging, 300, 300)["versions"]

    for name, key in {
        "hornpipe_quality": "value",
        "hornpipe_quality_low": "low",
        "hornpipe_quality_high": "high",
        "hornpipe_quality_baseline": "baseline",
        "hornpipe_quality_baseline_low": "baseline_low",
        "hornpipe_quality_baseline_high": "baseline_high",
        "hornpipe_quality_estimate_error": "error",
    }.items():
        expected = {metric: figure[key] for metric, figure in version["metrics"].items() if figure[key] is not None}
        assert values_of(samples, name, 2) == pytest.approx(expected), name
    assert values_of(samples, "hornpipe_quality_estimate", 2) == pytest.approx(version["answered"]["estimates"])
    assert value(samples, "hornpipe_quality_rows", model=NAME, version="2") == 300
    assert began < value(samples, "hornpipe_quality_timestamp_seconds") <= time.time()
    assert values_of(before, "hornpipe_quality", 2) == {}


def test_without_a_log_answers_alone_are_estimated(serve: Serve, rows: list[dict[str, Any]]) -> None:
    client = serve(**OFTEN)
    ask(client, rows[:100])

    found = client.get(f"/models/{NAME}/quality").json()

    assert (found["logged"], found["versions"][0]["rows"]) == (False, 0)
    assert "HORNPIPE_PREDICTIONS_DIR" in found["versions"][0]["summary"]
    assert found["versions"][0]["answered"]["rows"] == 100
    wait_until(lambda: total(scrape(client), "hornpipe_quality_estimate_rows") == 100, "the gauges are there")
    samples = scrape(client)
    assert values_of(samples, "hornpipe_quality_estimate") == found["versions"][0]["answered"]["estimates"]
    assert values_of(samples, "hornpipe_quality_baseline").keys() == set(MEASURED["binary"])
    assert values_of(samples, "hornpipe_quality") == {}


def test_versions_are_told_apart(serve: Serve, models: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    add_version(models)
    routing.pin(models, NAME, 2, by="test", why="to ask it")
    client = serve(predictions_dir=tmp_path / "kept", **OFTEN)
    wait_until(lambda: client.get("/v2/models/flights/versions/2/ready").status_code == 200, "both serve")
    ask(client, rows[:50])
    _, feedback = ask(client, rows[50:70], version=2)
    client.post("/feedback", json=feedback).raise_for_status()

    both = report(client, 20, 20)["versions"]
    first = report(client, 50, 0, version=1)["versions"]

    assert [(each["version"], each["rows"]) for each in both] == [(2, 20), (1, 50)]
    assert len(first) == 1
    assert first[0]["metrics"]["roc_auc"]["value"] is None
    assert "None of 50 rows" in first[0]["summary"]
    assert "ROC AUC" in first[0]["summary"]


def test_what_is_asked_wrongly_is_told(logging: httpx.Client) -> None:
    def code(path: str) -> tuple[int, str]:
        answer = logging.get(path)
        return answer.status_code, answer.json()["error"]["code"]

    assert code("/models/nobody/quality") == (404, "unknown_model")
    assert code(f"/models/{NAME}/quality?version=9") == (404, "unknown_version")
    assert code(f"/models/{NAME}/quality?version=x") == (422, "invalid_request")
    assert code(f"/models/{NAME}/quality?days=0") == (422, "invalid_request")


def test_every_worker_tells_the_same_and_one_takes_over(
    start: Start, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    service = start(WORKERS=2, PREDICTIONS_DIR=tmp_path / "kept", QUALITY_SECONDS=0.2)
    url = f"http://127.0.0.1:{service.port}"
    wait_until(lambda: service.status("/readyz") == 200, "it serves")
    feedback = []
    for i in range(0, 200, 50):  # each on a connection of its own, to whichever worker
        with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
            feedback += ask(client, rows[i : i + 50])[1]
            client.post("/feedback", json=feedback).raise_for_status()

    def realised() -> list[dict[str, float]]:
        found = []
        for _ in range(6):
            with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
                samples = scrape(client)
                found.append(values_of(samples, "hornpipe_quality") | {"rows": total(samples, "hornpipe_quality_rows")})
        return found

    wait_until(lambda: all(each["rows"] == 200 for each in realised()), "all have it")
    found = realised()
    assert found == [found[0]] * 6
    assert found[0].keys() >= {"rows", "roc_auc", "calibration_error", "accuracy"}

    for worker in workers(service).values():
        os.kill(worker, signal.SIGKILL)
        killed = time.time()
        wait_until(lambda: computed(url) > killed, "another one computes")  # noqa: B023  # it is called at once
    wait_until(lambda: realised() == found, "all tell the same as before")


BINARY = BinaryOutput(classes=("late", "on_time"), positive="late", threshold=0.5)  # the positive class first
SEVERAL = MulticlassOutput(classes=("a", "b", "c"))
NUMBER = RegressionOutput(minimum=0, maximum=9, half_width=1)
DAY = 86_400.0


def joined(output: Any, scores: list[Any], labels: list[Any], at: float = 0.0, version: int = 1) -> Joined:
    count = len(scores)
    unknown = np.array([label == -1 or label != label for label in labels])
    return Joined(
        "m",
        version,
        output,
        at + np.arange(count, dtype=float),
        np.where(unknown, np.nan, at + 3600.0),
        np.full(count, "production", object),
        np.array(scores, np.float32),
        np.array(labels, float if output is NUMBER else np.int64),
    )


def test_the_positive_class_may_be_any() -> None:
    found = quality(joined(BINARY, [0.9, 0.8, 0.3, 0.1], [0, 0, 1, 1]), Known())

    assert found.metrics["roc_auc"].value == found.metrics["recall"].value == 1


def test_of_several_classes_and_of_numbers() -> None:
    scores = [[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]

    several = quality(joined(SEVERAL, scores, [0, 1, 2, -1]), Known())
    number = quality(joined(NUMBER, [1, 2, 3], [2, np.nan, 5]), Known())

    assert (several.rows, several.labelled) == (4, 3)
    assert next(iter(several.metrics)) == "f1_macro"
    assert several.metrics["accuracy"].value == 1
    assert several.metrics["accuracy"].estimate == pytest.approx((0.8 + 0.6 + 0.7 + 0.5) / 4)
    assert several.metrics["accuracy"].error == pytest.approx((0.8 + 0.6 + 0.7) / 3 - 1)
    assert (number.metrics["mae"].value, number.labelled) == (1.5, 2)
    assert number.metrics["mae"].estimate is None


def test_a_label_that_is_none_of_the_classes_says_nothing() -> None:
    rows = joined(BINARY, [0.9, 0.8, 0.3], [0, 0, 1])
    rows.labels[1] = -1

    found = quality(rows, Known())

    assert (found.rows, found.labelled) == (3, 2)


def test_versions_are_judged_first_by_what_training_judges_them_by() -> None:
    assert {task.output: task.headline for task in TASKS.values()} == HEADLINES


def test_rows_are_gathered_by_version_and_day_and_not_without_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.quality.rows.MOST_ROWS", 5)
    chunks = [
        joined(BINARY, [0.1, np.nan, 0.3], [0, 1, 0]),
        joined(BINARY, [0.1, 0.2, 0.3], [0, 1, 0], DAY - 1),
        joined(BINARY, [0.4, 0.5], [-1, 1], 3 * DAY),
        joined(SEVERAL, [[1, 0, 0]], [0], 5 * DAY, version=2),
        joined(BINARY, [0.7], [1], 6 * DAY, version=2),
    ]

    found = collected(chunks)

    first, left_out = found[1]
    assert (first.scores.tolist(), left_out) == (np.float32([0.1, 0.2, 0.3, 0.4, 0.5]).tolist(), 2)
    assert [(day, each.scores.tolist()) for day, each in days(first)] == [
        (3, np.float32([0.4, 0.5]).tolist()),
        (1, np.float32([0.2, 0.3]).tolist()),
        (0, np.float32([0.1]).tolist()),
    ]
    assert found[2][0].output == BINARY  # the number was given twice


def told(value: float | None, low: float, high: float, **more: float) -> str:
    figure = {"value": value, "low": low, "high": high} if value is not None else {}
    known = 900 if value is not None else 0
    found = Quality(
        rows=1200,
        labelled=known,
        labelled_share=known / 1200,
        label_delay_seconds=4.2 * 3600 if known else None,
        metrics={"roc_auc": figure | more},
    )
    return summary(found, "in the last 7 days")


BASELINE = {"baseline": 0.70, "baseline_low": 0.69, "baseline_high": 0.71}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (told(0.6, 0.57, 0.63, **BASELINE), "it has become worse, by more than chance"),
        (told(0.8, 0.77, 0.83, **BASELINE), "it has become better, by more than chance"),
        (told(0.69, 0.66, 0.72, **BASELINE), "no more of a difference than chance makes"),
        (
            told(0.69, 0.66, 0.72),
            "900 of 1,200 rows predicted in the last 7 days have a label (75%), half of them with",
        ),
        (told(0.69, 0.66, 0.72), "within 4.2 hours. ROC AUC is 0.69 (0.66 to 0.72)."),
        (told(0.69, 0.66, 0.72, estimate=0.7, error=0.01), "such an estimate is as good as they can tell"),
        (told(0.60, 0.58, 0.62, estimate=0.7, error=0.1), "such an estimate is 0.1 too high"),
        (told(None, 0, 0, estimate=0.7), "From the answers alone 0.7 is to be expected of ROC AUC."),
    ],
)
def test_it_is_said_in_words(text: str, expected: str) -> None:
    assert expected in text


def test_what_is_known_of_a_version_that_is_gone(tmp_path: Path) -> None:
    from service.quality.quality import Manifests

    assert Manifests(tmp_path).of("nobody", 3) == Known()


def test_golden_rows_are_not_kept_in_memory(models: Path) -> None:
    from service.quality.quality import Manifests

    found = Manifests(models).of(NAME, 1)

    assert len(found.manifest.golden) == 1 < len(bundle.read_version(models, NAME, 1).manifest.golden)
    assert found.metrics
