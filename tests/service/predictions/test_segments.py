"""The prediction log's files: bounded, whole lines, other processes beside them, full disks, deletion."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from service.predictions import segments
from service.predictions.segments import Line, Segments

DAY = 86_400.0
ABOUT = b'{"about":{"model":"m","version":1}}\n'


def line(number: int, length: int = 100, about: bytes = ABOUT) -> Line:
    return Line(about, orjson.dumps({"id": str(number), "rows": ["x" * length]}) + b"\n")


def numbers(folder: Path) -> list[int]:
    """Of all predictions that can be read, in order."""
    found = [each for path in segments.paths(folder) for _, _, each in segments.read(path)]
    return [int(each["id"]) for each in found if "id" in each]


@contextmanager
def full_disk(room: int = 0) -> Iterator[None]:
    """No file of this process may become longer: what the system says then is what it says of a full disk, but for
    the number of the error."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def test_lines_are_read_back_in_order_behind_what_they_are_about(tmp_path: Path) -> None:
    written = Segments(tmp_path / "log", 2**20, DAY, 1)
    other = b'{"about":{"model":"m","version":2}}\n'

    assert written.append([line(0), line(1), line(2, about=other), line(3)]) == 4
    assert written.append([line(4)]) == 1
    written.close()

    (path,) = segments.paths(tmp_path / "log")
    found = [each for _, _, each in segments.read(path)]
    assert [each.get("id") or each["about"]["version"] for each in found] == [1, "0", "1", 2, "2", "3", "4"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("writers", [1, 3])
def test_the_folder_never_takes_more_than_it_may_and_keeps_the_newest(tmp_path: Path, writers: int) -> None:
    most = 2**18
    all_of_them = [Segments(tmp_path, most, DAY, writers) for _ in range(writers)]
    largest = 0
    for start in range(0, 9000, 90):
        for i, written in enumerate(all_of_them):
            assert written.append([line(start + j, about=ABOUT) for j in range(i * 30, i * 30 + 30)]) == 30
        largest = max(largest, sum(path.stat().st_size for path in segments.paths(tmp_path)))
    for written in all_of_them:
        written.close()

    assert most / 2 < largest <= most
    kept = numbers(tmp_path)
    assert {8999 if writers == 3 else 8939} <= set(kept)
    assert len(kept) == len(set(kept))
    for path in segments.paths(tmp_path):
        assert next(each for _, _, each in segments.read(path))["about"] == {"model": "m", "version": 1}


def test_a_line_that_no_segment_has_room_for_does_not_fit(tmp_path: Path) -> None:
    written = Segments(tmp_path, 2**20, DAY, 2)
    room = 2**20 // 16 - len(ABOUT)

    assert written.fits(Line(ABOUT, b"x" * room))
    assert not written.fits(Line(ABOUT, b"x" * (room + 1)))


def test_what_is_too_old_goes_and_what_is_written_stays(tmp_path: Path) -> None:
    old = Segments(tmp_path, 2**20, DAY, 1)
    old.append([line(0)])
    old.close()
    (path,) = segments.paths(tmp_path)
    path.rename(tmp_path / "20200101T000000.000000-1.jsonl")
    (tmp_path / "20200101T000000.000000-notes.jsonl").write_text("somebody else's")
    open_one = Segments(tmp_path, 2**20, 0.0, 1)  # keeps nothing, but what it writes to
    open_one.append([line(1)])

    Segments(tmp_path, 2**20, DAY, 1).tidy()
    assert numbers(tmp_path) == [1]
    open_one.tidy()
    assert numbers(tmp_path) == [1]
    open_one.close()
    open_one.tidy()
    assert numbers(tmp_path) == []
    assert (tmp_path / "20200101T000000.000000-notes.jsonl").exists()


def test_what_a_killed_process_has_begun_is_passed_over_and_the_rest_is_there(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from tests.service.predictions.test_segments import *\n"
        "written = Segments(Path(sys.argv[1]), 2**20, DAY, 1)\n"
        "written.append([line(i) for i in range(50)])\n"
        "os.write(written._file, line(50).text[:40])\n"  # the system had got so far
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, tmp_path], check=False)

    assert ended.returncode == -9
    assert numbers(tmp_path) == list(range(50))
    after = Segments(tmp_path, 2**20, DAY, 1)
    after.append([line(51)])
    after.close()
    assert len(segments.paths(tmp_path)) == 2
    assert numbers(tmp_path) == [*range(50), 51]


def test_a_full_disk_loses_lines_says_how_many_and_is_written_again_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written = Segments(tmp_path, 2**20, DAY, 1)
    assert written.append([line(i) for i in range(10)]) == 10
    (path,) = segments.paths(tmp_path)
    size = path.stat().st_size
    length = len(line(10).text)

    with full_disk(size + 3 * length + length // 2):
        assert written.append([line(i) for i in range(10, 20)]) == 3  # and half of the fourth, which is taken away
        assert path.stat().st_size == size + 3 * length
        assert written.append([line(20)]) == 0  # nothing is tried for a while
        monkeypatch.setattr(segments, "PAUSE_SECONDS", 0.0)
    with full_disk():
        assert written.append([line(21)]) == 0
        assert segments.paths(tmp_path) == [path]  # and no empty file for each time that it was tried

    assert written.append([line(22)]) == 1
    written.close()
    assert numbers(tmp_path) == [*range(13), 22]
    told = [record for record in caplog.records if record.name == "hornpipe.predictions"]
    assert len([record for record in told if record.levelname == "ERROR"]) == 1


def test_an_erased_line_is_gone_from_the_file_also_while_it_is_written(tmp_path: Path) -> None:
    written = Segments(tmp_path, 2**20, DAY, 1)
    written.append([line(i) for i in range(3)])
    (path,) = segments.paths(tmp_path)
    (place,) = [(start, end) for start, end, each in segments.read(path) if each.get("id") == "1"]

    segments.erase(path, *place)
    written.append([line(3)])
    written.close()

    assert numbers(tmp_path) == [0, 2, 3]
    assert b'"1"' not in path.read_bytes()
    assert [each["id"] for _, _, each in segments.read(path, place[1])] == ["2", "3"]


def test_names_tell_the_order_of_time_across_writers(tmp_path: Path) -> None:
    first, second = Segments(tmp_path, 2**20, DAY, 2), Segments(tmp_path, 2**20, DAY, 2)
    first.append([line(0)])
    second.append([line(1)])
    first.close()
    first.append([line(2)])

    assert numbers(tmp_path) == [0, 1, 2]
    assert all(path.name.endswith(f"-{os.getpid()}.jsonl") for path in segments.paths(tmp_path))
    for each in (first, second):
        each.close()
