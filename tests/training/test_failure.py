"""What exceptions of systems and libraries become: words, and whether to try again."""

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contract.jobs import JobError
from training.errors import DataError, DataRefused, NothingNew, RunBusy, TrainingError
from training.failure import Failure, Superseded, failure_of, failure_of_crash


class ResourceExhaustedError(Exception):
    """By the name of TensorFlow's, which has no other base either."""


def caught(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as found:  # noqa: PT011  # whatever it is
        call()
    return found.value


def write(path: str) -> None:
    with Path(path).open("w") as file:
        file.write("x" * 100_000)


def wrapped(outer: Exception, inner: Exception) -> Exception:
    def both() -> None:
        raise outer from inner

    return caught(both)


def test_a_full_disk_is_said_however_it_is_wrapped() -> None:
    full = caught(lambda: write("/dev/full"))
    for error in (
        full,
        OSError(errno.EDQUOT, "Disk quota exceeded", "/runs/x.npz"),
        OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
        ResourceExhaustedError("/models/.staging-1/variables/temp; No space left on device"),
        wrapped(RuntimeError("cannot convert"), full),
        wrapped(DataError("data", ["cannot be kept"]), full),
    ):
        failure = failure_of(error)
        assert failure.may_pass
        assert failure.text.startswith("the disk is full: ")
        assert not failure.unforeseen
    assert failure_of(OSError(errno.ENOSPC, "", "/runs/last.npz")).text == "the disk is full: /runs/last.npz"


def test_data_that_are_refused_are_no_failure_and_say_which_they_are() -> None:
    poisoned = failure_of(DataRefused("the 9 rows after June", ["temp: all are the same"]))
    assert (poisoned.refusal, poisoned.may_pass, poisoned.unforeseen) == ("data", False, False)
    assert poisoned.text == "the 9 rows after June:\n  temp: all are the same"
    assert failure_of(NothingNew("shop.csv", ["nothing new to learn"])).refusal == "nothing_new"
    assert failure_of(DataError("shop.csv", ["no column size"])).refusal is None


def test_missing_memory_is_said_however_it_is_wrapped() -> None:
    too_much = caught(lambda: np.ones(1 << 50))
    for error in (
        too_much,
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ResourceExhaustedError("OOM when allocating tensor with shape [1000000,1000000]"),
        RuntimeError("std::bad_alloc"),
        ImportError("libtensorflow.so: failed to map segment from shared object"),
        wrapped(DataError("data", ["cannot be read"]), too_much),
    ):
        assert failure_of(error) == Failure("there was not enough memory", may_pass=True)


def test_what_is_missing_or_forbidden_fails_at_once_with_its_name(tmp_path: Path) -> None:
    missing = failure_of(caught(lambda: (tmp_path / "july.csv").read_text()))
    assert missing == Failure(f"No such file or directory: {tmp_path}/july.csv", may_pass=False)
    assert failure_of(caught(tmp_path.read_text)) == Failure(f"Is a directory: {tmp_path}", may_pass=False)
    denied = PermissionError(errno.EACCES, "Permission denied", "/data/a.parquet")
    assert failure_of(denied) == Failure("Permission denied: /data/a.parquet", may_pass=False)
    wrong = DataError("july.csv", ["sold: is missing"])
    assert failure_of(wrong) == Failure(str(wrong), may_pass=False)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error", "/data/a.csv"),
        OSError(errno.ESTALE, "Stale file handle", "/data/a.csv"),
        TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
        wrapped(DataError("/data/a.csv", ["cannot be read"]), OSError(errno.EIO, "Input/output error")),
        RunBusy("process 7 is training it"),
        Superseded("another has it"),
        JobError("the job table cannot be read"),
    ],
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    failure = failure_of(error)
    assert failure.may_pass
    assert not failure.unforeseen


def test_what_nobody_foresaw_says_what_it_is_and_fails() -> None:
    failure = failure_of(KeyError("color"))
    assert failure == Failure("KeyError: 'color'; the log has the rest", may_pass=False, unforeseen=True)
    assert failure_of(TrainingError("the loss is not finite")) == Failure("the loss is not finite", may_pass=False)


def test_the_last_lines_of_a_crash_say_why() -> None:
    assert "not enough memory" in failure_of_crash("SIGABRT", ["x", "terminate called: 'std::bad_alloc'"]).text
    assert "disk is full" in failure_of_crash("SIGBUS", ["write: No space left on device"]).text
    assert failure_of_crash("SIGSEGV", []).text == "the training process crashed (SIGSEGV); the log has the rest"
