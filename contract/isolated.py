"""A SavedModel in a process of its own: loading it holds nobody up, and all of its memory goes when it goes.

In the service's process, loading would hold Python's lock for seconds, and TensorFlow keeps some of every version that
it has run. Rows and answers go through shared memory (contract/channel.py); a run costs some 100 microseconds more.
"""

import json
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from multiprocessing import Pipe
from pathlib import Path

from contract.channel import Channel, Facts, region_file
from contract.child import Plan
from contract.encoded import Encoded
from contract.errors import RunFailed, RuntimeDied, RuntimeUnavailable
from contract.runtime import SIGNATURE, DeviceChoice, Outputs
from contract.savedmodel import WITHOUT_KERAS

log = logging.getLogger("hornpipe.isolated")

LONGEST_START_SECONDS = 600.0
LONGEST_RUN_SECONDS = 300.0
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_END_SECONDS = 10.0

_FOLDER = Path(__file__).resolve().parent.parent


class IsolatedSavedModel:
    """Runs like a SavedModel, from any thread; as many at once as it has channels, others wait for a free one.

    When its process dies, the runs that it had fail, and those that come until another has been started: none waits for
    it. `threads` are TensorFlow's for the work within one run; None leaves that to TensorFlow. Raises
    RuntimeUnavailable with what TensorFlow said, when it cannot be loaded.
    """

    thread_safe = True

    def __init__(
        self,
        path: Path,
        device: DeviceChoice = "auto",
        signature: str = SIGNATURE,
        threads: int | None = None,
        channels: int | None = None,
    ) -> None:
        self._path = path
        plan = Plan(str(path.absolute()), device, signature, threads, -1, [])
        self._start = partial(Child, plan, channels or os.cpu_count() or 1)
        self._child: Child | None = self._start()
        self._closed = threading.Event()
        threading.Thread(target=self._keep_alive, name=f"keep-{path.name}", daemon=True).start()

    @property
    def replicas(self) -> int:
        return 0 if self._child is None else int(self._child.facts["replicas"])

    @property
    def traces(self) -> int:
        """How often TensorFlow has traced what runs, as of the last answer: once a replica."""
        return 0 if self._child is None else int(self._child.facts["traces"])

    @property
    def pid(self) -> int | None:
        """Of the process that runs it; None while there is none."""
        return None if self._child is None else self._child.pid

    def run(self, encoded: Encoded) -> Outputs:
        child = self._child
        if child is None:
            raise RuntimeDied(f"{self._path}: {'is closed' if self._closed.is_set() else 'its process starts again'}")
        return child.run(encoded)

    def close(self) -> None:
        self._closed.set()
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def _keep_alive(self) -> None:
        child, pause = self._child, 0.0
        while child is not None:
            ended = child.wait()
            self._child = None
            child.release()
            if self._closed.is_set():
                return
            # One that lives for long is started again at once; one that dies again and again, more and more rarely.
            pause = 0.0 if child.age > LONGEST_PAUSE_SECONDS else min(max(1.0, 2 * pause), LONGEST_PAUSE_SECONDS)
            log.error("%s: its process %s; another is started", self._path, ended)
            child = self._start_again(pause)
            self._child = child
            if child is not None and self._closed.is_set():
                child.end()

    def _start_again(self, pause: float) -> "Child | None":
        """Until it succeeds, or nobody wants it any more."""
        while not self._closed.wait(pause):
            try:
                return self._start()
            except (RuntimeUnavailable, OSError) as error:
                pause = min(max(1.0, 2 * pause), LONGEST_PAUSE_SECONDS)
                log.error("%s; tried again in %g s", error, pause)
        return None


class Child:
    """One process, from its start to its end. `facts` are what it says of itself."""

    def __init__(self, plan: Plan, channels: int) -> None:
        self._path = plan.path
        self._began = time.monotonic()
        self._ending = threading.Lock()
        self._lifeline, theirs = Pipe()
        self._free: queue.SimpleQueue[Channel | None] = queue.SimpleQueue()
        self._channels, numbers, sockets = _channels(channels)
        self._process = _spawn(plan._replace(lifeline=theirs.fileno(), channels=numbers))
        theirs.close()  # once the child alone has the other ends, their end is its end
        for each in sockets:
            each.close()
        for channel in self._channels:
            self._free.put(channel)
        try:
            self.facts = self._greeting()
        except BaseException:
            self.end()
            self.release()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    def run(self, encoded: Encoded) -> Outputs:
        channel = self._free.get()
        if channel is None:
            self._free.put(None)  # for the next who waits
            raise RuntimeDied(f"{self._path}: its process {self.wait()}")
        try:
            channel.send(encoded.named())
            outputs, facts = channel.receive()
            copies = {name: output.copy() for name, output in outputs.items()}
        except (EOFError, OSError) as error:  # TimeoutError is one
            self._process.kill()  # if it is not dead yet, it is of no use
            reason = f": {error}" if isinstance(error, TimeoutError) else ""
            raise RuntimeDied(f"{self._path}: its process {self.wait()}{reason}") from error
        except (TypeError, ValueError) as error:
            raise RunFailed(f"{self._path}: {error}") from error
        finally:
            self._free.put(channel)
        if "error" in facts:
            raise RunFailed(facts["error"])
        self.facts |= facts
        return copies

    def wait(self) -> str:
        """Until it ends; how it did, in words."""
        code = self._process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def end(self) -> None:
        """Make it end, and wait for that."""
        with self._ending:
            self._lifeline.close()
        try:
            self._process.wait(LONGEST_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def release(self) -> None:
        """Give its channels back once it has ended, and let go whoever waits for one."""
        with self._ending:
            self._lifeline.close()
        for _ in self._channels:
            channel = self._free.get()
            if channel is not None:
                channel.close()
        self._free.put(None)

    def _greeting(self) -> Facts:
        try:
            if not self._lifeline.poll(LONGEST_START_SECONDS):
                raise RuntimeUnavailable(f"{self._path}: not loaded within {LONGEST_START_SECONDS:g} s")
            facts: Facts = json.loads(self._lifeline.recv_bytes())
        except (EOFError, OSError) as error:
            raise RuntimeUnavailable(f"{self._path}: the process that loads it {self.wait()}") from error
        if "error" in facts:
            text = facts["error"] if facts["unavailable"] else f"{self._path} cannot be loaded: {facts['error']}"
            raise RuntimeUnavailable(text)
        return facts


def _channels(count: int) -> tuple[list[Channel], list[tuple[int, int, int]], list[socket.socket]]:
    """Our ends; the numbers of the descriptors of theirs; and their sockets, to be closed here."""
    ours, numbers, sockets = [], [], []
    for _ in range(count):
        here, there = socket.socketpair()
        outgoing, incoming = region_file(), region_file()
        ours.append(Channel(here, outgoing, incoming, LONGEST_RUN_SECONDS))
        numbers.append((there.fileno(), incoming, outgoing))
        sockets.append(there)
    return ours, numbers, sockets


def _spawn(plan: Plan) -> "subprocess.Popen[bytes]":
    """Its output goes where errors go: the service's own may be read by machines."""
    command = [sys.executable, "-m", "contract.child", json.dumps(plan)]
    path = os.pathsep.join(filter(None, [str(_FOLDER), os.environ.get("PYTHONPATH")]))
    descriptors = [plan.lifeline, *(number for channel in plan.channels for number in channel)]
    environment = os.environ | WITHOUT_KERAS | {"PYTHONPATH": path}
    stderr = 2
    return subprocess.Popen(  # noqa: S603  # our own module
        command, env=environment, pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=stderr
    )
