"""What runs when, seen from outside: a gate holds the model while requests gather, and notes what then runs."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from contract import bundle, routing
from contract.manifest import Latency, Variant
from tests.conftest import NAME, Serve, add_version
from tests.service.gate import HOUR_MS, Gate, gated
from tests.waiting import PATIENCE_SECONDS, wait_until

Row = dict[str, object]
Ask = Callable[..., "Future[httpx.Response]"]


def on_threads(models: Path) -> tuple[Variant, ...]:
    """The variants of version 1, with latencies by which all of it runs on threads, and together: those that were
    measured are another machine's at every run. On the event loop nothing could arrive while the model runs."""
    slow = {"1": Latency(p50=500, p99=900), "32": Latency(p50=1600, p99=2000)}
    first = bundle.read_version(models, NAME, 1).manifest
    return tuple(variant.model_copy(update={"latency": slow}) for variant in first.variants)


@pytest.fixture
def models(models: Path) -> Path:
    add_version(models, variants=on_threads(models))
    routing.promote(models, NAME, 2, by="test", why="fixture")
    return models


@pytest.fixture
def gate() -> Iterator[Gate]:
    with gated() as each:
        yield each


@pytest.fixture
def ask(gate: Gate) -> Iterator[Ask]:
    with ThreadPoolExecutor(40) as clients:

        def begin(client: httpx.Client, rows: list[Row], model: str = NAME, **headers: str) -> "Future[httpx.Response]":
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return clients.submit(client.post, "/predict", json={"instances": rows, "model": model}, headers=named)

        try:
            yield begin
        finally:
            gate.open.set()  # or nobody would get an answer


def waiting(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("hornpipe_queue_rows{"))


def probabilities(response: httpx.Response) -> list[float]:
    assert response.status_code == 200, response.text
    return [each["probabilities"]["late"] for each in response.json()["predictions"]]


@pytest.fixture
def held(serve: Serve, gate: Gate, ask: Ask, row: Row) -> Iterator[httpx.Client]:
    """A service with one thread, on which a first request stands before the gate."""
    client = serve(threads=1, timeout_ms=HOUR_MS)
    gate.ran.clear()
    gate.open.clear()
    gate.entered = threading.Semaphore(0)  # loading has run some rows too
    first = ask(client, [row])
    assert gate.entered.acquire(timeout=PATIENCE_SECONDS)
    yield client
    gate.open.set()
    assert first.result().status_code == 200


def test_what_gathers_while_the_model_runs_runs_together_and_everybody_gets_his_own(
    held: httpx.Client, gate: Gate, ask: Ask, row: Row
) -> None:
    rows = [[row | {"distance": 100.0 * i + j} for j in range(i)] for i in range(1, 6)]
    asked = [ask(held, each) for each in rows]
    wait_until(lambda: waiting(held) == 1 + 15, "all wait")
    gate.open.set()
    together = [probabilities(each.result()) for each in asked]

    assert sorted(gate.ran) == [1, 15]
    for given, answers in zip(rows, together, strict=True):
        assert probabilities(held.post("/predict", json={"instances": given})) == pytest.approx(answers, abs=0.02)


def test_a_wrong_neighbour_harms_nobody(held: httpx.Client, gate: Gate, ask: Ask, row: Row) -> None:
    asked = [ask(held, [row]), ask(held, [row, row | {"distance": "far"}]), ask(held, [row] * 2)]
    wait_until(lambda: waiting(held) == 6, "all wait")
    gate.open.set()
    right, wrong, two = (each.result() for each in asked)

    assert (right.status_code, two.status_code, wrong.status_code) == (200, 200, 422)
    assert wrong.json()["error"]["details"][0]["path"] == "instances[1].distance"


def test_more_rows_than_a_batch_are_split_and_joined(client: httpx.Client, row: Row) -> None:
    rows = [row | {"distance": 20.0 * i} for i in range(203)]
    together = probabilities(client.post("/predict", json={"instances": rows}))
    singly = [probabilities(client.post("/predict", json={"instances": [each]}))[0] for each in rows]

    np.testing.assert_allclose(together, singly, atol=0.02)


def test_who_cannot_be_served_in_time_is_told_so_in_time_and_never_runs(
    held: httpx.Client, gate: Gate, ask: Ask, row: Row
) -> None:
    late = ask(held, [row] * 3, x_request_timeout_ms="50").result(timeout=PATIENCE_SECONDS)  # while the gate is shut

    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    gate.open.set()
    assert held.post("/predict", json={"instances": [row] * 2}).status_code == 200
    assert gate.ran == [1, 2]


def test_a_full_queue_says_so_at_once(serve: Serve, gate: Gate, ask: Ask, row: Row) -> None:
    client = serve(threads=1, max_queue_rows=4, timeout_ms=HOUR_MS)
    gate.ran.clear()
    gate.open.clear()
    inside = [ask(client, [row] * 2), ask(client, [row] * 2)]
    wait_until(lambda: waiting(client) == 4, "the queue is full")
    full = client.post("/predict", json={"instances": [row]})

    assert (full.status_code, full.json()["error"]["code"]) == (503, "overloaded")
    assert int(full.headers["retry-after"]) >= 1
    gate.open.set()
    assert [each.result().status_code for each in inside] == [200, 200]


def test_batch_jobs_let_everybody_else_go_first(held: httpx.Client, gate: Gate, ask: Ask, row: Row) -> None:
    """30 rows fit with nothing else into a batch of 32, so the order of the batches is that of the priorities."""
    jobs = [ask(held, [row] * (28 + i), x_request_priority="batch") for i in range(2)]
    wait_until(lambda: waiting(held) == 1 + 57, "the jobs wait")
    urgent = ask(held, [row] * 30)
    wait_until(lambda: waiting(held) == 1 + 57 + 30, "and somebody comes after them")
    gate.open.set()

    assert all(each.result().status_code == 200 for each in [*jobs, urgent])
    assert gate.ran[:2] == [1, 30]
    assert sorted(gate.ran[2:]) == [28, 29]


def test_a_busy_model_does_not_keep_another_waiting(serve: Serve, models: Path, gate: Gate, ask: Ask, row: Row) -> None:
    add_version(models, "quiet", variants=on_threads(models))
    routing.promote(models, "quiet", 1, by="test", why="fixture")
    client = serve(threads=1, timeout_ms=HOUR_MS)
    gate.ran.clear()
    gate.open.clear()
    many = [ask(client, [row] * 31) for _ in range(10)]
    wait_until(lambda: waiting(client) == 310, "ten batches of the busy one wait")
    one = ask(client, [row], model="quiet")
    wait_until(lambda: waiting(client) == 311, "and one row of the quiet one")
    gate.open.set()

    assert all(each.result().status_code == 200 for each in [*many, one])
    assert gate.ran.index(1) <= 2


def test_rows_of_who_has_left_never_run(held: httpx.Client, gate: Gate, row: Row) -> None:
    body = json.dumps({"instances": [row] * 7}).encode()
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    with socket.create_connection((held.base_url.host, held.base_url.port)) as leaves:
        leaves.sendall(head + body)
        wait_until(lambda: waiting(held) == 8, "it waits")
    wait_until(lambda: waiting(held) == 1, "it is forgotten")
    gate.open.set()

    assert held.post("/predict", json={"instances": [row] * 2}).status_code == 200
    assert gate.ran == [1, 2]
