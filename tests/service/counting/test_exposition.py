"""The text of a scrape, read by Prometheus' own tools."""

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract.histogram import bin_names
from service.counting.exposition import Page, number
from service.counting.instruments import INPUT_BIN, INSTRUMENTS, OUTCOMES, SECONDS
from service.counting.process import children, text, usage
from service.counting.store import OwnMemory
from service.processes.shared import SharedFolder
from tests.deploy.promtool import needs
from tests.service import untrained
from tests.service.scraped import parsed, scraped, value
from tests.service.untrained import ROUTE, Process, Served

NASTY = ('say "hi"', "back\\slash", "two\nlines", "100%s", "%d %% {x}", "é✓", "a=b,c}", " ", "\\n")


def nasty() -> Process:
    process = Process(OwnMemory(), Served(untrained.table(colors=NASTY)))
    process.served[0].answer(100)
    return process


def test_any_label_comes_through() -> None:
    process = nasty()
    seen = {
        dict(labels)["bin"]
        for name, labels in scraped(process.metrics)
        if name == INPUT_BIN.name and ("feature", "color") in labels
    }

    (bins,) = [bins for name, bins in process.served[0].manifest.drift.inputs.items() if name == "color"]
    assert seen == set(bin_names(bins))


@needs("promtool")
@pytest.mark.parametrize("output", [untrained.BINARY, untrained.CLASSES, untrained.VALUE], ids=lambda each: each.name)
def test_promtool_has_nothing_to_complain_of(output: object) -> None:
    process = Process(
        OwnMemory(), Served(untrained.table(output=output)), Served(untrained.table("other", colors=NASTY))
    )
    for i, served in enumerate(process.served):
        served.answer(100)
        process.metrics.request(served.manifest.name, ROUTE, OUTCOMES[i], 0.1)
    text = asyncio.run(process.metrics.scrape())
    checked = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    assert {family.name for family in text_string_to_metric_families(text) if family.name.startswith("hornpipe")} == {
        instrument.name.removesuffix("_total") for instrument in INSTRUMENTS
    }


def test_histograms_are_cumulative_and_whole() -> None:
    process = Process(OwnMemory(), Served(untrained.table()))
    seconds = [0.0, 0.0001, 0.003, 0.003, 7.0, 100.0]
    for each in seconds:
        process.metrics.request("flights", ROUTE, "ok", each)
    samples = scraped(process.metrics)
    name, labels = "hornpipe_request_duration_seconds", {"model": "flights", "route": ROUTE, "outcome": "ok"}

    for bound in (*SECONDS, math.inf):
        le = "+Inf" if bound == math.inf else str(bound)
        assert value(samples, f"{name}_bucket", **labels, le=le) == sum(each <= bound for each in seconds)
    assert value(samples, f"{name}_count", **labels) == 6
    assert value(samples, f"{name}_sum", **labels) == pytest.approx(sum(seconds))


def test_a_protocols_route_is_there_from_its_first_request_on() -> None:
    process = Process(OwnMemory(), Served(untrained.table()))

    def outcomes(route: str) -> set[str]:
        name, wanted = "hornpipe_request_duration_seconds_count", {("route", route), ("model", "flights")}
        samples = scraped(process.metrics)
        return {dict(labels)["outcome"] for found, labels in samples if found == name and wanted <= labels}

    assert (outcomes(ROUTE), outcomes("/other")) == (set(OUTCOMES), set())
    process.metrics.request("flights", "/other", "ok", 0.1)
    assert outcomes("/other") == set(OUTCOMES)


def test_routes_are_declared_before_counting_begins() -> None:
    process = Process(OwnMemory())
    process.metrics.declare(ROUTE)
    with pytest.raises(RuntimeError, match="/late must be declared before"):
        process.metrics.declare("/late")


def test_an_output_that_is_no_number_is_counted_and_told() -> None:
    process = Process(OwnMemory(), Served(untrained.table(output=untrained.VALUE)))
    rows, _ = untrained.some_rows(3, 3, untrained.VALUE, 0)
    process.served[0].monitor.observe(rows, {"value": np.array([np.nan, np.inf, 1], np.float32)}, 3)
    samples = scraped(process.metrics)

    version = {"model": "flights", "version": "1"}
    assert value(samples, "hornpipe_output_bin_total", **version, output="value", bin="non_finite") == 2
    assert value(samples, "hornpipe_prediction_score_sum", **version) == math.inf
    assert value(samples, "hornpipe_prediction_score_count", **version) == 1


def test_traces_are_counted_through_reloads() -> None:
    """A runtime says how often it has traced since it was loaded."""
    served = Served(untrained.table())
    process = Process(OwnMemory(), served)
    counted = []
    for served.traces in (0, 3, 3, 1, 2):  # it was loaded again before the fourth
        counted.append(value(scraped(process.metrics), "hornpipe_traces_total", model="flights"))

    assert counted == [0, 3, 3, 4, 5]


WORKS = "import time\nwhile time.process_time() < 1: pass\nheld = bytes(range(256)) * {held}\n"
PARENT = f"""{WORKS.format(held=10**5)}
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {WORKS.format(held=10**6) + "print(flush=True); time.sleep(1000)"!r}])
child.wait()
"""


def test_processes_are_added_up() -> None:
    """Of a family of its own: this process has children of other tests, whose time would be part of it."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        parent.stdout.readline()
        both = [parent.pid, *children(parent.pid)]
        samples = parsed(text(both[:1], None))
        told = subprocess.run(
            ["ps", "-o", "rss=,times=,etimes=", "-p", ",".join(map(str, both))],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        now = time.time()
        for each in both:
            os.kill(each, signal.SIGKILL)

    resident, cpu, age = (list(map(int, told[i::3])) for i in range(3))
    assert len(both) == 2
    assert value(samples, "process_resident_memory_bytes") == pytest.approx(1024 * sum(resident), rel=0.05)
    assert min(resident) > 25e3
    assert max(resident) > 256e3
    assert value(samples, "process_cpu_seconds_total") == pytest.approx(sum(cpu) + 1, abs=1)  # each in whole seconds
    assert now - value(samples, "process_start_time_seconds") == pytest.approx(max(age), abs=60)


def test_a_process_tells_of_itself() -> None:
    used = time.process_time()
    samples = scraped(Process(OwnMemory()).metrics)
    ps = subprocess.run(["ps", "-o", "etimes=", "-p", str(os.getpid())], capture_output=True, text=True, check=True)
    began = time.time() - int(ps.stdout)

    assert value(samples, "process_cpu_seconds_total") >= used - 0.1
    assert value(samples, "process_resident_memory_bytes") > 20e6
    assert value(samples, "process_start_time_seconds") == pytest.approx(began, abs=60)
    assert usage(2**22 + 1) is None


@pytest.mark.parametrize("shared", [False, True])
def test_a_scrape_of_ten_models_is_two_megabytes(tmp_path: Path, shared: bool) -> None:
    store = SharedFolder(tmp_path, 0) if shared else OwnMemory()
    served = [Served(untrained.table(f"model-{i}", numbers=64)) for i in range(10)]
    process = Process(store, *served)
    for each in served:
        each.answer(600)
    text = asyncio.run(process.metrics.scrape())

    assert len(text) < 2e6
    assert len(parsed(text)) > 16_000


def test_numbers_are_written_as_prometheus_reads_them() -> None:
    assert [number(each) for each in (1.5, math.inf, -math.inf, math.nan, 3)] == ["1.5", "Inf", "-Inf", "NaN", "3"]
    assert "# TYPE hornpipe_workers gauge" in Page().text()
