"""Several worker processes on one port, and the supervisor that starts them, starts them again, and ends them.

The supervisor answers nothing and loads nothing: it is this file and Python. Each worker has a listening socket of its
own, and all have those of all others. A worker that is not ready does not listen; while one is gone, the ready ones
take over who waits at its socket. So a death costs the requests that it was answering, and no other.

Worker and supervisor talk over a pair of sockets. A worker says `u` when it is up, `r` when its models are ready; the
supervisor says `+` or `-` and a slot: accept at the socket of that slot, or leave it.
"""

import json
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from service.logs import logs
from service.logs.logs import Format
from service.processes.scratch import Scratch
from service.processes.sockets import Group, bind, numbers, of_numbers

log = logging.getLogger("hornpipe.workers")

# From start to start of one worker: this long, and twice as long after each start that did not come up.
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0

UP, READY, ACCEPT, LEAVE = b"u", b"r", b"+", b"-"
ENDS = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Worker:
    """One slot, and the process in it, when there is one. Times are of the monotonic clock."""

    slot: int
    process: int | None = None
    control: socket.socket | None = None
    up: bool = False
    ready: bool = False
    accepts: set[int] = field(default_factory=set)
    starts: int = 0
    failures: int = 0
    next_start: float = 0.0

    def told(self, message: bytes) -> None:
        self.up = self.up or UP in message
        self.ready = self.ready or READY in message

    def died(self) -> None:
        self.failures = 0 if self.up else self.failures + 1
        self.process, self.up, self.ready = None, False, False
        self.accepts.clear()
        if self.control is not None:
            self.control.close()
            self.control = None


class Supervisor:
    """Keeps a worker in each slot of the group until it is told to end."""

    def __init__(self, group: Group, scratch: Scratch) -> None:
        self._group = group
        self._scratch = scratch
        self._workers = [Worker(slot) for slot in range(len(group))]
        self._opened: set[int] = set()  # slots whose socket listens: connections wait there
        self._ending: signal.Signals | None = None
        self._code = 0
        self._woken, self._wake = socket.socketpair()

    def run(self) -> int:
        """The exit code: 0 ended, that of a worker that could not start, 1 when one ended badly."""
        self._hear_signals()
        while self._ending is None or any(worker.process for worker in self._workers):
            if self._ending is None:
                self._start_due()
            self._wait()
            self._bury()
            if self._ending is None:
                self._assign()
        return self._code

    def _hear_signals(self) -> None:
        for each in (self._woken, self._wake):
            each.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (*ENDS, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # their numbers come to `_wait`

    def _end(self, number: signal.Signals) -> None:
        """Every signal goes on to the workers: a second one means hurry to them.

        Ctrl-C would be an error to one that has only begun to start.
        """
        self._ending = number
        for worker in self._workers:
            if worker.process is not None:
                os.kill(worker.process, number if worker.up else signal.SIGTERM)

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is None and now >= worker.next_start and self._ending is None:
                pause = min(FIRST_PAUSE_SECONDS * 2**worker.failures, LONGEST_PAUSE_SECONDS)
                worker.next_start = now + pause
                worker.starts += 1
                try:
                    self._start(worker)
                except OSError as error:  # there are no processes, files or memory for it now
                    worker.died()
                    self._bear(worker, f"could not start: {error}", first_code=1)

    def _start(self, worker: Worker) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.set_inheritable(True)
        plan = {
            "slot": worker.slot,
            "folder": str(self._scratch.path),
            "control": theirs.fileno(),
            "sockets": numbers(self._group),
            "supervisor": os.getpid(),
        }
        command = [sys.executable, "-m", "service.processes.worker", json.dumps(plan)]
        worker.control = ours
        with theirs:
            # Of a process group of its own: Ctrl-C at a terminal comes to the supervisor alone, and once.
            worker.process = os.posix_spawn(
                sys.executable, command, os.environ, setpgroup=0, setsigdef=[signal.SIGCHLD, *ENDS]
            )

    def _wait(self) -> None:
        """Until a signal, a message or the next start."""
        controls = {worker.control: worker for worker in self._workers if worker.control is not None}
        starts = [worker.next_start for worker in self._workers if worker.process is None]
        timeout = max(0.0, min(starts) - time.monotonic()) if starts and self._ending is None else None
        readable, _, _ = select.select([self._woken, *controls], [], [], timeout)
        for each in readable:
            try:
                message = each.recv(4096)
            except ConnectionError:  # it died with unread orders
                message = b""
            if each is self._woken:
                for number in ENDS:
                    if number in message:
                        self._end(number)
            elif message:
                controls[each].told(message)
            else:  # it is dying
                each.close()
                controls[each].control = None

    def _bury(self) -> None:
        by_process = {worker.process: worker for worker in self._workers if worker.process is not None}
        while by_process:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            worker = by_process.pop(process, None)
            if worker is not None:
                self._mourn(worker, os.waitstatus_to_exitcode(status))

    def _mourn(self, worker: Worker, code: int) -> None:
        """A negative code is a signal."""
        was_up, process = worker.up, worker.process
        worker.died()
        if self._ending is not None:
            if code not in (0, -signal.SIGTERM):
                self._code = self._code or 1
            return
        why = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if was_up:
            self._bear(worker, f"process {process}, ended: {why}")
        else:
            self._bear(worker, f"process {process}, could not start: {why}", first_code=code if code > 0 else 1)

    def _bear(self, worker: Worker, what: str, first_code: int | None = None) -> None:
        """Another takes its place, but that a first one which cannot start is no reason to try again: all end with that
        code."""
        if first_code is not None and worker.starts == 1:
            log.error("worker %d, %s", worker.slot, what)
            self._code = first_code
            self._end(signal.SIGTERM)
        else:
            pause = max(0.0, worker.next_start - time.monotonic())
            log.warning("worker %d, %s; another starts in %.1f s", worker.slot, what, pause)

    def _assign(self) -> None:
        """Tell every worker where to accept: at its own socket, and at those that nobody else does."""
        ready = {worker.slot for worker in self._workers if worker.ready}
        # Before one is ready somebody has to say so: the first that is up answers for all.
        accepting = ready or {worker.slot for worker in self._workers if worker.up and worker.control}
        if not ready:
            accepting = set(sorted(accepting)[:1])
        orphans = self._opened - accepting
        for worker in self._workers:
            wanted = {worker.slot, *orphans} if worker.slot in accepting else set()
            self._tell(worker, wanted)
        self._opened |= accepting

    def _tell(self, worker: Worker, wanted: Iterable[int]) -> None:
        if worker.control is None:
            return
        wanted = set(wanted)
        orders = [ACCEPT + bytes([slot]) for slot in sorted(wanted - worker.accepts)]
        orders += [LEAVE + bytes([slot]) for slot in sorted(worker.accepts - wanted)]
        if orders:
            worker.accepts = wanted
            try:
                worker.control.sendall(b"".join(orders))
            except OSError:  # it is dying, and will be buried
                worker.ready = False


def hand_over(host: str, port: int, workers: int, level: str, form: Format) -> NoReturn:
    """Become a supervisor in place of this process, which has read the settings and is larger than one needs to be.

    Exits with 3, as Uvicorn does, when the address cannot be had.
    """
    try:
        group = bind(host, port, workers)
    except OSError as error:
        log.error("%s", error)
        sys.exit(3)
    logging.shutdown()  # what has been logged must be out before this process is another
    plan = {"sockets": numbers(group), "level": level, "form": form}
    os.execv(sys.executable, [sys.executable, "-m", "service.processes.workers", json.dumps(plan)])  # noqa: S606  # no shell


def main() -> int:
    """Supervise, as the first argument says it."""
    plan = json.loads(sys.argv[1])
    logs.configure(plan["level"], plan["form"], sys.stderr.buffer)
    group = of_numbers(plan["sockets"])
    scratch = Scratch()
    addresses = ", ".join("{}:{}".format(*each.getsockname()[:2]) for each in group[0])
    log.info("%d workers serve at %s", len(group), addresses)
    try:
        return Supervisor(group, scratch).run()
    finally:
        scratch.remove()


if __name__ == "__main__":
    sys.exit(main())
