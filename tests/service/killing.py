"""Kills a process that counts, again and again, and looks at what is left: run by test_shared.py.

    python -m tests.service.killing FOLDER TIMES

A process of its own, because it forks: each child takes the place of the one before it, and says in a word of shared
memory how much it has counted in full, as a client knows which of its requests were answered.
"""

import asyncio
import json
import mmap
import os
import random
import signal
import sys
from pathlib import Path

from service.processes.shared import SharedFolder
from tests.service import untrained
from tests.service.scraped import parsed, total, value
from tests.service.untrained import ROUTE, Process, Served

ROWS = 3


def count_on(folder: Path, answered: memoryview) -> None:
    """Until killed."""
    served = Served(untrained.table())
    process = Process(SharedFolder(folder, slot=0), served)
    while True:
        served.answer(ROWS)
        process.metrics.of("flights").ran(ROWS, 0.001, [(0.001, 0.001)])
        process.metrics.request("flights", ROUTE, "ok", 0.002)
        answered[0] += 1


def look(process: Process, before: dict[str, float]) -> dict[str, float]:
    """A scrape while somebody counts; everything in it is of one moment, and nothing is less than it was before."""
    samples = parsed(asyncio.run(process.metrics.scrape()))
    labels = {"model": "flights", "version": "1"}
    seen = {
        "requests": total(samples, "hornpipe_request_duration_seconds_count", model="flights"),
        "seconds": total(samples, "hornpipe_request_duration_seconds_sum", model="flights"),
        "runs": value(samples, "hornpipe_batch_rows_count", model="flights"),
        "rows": total(samples, "hornpipe_predictions_total", **labels),
    }
    for feature in ("number 0", "number 2", "color"):
        assert total(samples, "hornpipe_input_bin_total", **labels, feature=feature) == seen["rows"]
    assert value(samples, "hornpipe_prediction_score_count", **labels) == seen["rows"]
    assert abs(seen["seconds"] - 0.002 * seen["requests"]) < 1e-6 * max(1, seen["requests"])
    assert all(seen[name] >= each for name, each in before.items()), (before, seen)
    return seen


def files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def main(folder: Path, times: int) -> None:
    answered = memoryview(mmap.mmap(-1, 8)).cast("Q")
    watcher = Process(SharedFolder(folder, slot=1), Served(untrained.table()))
    chance = random.Random(0)
    seen, before, looks = {}, None, 0
    for _ in range(times):
        child = os.fork()
        if child == 0:
            count_on(folder, answered)
        enough = answered[0] + chance.randrange(1, 500)
        while answered[0] < enough:
            seen = look(watcher, seen)
            looks += 1
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if before is None:
            before = files(folder)
    seen = look(watcher, seen)
    life = watcher.metrics._store.life()
    facts = {"answered": answered[0], "looks": looks, "same_files": files(folder) == before, "restarts": life.restarts}
    print(json.dumps(facts | {"workers": life.workers} | seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
