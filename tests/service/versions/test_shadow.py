"""A version that answers nobody: what it would have said, counted beside what was said."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from contract import routing
from contract.bundle import Bundle
from contract.comparison import LARGEST, Comparison, compare
from contract.manifest import BinaryOutput, MulticlassOutput, RegressionOutput
from contract.outputs import TensorsOutput
from contract.signature import TensorSpec
from service.versions import shadow
from tests import sums
from tests.conftest import Serve
from tests.service.test_metrics import Samples, scrape, value
from tests.waiting import PATIENCE_SECONDS, wait_until

RESULTS = ("agreed", "disagreed", "shed", "failed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    return sums.made(tmp_path_factory)


@pytest.fixture(params=[sums.INLINE, sums.THREADED], ids=["event loop", "threads"])
def models(made: list[Bundle], tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Version 1 in production, version 2 its shadow, which says 1000 more. Takes the place of the flights' fixture."""
    for each in made:
        sums.copy(each, tmp_path / "models", latency=request.param)
    routing.promote(tmp_path / "models", sums.NAME, 1, by="test", why="")
    routing.shadow(tmp_path / "models", sums.NAME, 2, by="test", why="")
    return tmp_path / "models"


@pytest.fixture
def client(serve: Serve) -> httpx.Client:
    client = serve()
    wait_until(lambda: len(loaded(client)) == 2, "the shadow is loaded")
    return client


def loaded(client: httpx.Client) -> dict[int, list[str]]:
    found = client.get("/models").json()["models"][0]["loaded"]
    return {each["version"]: each["roles"] for each in found if each["state"] == "ready"}


def copied(samples: Samples) -> dict[str, float]:
    return {each: value(samples, "hornpipe_shadow_rows_total", model=sums.NAME, result=each) for each in RESULTS}


def predict(client: httpx.Client, rows: list[dict[str, float]], **body: object) -> list[float]:
    answer = client.post("/predict", json={"instances": rows, **body}).raise_for_status().json()
    return [each["value"] for each in answer["predictions"]]


def test_a_shadow_is_asked_what_production_is_asked_and_answers_nobody(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that has time for it, or where nobody looks whether it has."""
    monkeypatch.setattr(shadow, "MOST_BUSY", 2.0)
    monkeypatch.setattr(shadow, "DEADLINE_SECONDS", PATIENCE_SECONDS)
    rows = sums.rows(60, seed=1)
    for i in range(20):
        values = predict(client, rows[3 * i : 3 * i + 3])
        assert [sums.version_of(row, each) for row, each in zip(rows[3 * i :], values, strict=False)] == [1, 1, 1]
    wait_until(lambda: sum(copied(scrape(client)).values()) == 60, "every row is accounted for")

    samples = scrape(client)
    counts = copied(samples)
    assert counts["failed"] == counts["agreed"] == 0
    assert counts["disagreed"] > 0
    assert counts["disagreed"] % 3 == 0
    requests = counts["disagreed"] / 3
    assert value(samples, "hornpipe_shadow_difference_count", model=sums.NAME) == requests
    # The range that training saw is 0 to 300, and the two are 1000 apart.
    assert value(samples, "hornpipe_shadow_difference_sum", model=sums.NAME) == pytest.approx(requests * 1000 / 300)
    assert value(samples, "hornpipe_shadow_duration_seconds_count", model=sums.NAME) > 0
    predictions = [value(samples, "hornpipe_predictions_total", model=sums.NAME, version=v, label="") for v in "12"]
    assert predictions == [60, counts["disagreed"]]
    assert value(samples, "hornpipe_stage_duration_seconds_count", model=sums.NAME, stage="run") == 20


def test_copies_are_shed_before_anybody_has_to_wait_for_them(serve: Serve, models: Path) -> None:
    """Eight clients and one thread: whoever has been answered leaves others waiting."""
    client = serve(threads=1)
    wait_until(lambda: len(loaded(client)) == 2, "the shadow is loaded")
    rows = sums.rows(8, seed=4)

    def ask(row: dict[str, float]) -> set[float]:
        return {sums.version_of(row, *predict(client, [row])) for _ in range(50)}

    with ThreadPoolExecutor(8) as clients:
        assert set().union(*clients.map(ask, rows)) == {1}
    wait_until(lambda: sum(copied(scrape(client)).values()) == 400, "every row is accounted for")
    if client.get("/models/sums/versions/1").json()["variants"][0]["latency"]["1"]["p50"] == sums.THREADED:
        assert copied(scrape(client))["shed"] > 0


def test_those_who_ask_for_the_shadow_get_it_and_are_not_copied(client: httpx.Client) -> None:
    rows = sums.rows(4, seed=2)

    for pinned in ({"version": 2}, {"label": "shadow"}):
        values = predict(client, rows, **pinned)
        assert [sums.version_of(row, each) for row, each in zip(rows, values, strict=True)] == [2, 2, 2, 2]
    assert sum(copied(scrape(client)).values()) == 0


def test_a_shadow_that_is_called_off_leaves_and_one_that_is_promoted_answers(
    client: httpx.Client, models: Path
) -> None:
    rows = sums.rows(1, seed=3)
    routing.shadow_off(models, sums.NAME, by="test", why="")
    wait_until(lambda: loaded(client) == {1: ["production"]}, "the shadow has left")
    predict(client, rows)
    assert sum(copied(scrape(client)).values()) == 0

    routing.shadow(models, sums.NAME, 2, by="test", why="")
    wait_until(lambda: loaded(client) == {1: ["production"], 2: ["shadow"]}, "the shadow is back")
    routing.promote(models, sums.NAME, 2, by="test", why="")
    wait_until(lambda: loaded(client) == {2: ["production"]}, "version 2 serves")
    assert sums.version_of(rows[0], *predict(client, rows)) == 2


BINARY = BinaryOutput(classes=("no", "yes"), positive="yes", threshold=0.5)
CLASSES = MulticlassOutput(classes=("a", "b", "c"))
VALUE = RegressionOutput(minimum=0, maximum=10, half_width=0.5)
TENSORS = TensorsOutput(tensors=(TensorSpec(name="x", dtype="float32", shape=(-1, 2)),))


def test_two_classes_agree_by_label_each_by_its_own_threshold() -> None:
    lower = BINARY.model_copy(update={"threshold": 0.2})
    ours, theirs = ({"probability": np.array(each, np.float32)} for each in ([0.1, 0.3, 0.6], [0.15, 0.3, 0.1]))

    assert compare(BINARY, BINARY, ours, theirs) == Comparison(2, 1, pytest.approx(0.5))
    assert compare(BINARY, lower, ours, theirs) == Comparison(1, 2, pytest.approx(0.5))


def test_two_classes_may_be_told_the_other_way_round() -> None:
    other = BinaryOutput(classes=("yes", "no"), positive="no", threshold=0.5)
    ours, theirs = ({"probability": np.array(each, np.float32)} for each in ([0.1, 0.7], [0.9, 0.4]))

    assert compare(BINARY, other, ours, theirs) == Comparison(2, 0, pytest.approx(0.1))


def test_many_classes_agree_by_the_largest() -> None:
    ours = {"probabilities": np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], np.float32)}
    theirs = {"probabilities": np.array([[0.4, 0.35, 0.25], [0.1, 0.7, 0.2]], np.float32)}

    assert compare(CLASSES, CLASSES, ours, theirs) == Comparison(1, 1, pytest.approx(0.6))
    assert compare(CLASSES, MulticlassOutput(classes=("a", "b", "d")), ours, theirs) is None


def test_values_agree_within_the_interval_and_differ_by_a_share_of_the_range() -> None:
    ours, theirs = ({"value": np.array(each, np.float32)} for each in ([1, 2, 3], [1.25, 4, np.nan]))

    finite = [{"value": each["value"][:2]} for each in (ours, theirs)]
    assert compare(VALUE, VALUE, *finite) == Comparison(1, 1, pytest.approx(0.2))
    assert compare(VALUE, VALUE, ours, theirs) == Comparison(1, 2, LARGEST)


def test_tensors_agree_but_for_rounding() -> None:
    ours = {"x": np.array([[1, 100], [np.nan, np.inf], [0, 50]], np.float32)}
    theirs = {"x": np.array([[1, 100.01], [np.nan, np.inf], [0, 60]], np.float32)}

    assert compare(TENSORS, TENSORS, ours, theirs) == Comparison(2, 1, pytest.approx(0.1))
    assert compare(TENSORS, TENSORS, ours, {"x": ours["x"][:, :1]}) is None
    words = {"x": np.array([[b"a", b"b"], [b"a", b"c"]], object)}
    others = {"x": np.array([[b"a", b"b"], [b"a", b"d"]], object)}
    assert compare(TENSORS, TENSORS, words, others) == Comparison(1, 1, 1.0)


@pytest.mark.parametrize("other", [CLASSES, VALUE, TENSORS])
def test_what_means_something_else_cannot_be_compared(other: RegressionOutput) -> None:
    assert compare(BINARY, other, {"probability": np.ones(1)}, {other.name: np.ones(1)}) is None
