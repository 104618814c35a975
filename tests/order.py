"""Which files are begun first: those that take longest, so that no worker is left alone with one at the end.

About in the order of the time that they take, but that the first is the only one of the first few that needs the model
of the flights: the others need not wait until it is trained. A file that is not named comes after these; without this
order the last to begin would be some of those that train, half a minute each.
"""

import os
from pathlib import Path

import pytest

LONGEST = (
    "service/test_hostile.py",
    "training/test_doctor.py",
    "training/importing/test_importing.py",
    "training/test_resume.py",
    "deploy/test_alerts.py",
    "service/test_kinds.py",
    "test_cli.py",
    "contract/test_isolated.py",
    "service/processes/test_workers.py",
    "service/test_slow_clients.py",
    "training/test_gate.py",
    "service/predictions/test_predictions.py",
    "training/test_worker.py",
    "training/test_pipeline.py",
    "training/test_fit.py",
    "service/test_grpc.py",
    "examples/test_from_scratch.py",
    "deploy/test_dashboards.py",
    "test_server.py",
    "training/test_report.py",
    "training/loop/test_run.py",
    "service/protocols/test_openinference.py",
    "service/test_registry_folder.py",
)
TESTS = Path(__file__).parent


def longest_first(items: list[pytest.Item]) -> None:
    """In place; files stay together, and a file's tests in their order."""
    place = {TESTS / name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def workers() -> int:
    """One more than there are processors, since tests also wait for what they have started; four at most."""
    return min(4, (os.cpu_count() or 1) + 1)
