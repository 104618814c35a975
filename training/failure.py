"""Why a job could not be done: in words for the person who asked, and whether trying again may help."""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass

from contract.errors import HornpipeError
from contract.job import Refusal
from contract.jobs import JobError
from training.errors import DataRefused, NothingNew, RunBusy

# Of an operating system that lacks something now, and may have it later.
_MAY_PASS = frozenset(
    {
        *(errno.EIO, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT),
        *(errno.ENOTCONN, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH),
    }
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# Libraries say it in a text of their own: HDF5, TensorFlow, Arrow, the C++ library when it gives up.
_SAYS_FULL = re.compile("No space left on device|Disk quota exceeded", re.IGNORECASE)
_SAYS_MEMORY = re.compile(
    "bad_alloc|cannot allocate|out of memory|MemoryError|failed to allocate|failed to map segment", re.IGNORECASE
)
LONGEST = 300

NO_MEMORY = "there was not enough memory"


@dataclass(frozen=True)
class Failure:
    """`may_pass` where a later attempt may succeed though nobody changes what was asked for. `refusal` where nothing
    went wrong, and the data are not to be learnt from."""

    text: str
    may_pass: bool
    unforeseen: bool = False  # then where it happened is of use
    refusal: Refusal | None = None


class Superseded(HornpipeError):
    """Another process has the job by now: this one must not publish."""


def failure_of(error: Exception) -> Failure:
    """What an exception that ended a job says. The first cause that is known decides, however it was wrapped."""
    if isinstance(error, DataRefused):
        return Failure(str(error), may_pass=False, refusal="nothing_new" if isinstance(error, NothingNew) else "data")
    for each in _causes(error):
        if _is_full(each):
            return Failure(f"the disk is full: {_where(each)}", may_pass=True)
        if _is_memory(each):
            return Failure(NO_MEMORY, may_pass=True)
        if isinstance(each, OSError) and each.errno in _MAY_PASS:
            return Failure(str(error) if isinstance(error, HornpipeError) else _told(each), may_pass=True)
    if isinstance(error, HornpipeError):
        return Failure(str(error), may_pass=isinstance(error, JobError | RunBusy | Superseded))
    if isinstance(error, OSError):
        return Failure(_told(error), may_pass=False)
    said = f"{type(error).__name__}: {_first_line(error)}; the log has the rest"
    return Failure(said, may_pass=False, unforeseen=True)


def failure_of_crash(signal_name: str, last_lines: list[str]) -> Failure:
    """What the end of a process says that had no time to say anything, by the last that it printed."""
    printed = "\n".join(last_lines)
    if _SAYS_MEMORY.search(printed):
        return Failure(f"{NO_MEMORY}: the training process crashed ({signal_name})", may_pass=True)
    if _SAYS_FULL.search(printed):
        return Failure(f"the disk is full: the training process crashed ({signal_name})", may_pass=True)
    return Failure(f"the training process crashed ({signal_name}); the log has the rest", may_pass=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        seen.append(at)
        yield at
        at = at.__cause__ or at.__context__


def _is_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in _FULL or bool(_SAYS_FULL.search(str(error)))


def _is_memory(error: BaseException) -> bool:
    """Python's, the system's, TensorFlow's (which is not imported for this), or what a library says of its own."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if type(error).__name__ == "ResourceExhaustedError":
        return True
    return not isinstance(error, HornpipeError) and bool(_SAYS_MEMORY.search(str(error)))


def _where(error: BaseException) -> str:
    return str(error.filename) if isinstance(error, OSError) and error.filename else _first_line(error)


def _told(error: OSError) -> str:
    return f"{error.strerror}: {error.filename}" if error.filename else str(error)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")[:LONGEST]
