"""Several processes' counts in one folder: added up, taken over, told apart, and gone when nobody needs them."""

import json
import logging
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from service.counting.store import OwnMemory
from service.processes.shared import SharedFolder
from tests.service import untrained
from tests.service.scraped import Samples, scraped, total, value
from tests.service.untrained import ROUTE, Process, Served

REQUESTS = "hornpipe_request_duration_seconds_count"


def requests(samples: Samples, route: str = ROUTE) -> float:
    return value(samples, REQUESTS, model="flights", route=route, outcome="ok")


def rows(samples: Samples, version: int = 1) -> float:
    return total(samples, "hornpipe_predictions_total", model="flights", version=str(version))


def versions_in(samples: Samples, metric: str = "hornpipe_baseline_rows") -> set[str]:
    return {dict(labels)["version"] for name, labels in samples if name == metric}


def version_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.name.startswith("version") or path.suffix == ".json")


def dead(process: Process) -> None:
    """As the system sees it: nobody holds the lock of its slot any more."""
    os.close(process.metrics._store._life)


def test_every_worker_tells_of_all(tmp_path: Path) -> None:
    workers = [Process(SharedFolder(tmp_path, slot), Served(untrained.table())) for slot in range(3)]
    for i, worker in enumerate(workers):
        worker.served[0].answer(10 * (i + 1))
        worker.metrics.request("flights", ROUTE, "ok", 0.1)
        worker.served[0].rows_waiting = i
        worker.metrics.publish()

    for worker in workers:
        samples = scraped(worker.metrics)
        assert (rows(samples), requests(samples)) == (60, 3)
        assert value(samples, "hornpipe_queue_rows", model="flights") == 3
        assert value(samples, "hornpipe_workers") == 3
        (info,) = [dict(labels) for name, labels in samples if name == "hornpipe_model_info"]
        assert (info["runtime"], info["variant"], info["version"]) == ("litert", "litert-int8", "1")
        assert value(samples, "hornpipe_baseline_rows", model="flights", version="1") == 500


def test_what_one_process_tells_several_tell_too(tmp_path: Path) -> None:
    told = []
    for store in (OwnMemory(), SharedFolder(tmp_path, 0)):
        process = Process(store, Served(untrained.table(output=untrained.CLASSES)))
        process.served[0].answer(100)
        process.metrics.request("flights", "/other", "error", 0.5)
        process.metrics.rejected("", "deadline")
        process.metrics.shadowed("flights", "disagreed", 7)
        told.append({key: each for key, each in scraped(process.metrics).items() if not key[0].startswith("process")})

    assert told[0] == told[1]
    assert value(told[0], "hornpipe_shadow_rows_total", model="flights", result="disagreed") == 7


def test_a_dead_workers_counts_stay_and_its_gauges_go(tmp_path: Path) -> None:
    first, second = (Process(SharedFolder(tmp_path, slot), Served(untrained.table())) for slot in range(2))
    first.served[0].answer(10)
    first.served[0].rows_waiting = 9
    first.metrics.publish()
    second.load(Served(untrained.table(version=2)))
    dead(first)
    samples = scraped(second.metrics)

    assert rows(samples) == 10
    assert value(samples, "hornpipe_queue_rows", model="flights") == 0
    assert value(samples, "hornpipe_workers") == 1
    assert versions_in(samples, "hornpipe_model_info") == {"1", "2"}

    third = Process(SharedFolder(tmp_path, 0), Served(untrained.table()))
    third.served[0].answer(5)
    samples = scraped(second.metrics)
    assert rows(samples) == 15
    assert (value(samples, "hornpipe_workers"), value(samples, "hornpipe_worker_restarts_total")) == (2, 1)


def test_a_version_that_one_worker_has_not_loaded_is_told_by_it(tmp_path: Path) -> None:
    ahead, behind = (Process(SharedFolder(tmp_path, slot)) for slot in range(2))
    ahead.load(Served(untrained.table(version=2, numbers=5)))
    ahead.served[0].answer(700)
    samples = scraped(behind.metrics)

    assert rows(samples, 2) == 700
    for name, labels in samples:
        if name == "hornpipe_input_bin_total":
            assert dict(labels)["feature"] in {"color", *(f"number {i}" for i in range(5))}


def test_a_version_goes_when_no_worker_keeps_it_and_its_files_with_it(tmp_path: Path) -> None:
    workers = [Process(SharedFolder(tmp_path, slot), Served(untrained.table())) for slot in range(2)]
    for worker in workers:
        worker.served[0].answer(10)
        worker.load(Served(untrained.table(version=2)))
    one, other = workers

    one.retired.append(one.served.pop(0))
    samples = scraped(one.metrics)
    assert versions_in(samples) == {"1", "2"}
    assert versions_in(samples, "hornpipe_model_info") == {"1", "2"}  # the other one still has it loaded

    one.retired.clear()
    assert rows(scraped(one.metrics)) == 20  # a sum must not fall because one worker was the first to forget

    other.served.pop(0)
    assert versions_in(scraped(other.metrics)) == versions_in(scraped(one.metrics)) == {"2"}
    assert len(version_files(tmp_path)) == 3


def test_a_version_that_comes_back_goes_on_where_it_was(tmp_path: Path) -> None:
    one, other = (Process(SharedFolder(tmp_path, slot), Served(untrained.table())) for slot in range(2))
    one.served.pop().answer(10)
    one.metrics.publish()
    one.load(Served(untrained.table()))
    one.served[0].answer(5)

    assert rows(scraped(other.metrics)) == 15


def test_what_a_dead_worker_had_and_its_successor_has_not_goes_when_all_is_loaded(tmp_path: Path) -> None:
    first = Process(SharedFolder(tmp_path, 0), Served(untrained.table()), Served(untrained.table("digits")))
    first.served[0].answer(10)
    dead(first)
    second = Process(SharedFolder(tmp_path, 0), Served(untrained.table(version=2)))
    assert versions_in(scraped(second.metrics)) == {"1", "2"}
    second.load(Served(untrained.table("digits")))
    second.metrics.settle()

    assert rows(scraped(second.metrics)) == 0
    assert total(scraped(second.metrics), "hornpipe_baseline_rows", model="digits") == 500
    assert len(version_files(tmp_path)) == 4


def test_blocks_of_another_release_are_left_out_and_replaced(tmp_path: Path) -> None:
    old = Process(SharedFolder(tmp_path, 0), Served(untrained.table()))
    old.served[0].answer(10)
    other = Process(SharedFolder(tmp_path, 1), Served(untrained.table()))
    (path,) = (tmp_path / "0").glob("version*")
    dead(old)
    for content in (b"\1" * path.stat().st_size, b"\1" * 1000, b"no head", b""):
        path.unlink()
        path.write_bytes(content)
        assert rows(scraped(other.metrics)) == 0

    new = Process(SharedFolder(tmp_path, 0), Served(untrained.table()))
    new.served[0].answer(3)
    assert rows(scraped(other.metrics)) == 3


def test_a_full_disk_costs_a_line_in_the_log_and_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    process = Process(SharedFolder(tmp_path, 0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with caplog.at_level(logging.ERROR):
            process.load(Served(untrained.table()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    process.served[0].answer(10)
    process.metrics.request("flights", ROUTE, "ok", 0.1)

    assert "version of flights is counted here, but in no scrape: [Errno 27] File too large" in caplog.text
    assert not any(name == REQUESTS and ("model", "flights") in labels for name, labels in scraped(process.metrics))
    assert sum(process.served[0].monitor.labels().values()) == 10


def test_a_reader_waits_for_counts_of_one_moment(tmp_path: Path) -> None:
    """A writer that counts while its block is being copied: the copy is made again."""
    process = Process(SharedFolder(tmp_path, 0), Served(untrained.table()))
    tally = next(iter(process.metrics._tallies.values()))
    copies = []

    def copy(side: int) -> int:
        copies.append(side)
        if len(copies) < 3:
            process.served[0].answer(tally.watch.rows)  # which is counted at once
        return int(tally.ledger.notes[side, 0])

    counts, _, noted = tally.ledger.read(copy)
    assert len(copies) == 3
    assert (sum(tally.watch.split(counts)[2].values()), noted) == (2 * tally.watch.rows, 0)


@pytest.mark.parametrize(
    "times", [5, pytest.param(300, marks=[pytest.mark.soak, pytest.mark.timeout(900)])], ids=lambda times: f"{times}"
)
def test_killing_a_process_at_any_moment_loses_nothing(tmp_path: Path, times: int) -> None:
    command = [sys.executable, "-m", "tests.service.killing", str(tmp_path), str(times)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)

    assert told["answered"] > 10 * times
    for counted, each in (("requests", 1), ("runs", 1), ("rows", 3)):
        assert 0 <= told[counted] - each * told["answered"] <= each * times  # what was not told any more
    assert told["same_files"]
    assert (told["workers"], told["restarts"]) == (1, times - 1)
