"""Every panel of every dashboard, asked of a real Prometheus that scrapes real services."""

import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import pyarrow.dataset as ds
import pytest
import yaml

from contract import routing
from contract.histogram import bin_names
from contract.job import OPEN, STATES, Order
from contract.jobs import opened
from deploy.grafana import queries as asked
from deploy.grafana import write
from service.counting.instruments import INSTRUMENTS
from tests.conftest import NAME, Trained, add_version
from tests.deploy import prometheus
from tests.deploy.panels import FOLDER, Query, boards, filled, queries, variables
from tests.deploy.prometheus import RULES, Prometheus, needs_prometheus
from tests.test_server import Process
from tests.waiting import PATIENCE_SECONDS, wait_until

BOARDS = boards()
QUERIES = [query for board in BOARDS.values() for query in queries(board)]
PROVISIONED = Path("deploy/grafana/provisioning")
COMPOSE = yaml.safe_load(Path("docker-compose.yml").read_text())["services"]

# What Prometheus has besides our metrics and the rules'.
OTHERS = {"ALERTS", "scrape_duration_seconds"}
# Known to Prometheus 2.42 and to 3 alike.
FUNCTIONS = {"abs", "by", "clamp_min", "count", "group_left", "histogram_quantile", "increase", "label_replace"}
FUNCTIONS |= {"max", "min", "on", "rate", "sort_desc", "sum", "time", "vector"}
WORDS = {"and", "or", "inf", "le"}


def test_what_is_committed_is_what_the_code_makes() -> None:
    made = {FOLDER / f"{name}.json": write.text(board) for name, board in write.dashboards().items()}

    assert {path: path.read_text() for path in FOLDER.iterdir()} == made, "run python -m deploy.grafana.write"


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_their_place(name: str) -> None:
    panels = BOARDS[name]["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["type"] for panel in panels} <= {"row", "timeseries", "stat", "table", "barchart", "status-history"}


@pytest.mark.parametrize("name", BOARDS)
def test_variables_are_defined_before_they_are_used(name: str) -> None:
    board = BOARDS[name]
    defined = {"__rate_interval"}
    for each in board["templating"]["list"]:
        if each["type"] == "query":
            assert variables(each["query"]["query"]) <= defined
        defined.add(each["name"])

    assert {used for query in queries(board) for used in variables(query.expression)} <= defined
    assert {panel["repeat"] for panel in board["panels"] if "repeat" in panel} <= defined


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.panel)
def test_queries_name_metrics_that_there_are_and_functions_of_every_prometheus(query: Query) -> None:
    suffixes = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    ours = {each.name + suffix for each in INSTRUMENTS for suffix in suffixes[each.kind]}
    recorded = {rule.get("record") for rule in all_rules()}
    bare = re.sub(r'"[^"]*"', "", query.expression).replace("$window", "1h").replace("$__rate_interval", "1m")
    bare = re.sub(r"\b(by|on|group_left) \([^)]*\)|\{[^}]*\}|\[\w+\]", " ", bare)
    names = set(re.findall(r"[a-zA-Z_:][\w:]*", bare))

    metrics = {name for name in names if name not in FUNCTIONS | WORDS and not name.startswith("process_")}
    assert metrics <= ours | recorded | OTHERS
    assert set(re.findall(r"\b([a-z_]+) ?\(", query.expression)) <= FUNCTIONS | WORDS


def all_rules() -> list[dict[str, Any]]:
    groups = [group for path in RULES.glob("*.yml") for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("window", asked.FLOORS)
@pytest.mark.parametrize("of", asked.LABELS)
def test_a_verdict_of_one_is_where_the_alert_rings(of: str, window: str) -> None:
    name = f"model_version_{asked.LABELS[of]}:hornpipe_{of}"
    (alert,) = [each["expr"] for each in all_rules() if "alert" in each and f"{name}:psi{window}\n" in each["expr"]]

    assert f"{name}:psi{window}\n> clamp_min({name}:psi_critical{window}, {asked.FLOORS[window]:g})" in alert
    assert f"and {name}_rows:increase{window} >= {asked.LEAST_ROWS}" in alert


def test_grafana_finds_what_is_provisioned() -> None:
    mounts = dict(volume.split(":")[:2] for volume in COMPOSE["grafana"]["volumes"])
    (source,) = yaml.safe_load((PROVISIONED / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((PROVISIONED / "dashboards" / "hornpipe.yml").read_text())["providers"]
    scraping = yaml.safe_load(Path("deploy/prometheus/prometheus.yml").read_text())["global"]

    assert mounts == {f"./{PROVISIONED}": "/etc/grafana/provisioning", f"./{FOLDER}": provider["options"]["path"]}
    assert COMPOSE["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == (
        f"{provider['options']['path']}/overview.json"
    )
    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == scraping["scrape_interval"]
    panels = [panel for board in BOARDS.values() for panel in board["panels"] if "targets" in panel]
    sources = [each["datasource"]["uid"] for panel in panels for each in (panel, *panel["targets"])]
    assert set(sources) == {source["uid"]}


def test_grafana_is_for_looking_and_for_this_machine_alone() -> None:
    grafana = COMPOSE["grafana"]

    assert re.fullmatch(r"grafana/grafana:\d+\.\d+\.\d+", grafana["image"])
    assert grafana["ports"] == ["127.0.0.1:3000:3000"]
    assert grafana["read_only"] is True
    assert grafana["cap_drop"] == ["ALL"]
    assert grafana["security_opt"] == ["no-new-privileges:true"]
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert not any(board["editable"] for board in BOARDS.values())


class WithGpus(Process):
    """The service in a process of its own, on a machine that seems to have GPUs."""

    command = (sys.executable, "-m", "tests.deploy.served_with_gpus")


class Client:
    """Asks on and on, gently, and tells what became of it: flights, half of which leave late and without a weather."""

    def __init__(self, ports: list[int], flights: list[dict[str, Any]]) -> None:
        self._ports, self._flights = ports, cycle(flights)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(timeout=PATIENCE_SECONDS) as client:
            while not self._stop.wait(0.2):
                for port in self._ports:
                    rows = [dict(each) for each in islice(self._flights, 20)]
                    labels = [row.pop("outcome") for row in rows]
                    for row in rows[::2]:
                        row |= {"departure_minute": 1400, "temp": None}
                    url = f"http://127.0.0.1:{port}"
                    answer = client.post(f"{url}/predict", json={"instances": rows}).raise_for_status().json()
                    client.post(f"{url}/predict", json={"instances": [{"carrier": 1}]})
                    known = [{"row": i, "label": label} for i, label in enumerate(labels)]
                    feedback = [{"request_id": answer["request_id"], **each} for each in known]
                    client.post(f"{url}/feedback", json=feedback).raise_for_status()


def some_jobs(path: Path) -> Path:
    """A table with a job of every state."""
    with opened(path) as jobs:
        for state in reversed(STATES):  # the oldest would be claimed first
            model = {"queued": "digits", "running": "words"}.get(state, NAME)
            jobs.ask(Order(model=model, config="[data]", cause="person", asked_by="test", why="fixture"))
            job = jobs.claim("w", 3600.0) if state != "queued" else None
            if job is not None and state not in OPEN:
                jobs.end(job, state)
    return path


@pytest.fixture(scope="module")
def seen(trained: Trained, some_flights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Two replicas: one on LiteRT in two workers, one on TensorFlow with GPUs; version 2 is the shadow of version 1."""
    folder = tmp_path_factory.mktemp("seen")
    models = folder / "models"
    models.mkdir()
    subprocess.run(["cp", "-r", str(trained.models / NAME), str(models)], check=True)
    routing.promote(models, NAME, 1, by="test", why="fixture")
    add_version(models)
    routing.shadow(models, NAME, 2, by="test", why="fixture")
    names = [*(feature.name for feature in trained.bundle.manifest.features), "outcome"]
    flights = ds.dataset(some_flights).to_table(columns=names).to_pylist()
    kept = {"QUALITY_SECONDS": 0.5, "JOBS_FILE": some_jobs(folder / "jobs.sqlite")}
    processes = [Process(models, folder / "litert.log", WORKERS=2, PREDICTIONS_DIR=folder / "litert", **kept)]
    logged = {"PREDICTIONS_DIR": folder / "tensorflow", **kept}
    processes.append(WithGpus(models, folder / "tensorflow.log", RUNTIME="savedmodel", **logged))
    try:
        wait_until(lambda: all(each.ready() for each in processes), "both are ready")
        targets = [f"127.0.0.1:{each.port}" for each in processes]
        with prometheus.running(folder, *targets) as running:
            wait_until(lambda: len(running.query("hornpipe_workers")) == 2, "both have been scraped")
            began = time.time()
            wait_until(lambda: running.value("min(count_over_time(up[1m]))") >= 3 or time.time() > began + 30, "thrice")
            with Client([each.port for each in processes], flights):
                yield running
    finally:
        for each in processes:
            each.client.close()
            each.process.kill()
            each.process.wait()


def values(seen: Prometheus) -> dict[str, tuple[str, ...]]:
    """What Grafana would fill in for a version that serves."""
    where = f'{{model="{NAME}",version="1"}}'
    return {
        "model": (NAME,),
        "version": ("1",),
        "__rate_interval": ("10s",),
        "window": tuple(asked.FLOORS),
        "metric": ("roc_auc", "log_loss"),
        "feature": tuple(seen.label_values(f"hornpipe_input_baseline_ratio{where}", "feature")),
        "output": tuple(seen.label_values(f"hornpipe_output_baseline_ratio{where}", "output")),
    }


def numbers(seen: Prometheus, expression: str, *, instant: bool) -> list[float]:
    """All that is shown and is a number."""
    if instant:
        return [each for series in seen.query(expression) if math.isfinite(each := float(series["value"][1]))]
    now = time.time()
    found = seen.query_range(expression, now - 60, now)
    return [each for series in found for _, text in series["values"] if math.isfinite(each := float(text))]


def once_there(seen: Prometheus, expression: str) -> list[dict[str, Any]]:
    """What is shown, which may be nothing for as long as a busy machine is not scraped."""
    found: list[dict[str, Any]] = []
    wait_until(lambda: found.extend(seen.query(expression)) or found, expression)
    return found


@needs_prometheus
def test_every_panel_shows_something(seen: Prometheus) -> None:
    """All panels in one test: what is missing may take some seconds, and they pass for all of them together."""
    given = values(seen)
    missing = {(query, each) for query in QUERIES for each in filled(query.expression, given)}
    assert len(missing) > 100

    def all_found() -> bool:
        for query, each in list(missing):
            if numbers(seen, each, instant=query.instant):
                missing.remove((query, each))
        return not missing

    try:
        wait_until(all_found, "every panel")
    except AssertionError:
        pytest.fail("\n".join(f"{query.panel} shows nothing: {each}" for query, each in sorted(missing, key=str)))


@needs_prometheus
def test_every_variable_has_values(seen: Prometheus) -> None:
    given = values(seen)
    listed = [each for board in BOARDS.values() for each in board["templating"]["list"] if each["type"] == "query"]
    found: dict[str, list[str]] = {}
    for each in listed:
        (query,) = filled(each["query"]["query"], given)
        metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()
        wait_until(lambda metric=metric, label=label: seen.label_values(metric, label), query)
        found[each["name"]] = seen.label_values(metric, label)

    assert NAME in found["model"]
    assert "distance" in found["feature"]
    assert "1" in found["version"]


@needs_prometheus
def test_distributions_add_up_and_are_in_the_order_of_their_bins(seen: Prometheus, trained: Trained) -> None:
    given = values(seen) | {"window": ("1h",)}
    drift = trained.bundle.manifest.drift
    for of, all_bins in (("input", drift.inputs), ("output", drift.outputs)):
        for name, bins in all_bins.items():
            for query in asked.distribution(of).values():
                (expression,) = filled(query, given | {asked.LABELS[of]: (name,)})
                found = once_there(seen, expression)
                by_place = sorted(found, key=lambda series: float(series["metric"]["at"]))
                assert sum(float(series["value"][1]) for series in found) == pytest.approx(1)
                shown = [series["metric"]["bin"] for series in by_place]
                if bins.kind == "number":
                    assert shown == list(bin_names(bins))
                else:
                    assert set(shown) == set(bin_names(bins))
                    assert shown[-3:] == ["other", "missing", "unseen"]


@needs_prometheus
def test_what_drifts_is_told_apart_from_what_does_not(seen: Prometheus) -> None:
    (verdict,) = filled(f"max by (feature) ({asked.drift('input', '1h', asked.VERSION)})", values(seen))
    by_feature = {each["metric"]["feature"]: float(each["value"][1]) for each in once_there(seen, verdict)}

    assert by_feature["departure_minute"] > 1
    assert by_feature["carrier"] < 1
    wait_until(lambda: seen.query('ALERTS{alertname="HornpipeInputDrift",feature="departure_minute"}'), "it rings")
    share = next(filled(asked.share("missing"), values(seen) | {"window": ("1h",)}))
    missing = {each["metric"]["feature"]: float(each["value"][1]) for each in once_there(seen, share)}
    assert missing["temp"] == pytest.approx(0.5, abs=0.05)
    assert missing["departure_minute"] == pytest.approx(0, abs=0.01)


@needs_prometheus
def test_the_machine_is_what_it_is(seen: Prometheus) -> None:
    def so_is(expression: str, expected: object) -> None:
        wait_until(lambda: seen.value(expression) == expected, f"{expression} is {expected}")

    so_is("count(hornpipe_workers)", 2)
    so_is("sum(hornpipe_workers)", 3)
    so_is('hornpipe_gpu_temperature_celsius{gpu="1"}', 71)
    so_is('hornpipe_gpu_memory_used_bytes{gpu="0"} / hornpipe_gpu_memory_bytes', pytest.approx(4 / 15))
    so_is('sum(hornpipe_runtime_memory_bytes{version="1"}) > bool 100e6', 1)
    with_tensorflow = "process_resident_memory_bytes and on (instance) hornpipe_runtime_memory_bytes"
    so_is(f"sum({with_tensorflow}) > bool sum(hornpipe_runtime_memory_bytes)", 1)
    lag = "sum by (instance) (rate(hornpipe_event_loop_lag_seconds_count[10s]))"
    for of, rate in (("min", 10), ("max", 20)):  # of one worker, of two
        so_is(f"{of}({lag}) and on () count({lag}) == 2", pytest.approx(rate, rel=0.5))
