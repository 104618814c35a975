"""GET /models/{name}/drift over HTTP, held against the monitor's own counts and against NumPy."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import rel_entr

from contract import routing
from contract.drift import CRITICAL_Z, chi_square
from contract.features import Encoder
from contract.kinds import TensorFeature
from contract.manifest import Manifest, TensorsOutput
from contract.signature import TensorSpec
from hornpipe import main
from service.access import keys
from service.counting.watch import Watch
from service.drift.drift import DriftReport, report
from service.drift.history import Rows
from service.drift.verdict import Change, Moved, verdict
from tests.conftest import NAME, Serve, Trained, add_version
from tests.service import untrained
from tests.service.scraped import parsed, value
from tests.test_server import Start, start
from tests.waiting import PATIENCE_SECONDS, wait_until

__all__ = ["start"]  # the fixture of test_server, which ends what it has started

Row = dict[str, Any]


def ask(client: httpx.Client, **query: object) -> dict[str, Any]:
    answer = client.get(f"/models/{NAME}/drift", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def predict(client: httpx.Client, rows: list[Row]) -> None:
    assert client.post("/predict", json={"instances": rows}).status_code == 200


@pytest.fixture(scope="module")
def known(some_flights: Path, trained: Trained) -> list[Row]:
    """The flights that the baseline was taken from."""
    names = [feature.name for feature in trained.bundle.manifest.features]
    months = [some_flights / f"2013-{month:02}.parquet" for month in range(1, 8)]
    return [row for month in months for row in pq.read_table(month, columns=names).to_pylist()]


def test_without_rows_nothing_is_said(client: httpx.Client, trained: Trained) -> None:
    found = ask(client)

    assert (found["model"], found["version"], found["window"], found["rows"]) == (NAME, 1, "24h", 0)
    assert found["verdict"] == "No rows have come in this time, so nothing can be said."
    assert found["drifted"] == []
    assert [each["name"] for each in found["inputs"]] == list(trained.bundle.manifest.drift.inputs)
    assert all(each["psi"] == 0 and each["critical"] is each["threshold"] is None for each in found["inputs"])
    assert all(each["share"] is None for each in found["labels"])


def test_rows_of_training_are_no_drift_and_counted_as_they_are(
    client: httpx.Client, known: list[Row], trained: Trained
) -> None:
    predict(client, known)
    found = ask(client, window="1h")
    scraped = parsed(client.get("/metrics").text)

    assert found["rows"] == len(known) == trained.bundle.manifest.drift.rows
    assert found["drifted"] == []
    assert "No drift: 420 rows are distributed as in training" in found["verdict"]
    for kind, label in (("input", "feature"), ("output", "output")):
        for each in found[f"{kind}s"]:
            assert each["psi"] < (1e-3 if kind == "input" else each["threshold"])
            assert each["rows"] == len(known)
            for one in each["bins"]:
                labels = {"model": NAME, "version": "1", label: each["name"], "bin": one["bin"]}
                assert one["rows"] == value(scraped, f"hornpipe_{kind}_bin_total", **labels)
                assert one["share"] == one["rows"] / len(known)
                assert one["baseline"] == pytest.approx(
                    value(scraped, f"hornpipe_{kind}_baseline_ratio", **labels), rel=1e-6
                )


def test_a_shift_is_named_with_what_it_is_made_of(client: httpx.Client, known: list[Row]) -> None:
    predict(client, [row | {"distance": 20_000.0, "carrier": "UA"} for row in known])
    found = ask(client)
    (distance,) = [each for each in found["inputs"] if each["name"] == "distance"]
    shares = np.array([each["rows"] for each in distance["bins"]]) + 0.0
    q = np.array([each["baseline"] for each in distance["bins"]])
    p = (shares + np.minimum(0.5, 420 * q)) / (420 + np.minimum(0.5, 420 * q).sum())

    assert {"distance", "carrier"} <= set(found["drifted"])
    assert found["drifted"][0] == "distance"
    assert distance["psi"] == pytest.approx(rel_entr(p, q).sum() + rel_entr(q, p).sum())
    assert distance["linf"] == pytest.approx(abs(p - q).max())
    assert distance["critical"] == pytest.approx(2 / 420 * chi_square(len(q) - 1, CRITICAL_Z))
    assert distance["threshold"] == max(0.1, distance["critical"]) < distance["psi"]
    assert "distance (PSI " in found["verdict"]
    assert "100% of rows lie above the training range" in found["verdict"]
    assert "100% of rows are UA" in found["verdict"]


def test_labels_and_times(client: httpx.Client, known: list[Row], trained: Trained) -> None:
    before = datetime.now(UTC)
    answers = client.post("/predict", json={"instances": known[:50]}).json()["predictions"]
    found = ask(client)
    came = Counter(each["label"] for each in answers)

    assert {each["label"]: each["rows"] for each in found["labels"]} == {"on_time": 0, "late": 0} | came
    assert {each["label"]: each["baseline"] for each in found["labels"]} == trained.bundle.manifest.drift.labels
    assert sum(each["share"] for each in found["labels"]) == pytest.approx(1)
    since, until = datetime.fromisoformat(found["since"]), datetime.fromisoformat(found["until"])
    assert since <= until
    assert before < until < datetime.now(UTC)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/models/trains/drift", 404, "unknown_model"),
        ("/models/flights/drift?version=2", 404, "unknown_version"),
        ("/models/flights/drift?version=0", 422, "invalid_request"),
        ("/models/flights/drift?version=one", 422, "invalid_request"),
        ("/models/flights/drift?window=7d", 422, "invalid_request"),
    ],
)
def test_what_is_not_there(client: httpx.Client, path: str, status: int, code: str) -> None:
    response = client.get(path)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_each_version_has_its_own(client: httpx.Client, models: Path, known: list[Row]) -> None:
    """Also one that has left service a moment ago."""
    predict(client, known[:20])
    add_version(models)
    routing.promote(models, NAME, 2, by="test", why="a new one")
    wait_until(lambda: ask(client)["version"] == 2, "the new version serves")
    predict(client, known[:3])

    assert (ask(client)["rows"], ask(client, version=1)["rows"]) == (3, 20)


def test_a_key_that_may_predict_may_ask(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    given = {scope: keys.add(file, scope, (scope,)) for scope in ("predict", "metrics")}
    client = serve(keys_file=file)

    def status(key: str) -> int:
        return client.get(f"/models/{NAME}/drift", headers={"x-api-key": key}).status_code

    assert [status(given["predict"]), status(given["metrics"]), status("")] == [200, 403, 401]


def test_openapi_has_it(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    operation = schema["paths"]["/models/{name}/drift"]["get"]
    windows = [each["schema"] for each in operation["parameters"] if each["name"] == "window"]

    assert windows[0]["enum"] == ["1h", "24h"]
    assert set(ask(client)) == set(schema["components"]["schemas"]["DriftReport"]["required"])


def test_the_command_prints_a_table(client: httpx.Client, known: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    predict(client, [row | {"distance": 20_000.0} for row in known])
    code = main(["drift", NAME, "--url", str(client.base_url), "--window", "1h"])
    lines = capsys.readouterr().out.splitlines()
    (distance,) = [line.split() for line in lines if line.startswith("distance")]

    assert code == 0
    assert lines[0].startswith(f"{NAME}/1: 420 rows from 20")
    assert (distance[1], distance[6:9]) == ("yes", ["above", "100.0%", "0.1%"])
    assert [line.split()[0] for line in lines[-2:]] == ["on_time", "late"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trains"], "no model 'trains' serves here"),
        ([NAME, "--version", "9"], "flights/9 does not serve"),
        ([NAME, "--url", "http://127.0.0.1:1"], "refused"),
        ([NAME, "--url", "file:///etc"], "expected http:// or https://"),
    ],
)
def test_the_command_says_what_is_wrong(
    client: httpx.Client, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code = main(["drift", "--url", str(client.base_url), *arguments])

    assert code == 1
    assert said in capsys.readouterr().err


def test_a_restart_keeps_the_windows_of_all_workers(start: Start, tmp_path: Path, known: list[Row]) -> None:
    """Whichever worker is asked, and whoever of them answered; after SIGTERM too."""
    first = start(WORKERS=2, STATE_DIR=tmp_path / "state")
    answered = 0
    for i in range(20):  # connections of their own, which come to either
        with httpx.Client(base_url=first.client.base_url, timeout=PATIENCE_SECONDS) as client:
            predict(client, known[i : i + 5])
            answered += 5
            assert ask(client)["rows"] == answered
    first.stop()
    second = start(STATE_DIR=tmp_path / "state")
    predict(second.client, known[:7])

    assert ask(second.client)["rows"] == ask(second.client, window="1h")["rows"] == answered + 7


def reported(manifest: Manifest, counts: list[int]) -> DriftReport:
    return report(Watch(manifest, Encoder(manifest.features)), "24h", Rows(np.array(counts, np.int64), 0.0, 60.0))


def test_a_version_without_a_baseline_has_nothing_to_be_compared_with() -> None:
    output = TensorsOutput(tensors=(TensorSpec(name="z", dtype="string", shape=(-1, 4)),))
    features = [TensorFeature(name="words", dtype="string", shape=(-1,))]
    found = reported(untrained.manifest(features, output, {"rows": 0, "inputs": {}, "outputs": {}}, "words", 1), [12])

    assert (found.rows, found.inputs, found.outputs, found.labels, found.drifted) == (12, [], [], [], [])
    assert found.verdict == "There is nothing to compare with: this version was imported without a sample of rows."


def test_a_baseline_that_says_never_can_be_passed_and_written_as_json() -> None:
    """Training smooths its ratios; a manifest from elsewhere may have a share of 0."""
    made = untrained.table(numbers=0, output=untrained.VALUE)
    (color,) = made.drift.inputs.values()
    bins = color.model_copy(update={"ratios": (0.0, 0.5, 0.5, 0.0, 0.0, 0.0)})
    manifest = made.model_copy(update={"drift": made.drift.model_copy(update={"inputs": {"color": bins}})})
    value = len(made.drift.outputs["value"].ratios)
    found = reported(manifest, [100, 100, 0, 0, 0, 0, *[10] * value, 200])

    assert found.drifted[0] == "color"
    assert 5 < found.inputs[0].psi < 30
    assert "null" not in found.model_dump_json(include={"inputs"})


def told(moved: list[Moved]) -> str:
    return verdict(1000, 13, moved, 0.1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("below", "lie below the training range"),
        ("missing", "are missing"),
        ("unseen", "were never seen in training"),
        ("=UA", "are UA"),
        ("719..762", "are from 719 to 762"),
        ("-1e-05..2", "are from -1e-05 to 2"),
        ("-1e-05..-1e-05", "are -1e-05"),
        ("non_finite", "are not finite"),
        ("other", "are of rarer kinds"),
    ],
)
def test_bins_in_words(name: str, words: str) -> None:
    assert f"42% of rows {words}, 0.5% in training." in told([Moved("temp", 1, 0.1, Change(name, 0.42, 0.005))])


def test_verdicts() -> None:
    moved = [Moved(f"feature {i}", 1.0, 0.1, Change("below", 0.5, 0.0)) for i in range(7)]

    assert told(moved).startswith("7 of 13 inputs and outputs have drifted from training. feature 0 (PSI 1.00, alarm")
    assert told(moved).endswith("; and 4 more.")
    assert "under 0.1% in training" in told([Moved("month", 9, 0.1, Change("above", 1.0, 2e-6))])
    assert "Rows are few: only a PSI above 1.2 would show." in verdict(40, 13, [], 1.2)
    assert "few" not in verdict(4000, 13, [], 0.1)
    assert "without a sample" in verdict(4000, 0, [], 0.0)
