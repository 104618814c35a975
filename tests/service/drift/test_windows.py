"""Windows of one process and of several, over restarts, and from files that are not what they should be."""

import asyncio
import logging
import os
from pathlib import Path

import orjson
import pytest

from service.counting.store import OwnMemory, Store
from service.drift.file import NAME, WindowsFile, packed
from service.drift.history import Window
from service.drift.windows import FORGET_SECONDS, MOST_LEFT, Windows
from service.processes.shared import SharedFolder
from tests.service import untrained
from tests.service.untrained import Process, Served
from tests.waiting import PATIENCE_SECONDS


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """One process of the service: what it counts with, and its windows."""

    def __init__(self, store: Store, folder: Path | None, clock: Clock, *served: Served) -> None:
        self.process = Process(store, *(served or (Served(untrained.table()),)))
        self.windows = Windows(store, self.process.metrics.watches, folder or store.folder, clock)
        self.windows.restore()

    def answer(self, count: int) -> None:
        self.process.served[0].answer(count)

    def rows(self, window: Window = "1h", version: int = 1) -> int:
        found = self.windows.rows("flights", version, window)
        assert found is not None
        watch, rows = found
        return sum(watch.split(rows.counts)[2].values())

    def write(self) -> None:
        asyncio.run(self.windows.close())


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_rows_leave_an_hour_after_they_came(clock: Clock) -> None:
    worker = Worker(OwnMemory(), None, clock)
    for minute in range(180):
        worker.answer(1)
        worker.windows.look()
        clock.now += 60
        assert min(minute + 1, 59) <= worker.rows() <= min(minute + 1, 66)

    assert worker.rows("24h") == 180
    clock.now += 3900
    assert worker.rows() == 0
    worker.windows.look()
    clock.now += 90_000
    assert worker.rows("24h") == 0


def test_windows_are_split_by_feature_output_and_label(clock: Clock) -> None:
    worker = Worker(OwnMemory(), None, clock)
    worker.answer(100)
    worker.windows.look()
    clock.now += 60
    worker.answer(50)
    found = worker.windows.rows("flights", 1, "24h")
    assert found is not None
    inputs, outputs, labels = found[0].split(found[1].counts)

    monitor = worker.process.served[0].monitor
    assert {name: each.tolist() for name, each in inputs.items()} == {
        name: each.tolist() for name, each in monitor.inputs().items()
    }
    assert [each.tolist() for each in outputs.values()] == [each.tolist() for each in monitor.outputs().values()]
    assert labels == monitor.labels()


def test_a_restart_keeps_them(clock: Clock, tmp_path: Path) -> None:
    first = Worker(OwnMemory(), tmp_path, clock)
    first.answer(100)
    first.write()
    clock.now += 600
    second = Worker(OwnMemory(), tmp_path, clock)
    second.answer(130)  # more than before, and still from nothing

    assert second.rows() == second.rows("24h") == 230
    clock.now += 3600
    second.windows.look()
    assert (second.rows(), second.rows("24h")) == (130, 230)
    second.write()
    clock.now += 30 * 3600  # the machine was off
    assert Worker(OwnMemory(), tmp_path, clock).rows("24h") == 0


def test_what_is_killed_loses_what_came_since_the_last_writing(clock: Clock, tmp_path: Path) -> None:
    first = Worker(OwnMemory(), tmp_path, clock)
    first.answer(100)
    first.write()
    first.answer(1)

    assert Worker(OwnMemory(), tmp_path, clock).rows() == 100


def test_nothing_is_written_without_a_folder(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    worker = Worker(OwnMemory(), None, clock)
    worker.answer(1)
    worker.write()

    assert not list(tmp_path.iterdir())


def test_all_workers_tell_of_all(clock: Clock, tmp_path: Path) -> None:
    workers = [Worker(SharedFolder(tmp_path, slot), None, clock) for slot in range(3)]
    for i, worker in enumerate(workers):
        worker.answer(10**i)
        worker.windows.look()

    assert [worker.rows() for worker in workers] == [111, 111, 111]


def test_a_worker_that_takes_a_dead_ones_place_has_its_windows(clock: Clock, tmp_path: Path) -> None:
    first, second = (Worker(SharedFolder(tmp_path, slot), None, clock) for slot in range(2))
    for worker in (first, second):
        worker.answer(50)
    first.write()
    clock.now += 7200
    os.close(second.process.metrics._store._life)
    again = Worker(SharedFolder(tmp_path, 1), None, clock)
    again.answer(3)

    assert (again.rows(), again.rows("24h")) == (3, 103)


def test_one_process_writes_and_another_when_it_is_gone(tmp_path: Path) -> None:
    first, second = WindowsFile(tmp_path), WindowsFile(tmp_path)
    first.write(b"1")
    second.write(b"2")
    assert text(tmp_path) == b"1"
    first.close()
    second.write(b"2")

    assert text(tmp_path) == b"2"


def test_it_writes_while_it_runs(clock: Clock, tmp_path: Path) -> None:
    worker = Worker(OwnMemory(), tmp_path, clock)
    worker.answer(9)

    async def run() -> None:
        task = asyncio.create_task(worker.windows.run())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (tmp_path / NAME).exists():
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert Worker(OwnMemory(), tmp_path, clock).rows() == 9


def test_all_of_many_models_are_kept_until_they_are_loaded(clock: Clock, tmp_path: Path) -> None:
    names = [f"model-{i}" for i in range(MOST_LEFT + 4)]
    first = Worker(OwnMemory(), tmp_path, clock, *(Served(untrained.table(name, numbers=1)) for name in names))
    for served in first.process.served:
        served.answer(6)
    first.write()
    second = Worker(OwnMemory(), tmp_path, clock)
    second.windows.look()
    for name in names:
        second.process.load(Served(untrained.table(name, numbers=1)))

    for name in names:
        found = second.windows.rows(name, 1, "1h")
        assert found is not None
        assert sum(found[0].split(found[1].counts)[2].values()) == 6


def text(folder: Path) -> bytes:
    return (folder / NAME).read_bytes()


def written(folder: Path, clock: Clock) -> bytes:
    worker = Worker(OwnMemory(), folder, clock)
    worker.answer(100)
    worker.write()
    return text(folder)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_half_a_file_is_ignored_and_replaced(
    share: float, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = written(tmp_path, clock)
    (tmp_path / NAME).write_bytes(whole[: int(share * len(whole))])
    worker = Worker(OwnMemory(), tmp_path, clock)
    worker.answer(7)

    assert worker.rows() == 7
    assert "the windows of drift begin anew" in caplog.text
    worker.write()
    assert Worker(OwnMemory(), tmp_path, clock).rows() == 7


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
        (("more",), 1),
        (("versions", 0, "raw"), [1, 2]),
        (("versions", 0, "raw", 0), -1),
        (("versions", 0, "raw", 0), 2**63),
        (("versions", 0, "raw", 0), "many"),
        (("versions", 0, "samples", "1h"), []),
        (("versions", 0, "samples"), {}),
        (("versions", 0, "last", "time"), None),
        (("versions",), "none"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_ignored(
    path: tuple[str | int, ...], value: object, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = orjson.loads(written(tmp_path, clock))
    part = content
    for each in path[:-1]:
        part = part[each]
    part[path[-1]] = value
    (tmp_path / NAME).write_bytes(orjson.dumps(content))

    assert Worker(OwnMemory(), tmp_path, clock).rows() == 0
    assert "cannot be read" in caplog.text


def test_another_layout_begins_anew(clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = orjson.loads(written(tmp_path, clock))
    content["versions"][0]["layout"] += 2
    (tmp_path / NAME).write_bytes(orjson.dumps(content))

    assert Worker(OwnMemory(), tmp_path, clock).rows() == 0
    assert "counted otherwise than before" in caplog.text


def test_a_folder_that_cannot_be_written_is_said_once(
    clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    worker = Worker(OwnMemory(), tmp_path / "file" / "folder", clock)
    worker.answer(5)
    caplog.set_level(logging.INFO)
    for _ in range(3):
        worker.write()

    assert worker.rows() == 5
    assert caplog.text.count("the windows of drift are not kept") == 1


def test_a_version_that_comes_back_has_what_it_had(clock: Clock, tmp_path: Path) -> None:
    worker = Worker(OwnMemory(), tmp_path, clock)
    process = worker.process
    worker.answer(10)
    worker.windows.look()
    (old,) = process.served
    process.served.clear()
    process.load(Served(untrained.table(version=2)))
    worker.windows.look()
    assert worker.windows.rows("flights", 1, "24h") is None
    process.load(Served(old.manifest))
    process.served[-1].answer(5)

    assert (worker.rows("24h", version=1), worker.rows("24h", version=2)) == (15, 0)


def test_versions_that_have_left_are_forgotten_after_a_day(clock: Clock, tmp_path: Path) -> None:
    worker = Worker(OwnMemory(), tmp_path, clock)
    worker.windows.look()
    worker.process.served.clear()
    worker.process.metrics.publish()
    worker.windows.look()
    worker.write()
    assert b"flights" in text(tmp_path)
    clock.now += FORGET_SECONDS
    worker.write()

    assert text(tmp_path) == packed(worker.windows._store.run, [])
