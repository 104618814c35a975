"""Several workers of a service, on the real clock: one of them looks, and another where it is killed."""

import fcntl
import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contract import routing
from contract.jobs import opened
from tests.conftest import NAME
from tests.service.processes.test_workers import start_all, workers
from tests.service.retraining.test_alerts import decisions, promote
from tests.test_server import Process, Start, start
from tests.waiting import wait_until

__all__ = ["start"]

# Twelve hours from now: what is missed is asked for, and nothing else becomes due.
SCHEDULE = f"0 {(datetime.now(UTC).hour + 12) % 24} * * *"
SECTION = {"schedule": SCHEDULE, "cooldown": "0m", "on_labels": 2, "most_a_day": 9}


def missed(path: Path) -> None:
    """As a service leaves it that was stopped three days ago."""
    until = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    tick = {"schedule": SECTION["schedule"], "timezone": "UTC", "until": until}
    folder = path.with_name(f"{path.name}.triggers")
    folder.mkdir()
    (folder / f"{NAME}.json").write_text(json.dumps(tick))


def lock(path: Path) -> Path:
    return path.with_name(f"{path.name}.triggers") / f"{NAME}.lock"


def leader(service: Process, path: Path) -> int:
    """The process id that holds the lock, as the system tells."""
    inode = lock(path).stat().st_ino
    found = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    holders = {int(each[4]) for each in found if each[1] == "FLOCK" and each[5].endswith(f":{inode}")}
    (process,) = holders & set(workers(service).values())
    return process


def held(path: Path) -> bool:
    with lock(path).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_of_several_workers_one_looks_and_another_when_it_is_killed(
    start: Start, models: Path, tmp_path: Path, row: dict[str, object]
) -> None:
    path = tmp_path / "jobs.sqlite"
    promote(models, **SECTION)
    missed(path)
    service = start_all(start, JOBS_FILE=path, RETRAIN_SECONDS=0.05, PREDICTIONS_DIR=tmp_path / "kept")
    with opened(path) as table:
        wait_until(table.newest, "what was missed is asked for")
        (job,) = table.newest()
        assert job.order.cause == "schedule"
        assert job.order.why.startswith(f"the schedule {SCHEDULE} was due at 20")
        claimed = table.claim("worker", 3600.0)
        assert claimed is not None
        table.end(claimed, "succeeded")

        os.kill(leader(service, path), signal.SIGKILL)
        wait_until(lambda: service.status("/readyz") == 200, "another worker answers")
        answer = service.client.post("/predict", json={"instances": [row, row]}).raise_for_status().json()
        truth = [{"request_id": answer["request_id"], "row": i, "label": "late"} for i in range(2)]
        service.client.post("/feedback", json=truth).raise_for_status()
        wait_until(lambda: len(table.newest()) == 2, "who looks now has seen the labels")
        assert table.newest()[0].order.cause == "labels"

    wait_until(lambda: len(decisions(models)) == 2, "both are in the history")
    assert [(action, by) for action, by, _ in decisions(models)] == [("asked", "schedule"), ("asked", "labels")]
    assert service.stop() == 0
    assert not held(path)
    assert routing.read(models, NAME).production == 2
