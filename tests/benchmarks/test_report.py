"""From records to medians, goals and Markdown, by arithmetic that is done here by hand."""

import pytest

from benchmarks import machine, report
from benchmarks.goals import goals
from benchmarks.results import Results
from benchmarks.store import Store

NUMBERS = {"p50": 1.0, "p99": 2.0, "p999": None, "cpu": 100.0, "failed": 0.0, "load_average": 0.0}
PLAN = {"rounds": 3, "seconds": 5, "warm_up": 2, "connections": [32]}


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "run.jsonl")
    made.add("run", command="python -m benchmarks.run", **machine.facts(), **PLAN)
    return made


def load(store, server, case, per_second, **numbers):
    for turn, rate in enumerate(per_second, 1):
        facts = {"round": turn, "server": server, "case": case, "connections": 32, "per_second": rate}
        store.add("load", **(NUMBERS | numbers | facts))


def by_what(store):
    return {goal.what: goal for goal in goals(Results(store))}


def test_a_goal_is_held_to_the_rival_with_the_best_median(store):
    load(store, "hornpipe", "flights", [9000, 8000, 100], p99=2.0)
    load(store, "LitServe", "flights", [1000, 10, 20], p99=99.0)  # once lucky
    load(store, "BentoML", "flights", [790, 800, 810], p99=20.0)
    load(store, "Triton, Python backend", "flights", [5000, 5000, 5000])  # has no goal
    found = by_what(store)
    assert found["flights: requests/s, to BentoML's"].value == 10.0
    assert found["flights: requests/s, to BentoML's"].reached
    assert found["flights: p99, to BentoML's"].value == 0.1
    assert found["flights: p99, to BentoML's"].reached
    assert not any("LitServe" in what or "Triton" in what for what in found)


def test_a_goal_that_is_missed_by_a_hair_is_missed(store):
    load(store, "hornpipe", "flights", [7999] * 3)
    load(store, "BentoML", "flights", [800] * 3)
    assert not by_what(store)["flights: requests/s, to BentoML's"].reached


def test_the_bare_application_is_a_limit_by_cpu_time(store):
    load(store, "hornpipe", "mlp", [100] * 3, cpu=80.0)
    load(store, "bare ASGI", "mlp", [100] * 3, cpu=60.0)
    assert by_what(store)["mlp: CPU time a request, bare ASGI's to ours"].value == 0.75


def test_a_heavy_model_is_held_to_its_own_variant_in_as_many_threads_as_there_are(store):
    load(store, "hornpipe int8", "mobilenet-jpeg", [95] * 3, cpu=11.0)
    for threads, rate in ((1, 60.0), (2, 100.0)):
        store.add("loop", round=1, model="mobilenet", variant="litert-int8", threads=threads, per_second=rate, cpu=10.0)
    store.add("loop", round=1, model="mobilenet", variant="litert-float32", threads=2, per_second=1.0, cpu=1.0)
    found = by_what(store)
    assert found["mobilenet-jpeg: requests/s of int8, to the interpreter's in a loop"].value == pytest.approx(0.95)
    assert found["mobilenet-jpeg: CPU time a request of int8, the loop's to ours"].value == pytest.approx(10 / 11)


def test_a_line_that_was_cut_short_is_left_out(store):
    load(store, "hornpipe", "flights", [100, 200, 300])
    with store.path.open("a") as file:
        file.write('{"what": "load", "server": "horn')
    assert Results(store).rows("hornpipe", "flights")[32].per_second == 200


def test_the_report_has_what_was_measured_and_what_failed(store):
    load(store, "hornpipe", "flights", [4000, 5000, 6000], cpu=100.0)
    store.add("failed", round=1, server="MLflow", case="flights", connections=32, why="it\n did not start")
    text = report.render(store)
    assert "| hornpipe | 32 | 5,000 | 1.00 | 2.00 |  | 100 | 0% |  |  |" in text
    assert "- MLflow, flights, at 32 connections: it did not start" in text


def test_what_was_never_measured_is_not_in_the_report(store):
    text = report.render(store)
    assert "0 of 0 reached" in text
    assert "## Overload" not in text
