"""A share of the traffic for a version on trial: who gets it, always the same, and never less as it grows."""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from uuid import UUID

import httpx
import numpy as np
import pytest
from scipy import stats

from contract import routing
from service.versions.splitting import Split
from tests.conftest import NAME, Serve, add_version
from tests.waiting import wait_until

KEYS: dict[str, Callable[[int], str]] = {
    "counters": str,
    "padded counters": lambda i: f"customer-{i:08d}",
    "UUIDs": lambda i: str(UUID(bytes=np.random.default_rng(i).bytes(16), version=4)),
    "addresses": lambda i: f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}",
    "one letter apart": lambda i: "a" * i,
}


@pytest.mark.parametrize("percent", [0.5, 5.0, 50.0, 99.0])
@pytest.mark.parametrize("kind", KEYS)
def test_the_share_is_what_was_asked_for_whatever_keys_look_like(kind: str, percent: float) -> None:
    count = 2000 if kind == "one letter apart" else 20_000
    split = Split("flights", percent)
    canary = sum(split.to_canary(KEYS[kind](i).encode()) for i in range(count))

    assert stats.binomtest(canary, count, percent / 100).pvalue > 1e-4


def test_keys_spread_evenly_over_all_shares() -> None:
    """Where each key changes sides is uniform between 0 and 100 percent."""
    keys = [f"user-{i}".encode() for i in range(4000)]
    edges = np.linspace(0, 100, 101)[1:]
    below = [sum(Split("flights", edge).to_canary(key) for key in keys) for edge in edges]

    assert stats.chisquare(np.diff([0, *below])).pvalue > 1e-4
    assert below[-1] == len(keys)


def test_a_key_keeps_its_side_and_a_growing_share_only_takes_keys_over() -> None:
    keys = [f"session:{i}".encode() for i in range(3000)]
    sides = [[Split("flights", percent).to_canary(key) for key in keys] for percent in (1, 5, 5, 20, 60, 100)]

    assert sides[1] == sides[2]
    for smaller, larger in pairwise(sides):
        assert not any(before and not after for before, after in zip(smaller, larger, strict=True))


def test_every_process_sends_a_key_to_the_same_side() -> None:
    program = (
        "from service.versions.splitting import Split; s = Split('flights', 30);"
        "print(''.join('01'[s.to_canary(b'key-%d' % i)] for i in range(500)))"
    )
    here = "".join("01"[Split("flights", 30).to_canary(b"key-%d" % i)] for i in range(500))
    there = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout.strip()
        for seed in ("1", "2")
    ]

    assert there == [here, here]


def test_two_models_do_not_try_their_canaries_on_the_same_clients() -> None:
    keys = [f"client-{i}".encode() for i in range(20_000)]
    ours, theirs = ([Split(name, 20).to_canary(key) for key in keys] for name in ("flights", "digits"))

    assert stats.chi2_contingency(np.histogram2d(ours, theirs, 2)[0]).pvalue > 1e-4


def test_who_has_no_key_comes_to_either_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.versions.splitting.random", Random(0))
    split = Split("flights", 25)
    canary = sum(split.to_canary(b"") for _ in range(20_000))

    assert stats.binomtest(canary, 20_000, 0.25).pvalue > 1e-6


@pytest.fixture
def canary(serve: Serve, models: Path) -> httpx.Client:
    """Version 1 in production, version 2 a canary with 30 percent, version 3 only there."""
    for _ in (2, 3):
        add_version(models)
    routing.canary(models, NAME, 2, 30, by="test", why="")
    client = serve()
    wait_until(lambda: states(client) == {1: "ready", 2: "ready"}, "both are loaded")
    return client


def states(client: httpx.Client) -> dict[int, str]:
    return {each["version"]: each["state"] for each in client.get("/models").json()["models"][0]["loaded"]}


def ask(client: httpx.Client, row: dict[str, object], headers: dict[str, str], **body: object) -> httpx.Response:
    return client.post("/predict", json={"instances": [row], **body}, headers=headers)


def test_traffic_is_split_by_key_or_by_request_id(canary: httpx.Client, row: dict[str, object]) -> None:
    for header in ("x-request-key", "x-request-id"):
        keys = [f"{header}.{i}" for i in range(150)]
        first, second = ([ask(canary, row, {header: key}).json()["version"] for key in keys] for _ in range(2))

        assert first == second
        assert stats.binomtest(first.count(2), len(first), 0.3).pvalue > 1e-4
        assert set(first) == {1, 2}
    together = [
        ask(canary, row, {"x-request-key": "me", "x-request-id": f"id-{i}"}).json()["version"] for i in range(20)
    ]
    assert len(set(together)) == 1
    alone = [ask(canary, row, {}).json()["version"] for _ in range(100)]
    assert set(alone) == {1, 2}


def test_who_asks_for_a_version_or_label_gets_it(canary: httpx.Client, row: dict[str, object]) -> None:
    for i in range(10):
        headers = {"x-request-key": str(i)}
        assert ask(canary, row, headers, version=1).json()["version"] == 1
        assert ask(canary, row, headers, version=2).json()["version"] == 2
        assert ask(canary, row, headers, label="stable").json()["version"] == 1
        assert ask(canary, row, headers, label="production").json()["version"] == 1
        assert ask(canary, row, headers | {"x-model-label": "canary"}).json()["version"] == 2


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"version": 3}, "unknown_version", "flights/3 does not serve; serving: 1, 2"),
        ({"label": "shadow"}, "unknown_label", "flights has no label 'shadow'; labels: production, stable, canary"),
        ({"label": "canary", "version": 1}, "unknown_version", "flights/1 is not canary, which is version 2"),
    ],
)
def test_what_does_not_serve_is_refused_with_what_does(
    canary: httpx.Client, row: dict[str, object], body: dict[str, object], code: str, message: str
) -> None:
    answer = ask(canary, row, {}, **body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)
    assert answer.json()["error"]["message"] == message


def test_a_canary_that_is_promoted_ends_as_such_and_one_that_is_called_off_leaves(
    canary: httpx.Client, models: Path, row: dict[str, object]
) -> None:
    routing.promote(models, NAME, 2, by="test", why="")
    wait_until(lambda: states(canary) == {2: "ready"}, "version 1 has left")
    assert {ask(canary, row, {"x-request-key": str(i)}).json()["version"] for i in range(30)} == {2}

    routing.canary(models, NAME, 3, 100, by="test", why="")
    wait_until(lambda: states(canary) == {2: "ready", 3: "ready"}, "version 3 is the canary")
    assert {ask(canary, row, {"x-request-key": str(i)}).json()["version"] for i in range(30)} == {3}

    routing.canary_off(models, NAME, by="test", why="")
    wait_until(lambda: states(canary) == {2: "ready"}, "version 3 has left")
    assert {ask(canary, row, {"x-request-key": str(i)}).json()["version"] for i in range(30)} == {2}


def test_a_canary_that_does_not_load_takes_nothing_from_production(
    canary: httpx.Client, models: Path, row: dict[str, object]
) -> None:
    add_version(models)
    routing.canary(models, NAME, 4, 100, by="test", why="")
    wait_until(lambda: states(canary) == {1: "ready", 4: "ready"}, "version 4 is the canary")
    (models / NAME / "3" / "saved_model.pb").unlink()
    (models / NAME / routing.ROUTING).write_text('{"production": 1, "canary": {"version": 3, "percent": 100}}')
    wait_until(lambda: states(canary) == {1: "ready", 3: "refused"}, "version 3 is refused")

    assert {ask(canary, row, {"x-request-key": str(i)}).json()["version"] for i in range(20)} == {1}
    assert ask(canary, row, {}, label="canary").status_code == 503
    assert canary.get("/readyz").status_code == 200
