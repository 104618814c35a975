"""One of several workers: `python -m service.processes.worker PLAN`, as workers.py starts it."""

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from service.processes.sockets import BACKLOG, MOST_WORKERS, Group, of_numbers
from service.processes.workers import ACCEPT, READY, UP

if TYPE_CHECKING:
    from service.server import Server

LOOK_SECONDS = 0.02
# Bytes of more orders than there can be at once; each has two, and none comes by half.
ORDERS = 4 * MOST_WORKERS

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, see prctl(2)


class Plan(NamedTuple):
    """What the supervisor says. Numbers are file descriptors, and the supervisor's process id."""

    slot: int
    folder: str
    control: int
    sockets: list[list[int]]
    supervisor: int


class Doors:
    """Where this worker accepts connections, as the supervisor orders it."""

    def __init__(self, server: "Server", group: Group) -> None:
        self._server = server
        self._group = group
        self._open: dict[int, list[asyncio.Server]] = {}

    async def accept(self, slot: int) -> None:
        """Also at the sockets of another slot, whose worker is away; they stay where they are when we leave them."""
        loop, config = asyncio.get_running_loop(), self._server.config
        for each in self._group[slot]:
            door = await loop.create_server(self._connection, sock=each.dup(), ssl=config.ssl, backlog=BACKLOG)
            if self._server.should_exit:  # it has closed its doors, and would wait for this one
                door.close()
            else:
                self._open.setdefault(slot, []).append(door)
                self._server.servers.append(door)

    def leave(self, slot: int) -> None:
        for door in self._open.pop(slot, []):
            door.close()
            self._server.servers.remove(door)

    def _connection(self) -> asyncio.Protocol:
        """As Uvicorn makes them for its own servers."""
        server = self._server
        connection: asyncio.Protocol = server.config.http_protocol_class(  # type: ignore[call-arg]
            config=server.config, server_state=server.server_state, app_state=server.lifespan.state
        )
        return connection


async def serve(server: "Server", group: Group, control: socket.socket) -> None:
    """Serve until a signal comes, accepting where the supervisor says."""
    beside = [asyncio.create_task(_follow(server, group, control)), asyncio.create_task(_report(server, control))]
    try:
        await server.serve(sockets=[])
    finally:
        for task in beside:
            task.cancel()


async def _follow(server: "Server", group: Group, control: socket.socket) -> None:
    """Do what the supervisor says. When it is gone, so are we, where the system has not seen to that."""
    while not server.started:
        await asyncio.sleep(LOOK_SECONDS)
    doors = Doors(server, group)
    control.send(UP)
    while orders := await asyncio.get_running_loop().sock_recv(control, ORDERS):
        for order, slot in zip(orders[::2], orders[1::2], strict=True):
            if order == ord(ACCEPT):
                await doors.accept(slot)
            else:
                doors.leave(slot)
    os.kill(os.getpid(), signal.SIGKILL)


async def _report(server: "Server", control: socket.socket) -> None:
    """Say when the models are ready; when all is there that will be, let go of what a dead worker has left besides."""
    registry = server.state.registry
    while not (server.started and registry.ready()):
        await asyncio.sleep(LOOK_SECONDS)
    control.send(READY)
    while any(version.state == "loading" for slot in registry.slots() for version in slot.versions()):
        await asyncio.sleep(LOOK_SECONDS)
    server.state.metrics.settle()


def main() -> int:
    """Exit codes as of one process that serves alone."""
    plan = Plan(**json.loads(sys.argv[1]))
    _die_with(plan.supervisor)
    for caught in (signal.SIGTERM, signal.SIGINT):
        signal.signal(caught, lambda *_: sys.exit(0))
    group, control = of_numbers(plan.sockets), socket.socket(fileno=plan.control)
    control.setblocking(False)

    from service.__main__ import run

    return run(lambda: _work(plan, group, control))


def _work(plan: Plan, group: Group, control: socket.socket) -> None:
    """Raises what is wrong with the settings."""
    import uvloop

    from service.__main__ import be_ready_to_serve, prepare
    from service.processes.shared import SharedFolder

    server = prepare(SharedFolder(Path(plan.folder), plan.slot))
    be_ready_to_serve()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(server, group, control))


def _die_with(supervisor: int) -> None:
    """Be killed when the supervisor is, so that a port is never held by workers that nobody looks after."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != supervisor:  # it has died before we could ask
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
