"""The file where predictions and labels meet: in any order, once each, by whom ever, and for no longer than it may."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from service.errors import InvalidRequest
from service.labels import labels as module
from service.labels.indexing import index
from service.labels.joining import JoinedLabels
from service.labels.labelled import Joined, LabelsError
from service.labels.labels import Feedback, Labels
from tests.service.logged import BINARY, DIGITS, VALUE, Logger
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def labels(tmp_path: Path) -> Iterator[Labels]:
    with closing(Labels(tmp_path)) as opened:
        yield opened


def said(request_id: str, label: object, row: int = 0) -> Feedback:
    return Feedback("", request_id, row, label)


def joined(folder: Path, model: str = "flights", since: float = 0.0, **rest: object) -> list[Joined]:
    return list(JoinedLabels(folder).joined(model, since, **rest))


def test_feedback_joins_what_was_predicted(labels: Labels, tmp_path: Path) -> None:
    logger = Logger(tmp_path)
    logger.log("a", [0.25, 0.5], 1000.0)
    logger.log("b", [0.75], 2000.0, version=2, role="canary")
    assert index(labels, tmp_path) == {}
    before = time.time()

    assert labels.store([said("a", "late", 1), said("b", "on_time")]) == {("flights", "new"): 2}

    first, second = joined(tmp_path)
    assert (first.model, first.version, first.output) == ("flights", 1, BINARY)
    assert first.predicted_at.tolist() == [1000.0, 1000.0]
    assert first.scores.dtype == np.float32
    assert first.scores.tolist() == [0.25, 0.5]
    assert first.labels.tolist() == [-1, 1]
    assert first.known.tolist() == [False, True]
    assert before <= first.received_at[1] <= time.time()
    assert (second.version, second.roles.tolist(), second.labels.tolist()) == (2, ["canary"], [0])
    assert [each.labels.tolist() for each in joined(tmp_path, labelled=True)] == [[1], [0]]
    assert [each.version for each in joined(tmp_path, since=1000.5)] == [2]
    assert [each.version for each in joined(tmp_path, until=2000.0)] == [1]
    assert [each.version for each in joined(tmp_path, version=2)] == [2]
    assert JoinedLabels(tmp_path).counts("flights", 0) == {1: (2, 1), 2: (1, 1)}
    assert first.take(first.known).scores.tolist() == [0.5]


def test_the_same_again_changes_nothing_and_another_replaces_it(labels: Labels, tmp_path: Path) -> None:
    Logger(tmp_path).log("a", [0.25])
    index(labels, tmp_path)
    labels.store([said("a", "late")])
    received, changes = joined(tmp_path)[0].received_at[0], JoinedLabels(tmp_path).changes()

    assert labels.store([said("a", "late")]) == {("flights", "same"): 1}
    assert joined(tmp_path)[0].received_at[0] == received
    assert JoinedLabels(tmp_path).changes() == changes

    assert labels.store([said("a", "on_time")]) == {("flights", "corrected"): 1}
    assert joined(tmp_path)[0].labels.tolist() == [0]
    assert joined(tmp_path)[0].received_at[0] > received
    assert JoinedLabels(tmp_path).changes() != changes


def test_feedback_that_comes_first_joins_when_the_prediction_is_indexed(labels: Labels, tmp_path: Path) -> None:
    early = [said("a", 2.0), said("a", "2", 1), said("a", "seven", 2), said("a", "1", 5), said("never", "1")]
    assert labels.store(early) == {("", "unknown"): 5}
    assert labels.store(early) == {("", "unknown"): 5}
    Logger(tmp_path, DIGITS, "digits").log("a", [[0.1, 0.2, 0.7]] * 3)

    assert index(labels, tmp_path) == {("digits", "joined"): 2, ("digits", "misfit"): 2}

    (found,) = joined(tmp_path, "digits")
    assert found.labels.tolist() == [2, 2, -1]
    assert found.scores.shape == (3, 3)
    assert labels.store([said("a", 2, 1)]) == {("digits", "same"): 1}


def test_what_does_not_fit_is_named_at_once_and_nothing_is_stored(labels: Labels, tmp_path: Path) -> None:
    Logger(tmp_path).log("a", [0.25, 0.5])
    Logger(tmp_path, VALUE, "value").log("v", [4.5])
    index(labels, tmp_path)

    with pytest.raises(InvalidRequest) as caught:
        labels.store([said("a", "late"), Feedback("[1].", "a", 0, "early"), Feedback("[2].", "a", 2, "late"),
                      Feedback("[3].", "v", 0, "4")])  # fmt: skip

    assert [(each.path, each.expected, each.received) for each in caught.value.problems] == [
        ("[1].label", "one of on_time, late", '"early"'),
        ("[2].row", "0 to 1", "2"),
        ("[3].label", "a number", '"4"'),
    ]
    assert joined(tmp_path, labelled=True) == []
    assert labels.store([said("v", 4)]) == {("value", "new"): 1}
    assert joined(tmp_path, "value")[0].labels.tolist() == [4.0]
    assert joined(tmp_path, "value")[0].scores.tolist() == [4.5]


def test_a_request_that_comes_twice_stands_for_its_last_prediction(labels: Labels, tmp_path: Path) -> None:
    logger = Logger(tmp_path)
    logger.log("a", [0.25], 1000.0)
    index(labels, tmp_path)
    labels.store([said("a", "late")])
    logger.log("a", [0.75], 1001.0)
    index(labels, tmp_path)

    (found,) = joined(tmp_path)
    assert (found.predicted_at.tolist(), found.scores.tolist(), found.labels.tolist()) == ([1001.0], [0.75], [1])


def test_every_line_is_taken_once_in_whatever_portions(
    labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.labels.indexing.MOST_BYTES", 500)
    logger = Logger(tmp_path)
    for i in range(40):
        logger.log(str(i), [i / 40], 1000.0 + i)
        if i % 7 == 0:
            index(labels, tmp_path)
    (path,) = tmp_path.glob("2*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"no": "prediction"}\nno JSON\n{"id": "40", "time"')  # the last one by half
    with closing(Labels(tmp_path)) as another:
        index(another, tmp_path)
    index(labels, tmp_path)

    scores = np.concatenate([each.scores for each in joined(tmp_path)])
    np.testing.assert_array_equal(scores, (np.arange(40) / 40).astype(np.float32))


def test_a_score_that_is_no_number_is_in_no_sum_and_is_a_row_all_the_same(labels: Labels, tmp_path: Path) -> None:
    Logger(tmp_path).log("a", [None, 0.5])
    index(labels, tmp_path)

    assert labels.store([said("a", "late", 0), said("a", "late", 1)]) == {("flights", "new"): 2}
    assert joined(tmp_path)[0].scores.tolist() == [0.5]


def test_nothing_is_kept_longer_than_it_may(labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 3)
    now, logger = time.time(), Logger(tmp_path)
    for i in range(10):
        logger.log(str(i), [0.5], now - 1000 * i)
    index(labels, tmp_path)
    labels.store([said(str(i), "late") for i in range(12)])

    labels.limit(2**30, 4500.0)  # with room for a machine that takes minutes to come here

    assert sorted(now - joined(tmp_path)[0].predicted_at) == [0, 1000, 2000, 3000, 4000]
    assert labels.store([said("7", "late"), said("11", "late")]) == {("", "unknown"): 2}
    labels.limit(2**30, 0.0)
    assert joined(tmp_path) == []
    assert labels.store([said("11", "on_time")]) == {("", "unknown"): 1}
    assert labels.connection.execute("SELECT count(*) FROM labels").fetchone() == (1,)


def test_the_file_never_takes_much_more_than_it_may_and_keeps_the_newest(labels: Labels, tmp_path: Path) -> None:
    most = 300_000
    for start in range(0, 20_000, 2000):
        labels.store([said(f"from-a-stranger-{start + i}", "late") for i in range(2000)])
        labels.limit(most, 1e9)
        labels.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        assert labels.path.stat().st_size <= most
    left = [name for (name,) in labels.connection.execute("SELECT id FROM labels")]
    assert len(left) > 1000
    assert min(int(name.split("-")[-1]) for name in left) > 10_000


def test_a_request_can_be_forgotten(labels: Labels, tmp_path: Path) -> None:
    logger = Logger(tmp_path)
    logger.log("secret-1", [0.5, 0.25])
    logger.log("b", [0.5])
    index(labels, tmp_path)
    labels.store([said("secret-1", "late")])

    assert labels.forget("secret-1") == 2
    assert labels.forget("secret-1") == 0
    assert [len(each) for each in joined(tmp_path)] == [1]
    for path in tmp_path.glob("labels.db*"):
        assert b"secret-1" not in path.read_bytes(), path


def store_many(folder: Path, worker: int, count: int) -> None:
    module.BUSY_SECONDS = PATIENCE_SECONDS  # SQLite lets nobody stand in a line: on a slow machine one may wait long
    with closing(Labels(folder)) as labels:
        for i in range(count):
            labels.store([said(f"{i}", "late" if worker % 2 else "on_time"), said(f"{worker}-{i}", "late")])
            index(labels, folder)


def test_several_processes_write_beside_each_other(labels: Labels, tmp_path: Path) -> None:
    logger, count = Logger(tmp_path), 60
    for i in range(count):
        logger.log(f"{i}", [0.5])
        for worker in range(4):
            logger.log(f"{worker}-{i}", [0.25])
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=store_many, args=(tmp_path, worker, count)) for worker in range(4)]
    for each in others:
        each.start()
    for each in others:
        each.join()

    assert [each.exitcode for each in others] == [0] * 4
    assert JoinedLabels(tmp_path).counts("flights", 0) == {1: (5 * count, 5 * count)}


def test_what_was_answered_is_there_after_a_kill(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.service.labels.test_labels import *\n"
        "labels, i = Labels(Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    labels.store([said(f'{i}', 'late'), said(f'{i}', 'on_time', 1)])\n"
        "    print(i, flush=True); i += 1\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    answered = [int(process.stdout.readline()) for _ in range(50)]
    os.kill(process.pid, signal.SIGKILL)
    answered += [int(text) for text in process.stdout.read().split("\n") if text]
    process.stdout.close()
    process.wait()

    with closing(Labels(tmp_path)) as labels:
        kept = labels.connection.execute("SELECT id, count(*) FROM labels GROUP BY id").fetchall()
    assert {int(name) for name, _ in kept} >= set(answered)
    assert {count for _, count in kept} == {2}  # all of a request, or nothing


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.db").write_bytes(b"x" * 8192)
    with pytest.raises(LabelsError, match="file is not a database"):
        Labels(tmp_path)

    newer = tmp_path / "newer"
    newer.mkdir()
    with closing(sqlite3.connect(newer / "labels.db")) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(LabelsError, match="is of format 7, this Hornpipe reads 1"):
        Labels(newer)
    with pytest.raises(LabelsError, match="unable to open"):
        JoinedLabels(tmp_path / "nowhere").changes()
