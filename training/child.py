"""The process that trains a job, as its worker sees it: what it says, how it ends, and that all of it is gone then."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from contract.job import Job, Progress
from contract.jobs import LONGEST_LINE, MOST_LINES
from training.failure import NO_MEMORY, failure_of_crash
from training.job import Event
from training.places import Places

# After SIGTERM a run saves its checkpoint within two seconds; what has not ended by then is not saving.
PATIENCE_SECONDS = 60.0
# How long the last words of an ended process may take to be read.
LAST_WORDS_SECONDS = 5.0

# OpenMP's threads, those of boosting, spin while they wait for one another, as if each had a processor alone. Where
# others want it too, the one that is waited for gets none: what takes 3 s of it was not done in 100.
THREADS = {"OMP_WAIT_POLICY": "PASSIVE"}

_FOLDER = Path(__file__).resolve().parent.parent
_VMSTAT = Path("/proc/vmstat")


class Child:
    """One process, and those that it starts. Raises OSError when none can be started."""

    def __init__(self, job: Job, places: Places) -> None:
        self.progress: Progress | None = None
        self._last: Event | None = None
        self._lines: deque[str] = deque(maxlen=MOST_LINES)  # it may say more than anybody can write down
        self._newest: deque[str] = deque(maxlen=20)
        self._asked_at: float | None = None
        self._killed_before = _killed_for_memory()
        reading, writing = os.pipe()
        try:
            self._process = _start(places, writing)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        order = job.model_dump_json().encode()
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018  # pipes
        self._talk = [
            threading.Thread(target=_give, args=(self._process.stdin, order), daemon=True),
            threading.Thread(target=self._read_lines, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_events, args=(os.fdopen(reading, "rb"),), daemon=True),
        ]
        for each in self._talk:
            each.start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def ended(self, wait: float) -> bool:
        """Whether it has ended, and everything that it has said is here."""
        try:
            self._process.wait(wait)
        except subprocess.TimeoutExpired:
            if self._asked_at is not None and time.monotonic() - self._asked_at > PATIENCE_SECONDS:
                self.kill()
            return False
        self._kill_all()  # what it has started keeps its pipes open, and may keep its memory
        for each in self._talk:
            each.join(LAST_WORDS_SECONDS)
        return True

    def lines(self) -> list[str]:
        """What it has printed since the last call, the newest of it."""
        return [self._lines.popleft() for _ in range(len(self._lines))]

    def terminate(self) -> None:
        """Ask it, once, to save and end."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._process.terminate()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._kill_all()
            self._process.wait()

    def outcome(self) -> Event:
        """What it said last, or what its end says."""
        said = self._last if self._last is not None and self._last.kind != "progress" else None
        if said is not None and said.kind != "interrupted":
            return said
        if self._asked_at is not None:
            return Event(kind="interrupted", text="was told to end")
        if said is not None:
            return Event(kind="may_pass", text="somebody else than its worker told the training process to end")
        return self._end()

    def _end(self) -> Event:
        """Of one that died without a last word."""
        code = self._process.returncode
        if code == -signal.SIGKILL:
            return Event(kind="may_pass", text=self._why_killed())
        if code < 0:
            return Event(kind="may_pass", text=failure_of_crash(signal.Signals(-code).name, list(self._newest)).text)
        return Event(kind="may_pass", text=f"the training process ended with exit code {code}; the log has the rest")

    def _why_killed(self) -> str:
        if _killed_for_memory() > self._killed_before:
            return f"{NO_MEMORY}: the system killed the training process"
        return "the training process was killed; most likely there was no memory left"

    def _kill_all(self) -> None:
        """It leads a session, so a group, of its own."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _read_lines(self, file: IO[bytes]) -> None:
        with file:
            while line := file.readline(4 * LONGEST_LINE):
                text = line.decode(errors="replace").rstrip()
                self._lines.append(text)
                self._newest.append(text)

    def _read_events(self, file: IO[bytes]) -> None:
        with file:
            for line in file:
                try:
                    event = Event.model_validate_json(line)
                except ValidationError:  # cut short by its death
                    return
                self._last = event
                self.progress = event.progress or self.progress


def _start(places: Places, writing: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "hornpipe.job", str(places.jobs), str(places.models), str(places.runs)]
    return subprocess.Popen(  # noqa: S603  # our own
        [*command, str(writing)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[writing],
        start_new_session=True,  # Ctrl-C is for the worker alone; it passes it on
        env=environment(os.environ),
    )


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What a training process finds around itself; `ours` is the worker's."""
    paths = [str(_FOLDER), *filter(None, [ours.get("PYTHONPATH")])]  # also where Hornpipe is no installed package
    fixed = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**THREADS, **ours, **fixed}


def _give(file: IO[bytes], content: bytes) -> None:
    """More than a pipe holds waits until it is read, which must not keep the worker from being heard of."""
    try:
        with file:
            file.write(content)
    except BrokenPipeError:  # it has died; its end is looked at elsewhere
        return


def _killed_for_memory() -> int:
    """How many processes the kernel has killed since it began, for want of memory; 0 where it does not say."""
    if not _VMSTAT.exists():
        return 0
    facts = dict(line.split() for line in _VMSTAT.read_text().splitlines())
    return int(facts.get("oom_kill", 0))
