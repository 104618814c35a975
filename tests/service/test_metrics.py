"""What Prometheus sees, parsed as Prometheus does, against what was sent."""

import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract.histogram import bin_names
from service.counting.instruments import INSTRUMENTS
from tests.conftest import NAME, Serve, Trained
from tests.deploy.promtool import needs
from tests.waiting import wait_until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
VERSION = {"model": NAME, "version": "1"}


@pytest.fixture
def client(serve: Serve) -> httpx.Client:
    """Quality is looked at once: the next time, there would be more series of it."""
    return serve(quality_seconds=3600)


def scrape(client: httpx.Client) -> Samples:
    families = text_string_to_metric_families(client.get("/metrics").raise_for_status().text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def settled(client: httpx.Client) -> Samples:
    """A scrape with the series of quality in it, which come when it has been looked at."""
    time = "hornpipe_quality_timestamp_seconds"
    wait_until(lambda: value(scrape(client), time) > 0, "quality has been looked at")
    return scrape(client)


def value(samples: Samples, metric: str, **labels: str) -> float:
    return samples[metric, frozenset(labels.items())]


def bins(samples: Samples, metric: str, **labels: str) -> Iterator[tuple[str, float]]:
    wanted = set((VERSION | labels).items())
    return ((dict(key)["bin"], v) for (name, key), v in samples.items() if name == metric and wanted <= key)


def test_every_series_exists_at_zero_from_load(client: httpx.Client, trained: Trained) -> None:
    samples = scrape(client)
    manifest = trained.bundle.manifest

    for feature, baseline in manifest.drift.inputs.items():
        assert dict(bins(samples, "hornpipe_input_bin_total", feature=feature)) == dict.fromkeys(bin_names(baseline), 0)
        ratios = dict(bins(samples, "hornpipe_input_baseline_ratio", feature=feature))
        assert list(ratios) == list(bin_names(baseline))
        assert sum(ratios.values()) == pytest.approx(1)
        assert min(ratios.values()) > 0
    assert value(samples, "hornpipe_predictions_total", **VERSION, label="late") == 0
    assert value(samples, "hornpipe_baseline_rows", **VERSION) == manifest.drift.rows
    assert value(samples, "hornpipe_output_baseline_rows", **VERSION) == manifest.data.validation_rows
    assert value(samples, "hornpipe_model_created_timestamp_seconds", **VERSION) == manifest.created.timestamp()
    assert value(samples, "hornpipe_rejected_total", model=NAME, reason="overloaded") == 0
    for outcome in ("ok", "invalid", "rejected", "error"):
        count = "hornpipe_request_duration_seconds_count"
        assert value(samples, count, model=NAME, route="/predict", outcome=outcome) == 0


def test_what_was_sent_is_what_is_counted(client: httpx.Client, trained: Trained, row: dict[str, Any]) -> None:
    manifest = trained.bundle.manifest
    carrier = manifest.features[0]
    rows = [
        row | {"distance": 719, "carrier": carrier.vocabulary[0]},
        row | {"distance": -5, "carrier": "ZZ", "seats": None},
        row | {"distance": 1e9, "carrier": carrier.vocabulary[0]},
    ]
    many = [rows[0]] * 40  # above what runs on the event loop
    answers = client.post("/predict", json={"instances": rows}).json()["predictions"]
    answers += client.post("/predict", json={"instances": many}).json()["predictions"]
    samples = scrape(client)

    distance = dict(bins(samples, "hornpipe_input_bin_total", feature="distance"))
    assert distance["below"] == 1
    assert distance["above"] == 1
    edges = np.array(manifest.drift.inputs["distance"].edges)
    inner = bin_names(manifest.drift.inputs["distance"])[1 + int(np.searchsorted(edges, 719, side="right")) - 1]
    assert distance[inner] == 41
    assert sum(distance.values()) == 43
    carriers = dict(bins(samples, "hornpipe_input_bin_total", feature="carrier"))
    assert (carriers[f"={carrier.vocabulary[0]}"], carriers["unseen"], carriers["missing"]) == (42, 1, 0)
    assert dict(bins(samples, "hornpipe_input_bin_total", feature="seats"))["missing"] >= 1

    late = [answer["probabilities"]["late"] for answer in answers]
    assert value(samples, "hornpipe_predictions_total", **VERSION, label="late") == sum(p >= 0.5 for p in late)
    assert sum(dict(bins(samples, "hornpipe_output_bin_total", output="probability")).values()) == 43
    assert value(samples, "hornpipe_prediction_score_count", **VERSION) == 43
    assert value(samples, "hornpipe_prediction_score_sum", **VERSION) == pytest.approx(sum(late), rel=1e-5)
    for edge in manifest.drift.outputs["probability"].edges:
        below = value(samples, "hornpipe_prediction_score_bucket", **VERSION, le=str(np.float32(edge)))
        assert abs(below - sum(np.float32(p) <= np.float32(edge) for p in late)) <= sum(
            np.float32(p) == np.float32(edge) for p in late
        )
    assert value(samples, "hornpipe_batch_rows_sum", model=NAME) == 43
    assert value(samples, "hornpipe_request_duration_seconds_count", model=NAME, route="/predict", outcome="ok") == 2
    for stage in ("decode", "queue", "run", "encode"):
        assert value(samples, "hornpipe_stage_duration_seconds_count", model=NAME, stage=stage) == 2
        assert value(samples, "hornpipe_stage_duration_seconds_sum", model=NAME, stage=stage) >= 0
    (info,) = [dict(key) for (name, key), v in samples.items() if name == "hornpipe_model_info" and v == 1]
    assert info["sha256"] == client.get("/models").json()["models"][0]["serving"]["sha256"]


def test_failures_are_counted_and_clients_cannot_mint_series(client: httpx.Client, row: dict[str, Any]) -> None:
    before = set(settled(client))
    for i in range(20):
        client.post("/predict", json={"instances": [{f"x{i}": 1}], "model": f"m{i}"})
        client.post("/predict", json={"instances": [row | {"carrier": f"c{i}"}]})
        client.get(f"/nowhere/{i}")
    client.post("/predict", json={"instances": [{}]})
    client.post("/predict", json={"instances": [row] * 2000})
    after = scrape(client)

    assert set(after) == before
    count = "hornpipe_request_duration_seconds_count"
    assert value(after, count, model="", route="/predict", outcome="invalid") == 21
    assert value(after, count, model=NAME, route="/predict", outcome="invalid") == 1
    assert value(after, "hornpipe_rejected_total", model="", reason="too_many_rows") == 1


def test_all_that_is_exported_is_declared(client: httpx.Client) -> None:
    families = {f.name for f in text_string_to_metric_families(client.get("/metrics").text)}
    declared = {instrument.name.removesuffix("_total") for instrument in INSTRUMENTS}

    assert {name for name in families if name.startswith("hornpipe_")} == declared
    assert "process_resident_memory_bytes" in families


@needs("promtool")
def test_promtool_has_nothing_to_complain_of(client: httpx.Client) -> None:
    text = client.get("/metrics").content
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
