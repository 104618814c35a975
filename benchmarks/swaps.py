"""Two hundred swaps of a version under load: python -m benchmarks.swaps [--model mobilenet] [--runtime savedmodel]

One client process asks at a steady rate over a few connections, as an open loop: latencies count from when a request
was due. Two versions take each other's place, with a pause after each swap as long as it took. The latencies of
requests that were due between the wish for a version and the end of the one before it are compared with those of the
pauses, so that what else the machine does is in both. Written to build/swaps/MODEL-RUNTIME.json.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks import machine, trained
from benchmarks.child import Child, Start, running
from benchmarks.requests import JSON, Request
from contract import bundle, routing
from contract.bundle import Bundle

WORK = trained.ROOT / "build" / "swaps"
# What a version that was replaced still does, after the next one serves: it is given back.
AFTER_SECONDS = 0.5
WARM_SWAPS = 4


@dataclass(frozen=True)
class Samples:
    """One request each: when it was due, how long its answer took, which version gave it; 0 where it failed."""

    due: NDArray[np.float64]
    took: NDArray[np.float64]
    version: NDArray[np.int64]

    def between(self, windows: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
        inside = np.zeros(len(self.due), bool)
        for begin, end in windows:
            inside |= (self.due >= begin) & (self.due <= end)
        return inside


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 when a request failed, or was answered by a version that had left."""
    given = _parser().parse_args(arguments)
    made = trained.get(given.model)
    folder = WORK / given.model
    _two_versions(made, folder)
    row = dict(made.manifest.golden[0].row)
    content = json.dumps({"instances": [row], "model": given.model}).encode()
    request = Request("/predict", JSON, content, lambda _: [])
    port = _free_port()
    environment = {
        "HORNPIPE_MODELS_DIR": str(folder),
        "HORNPIPE_PORT": str(port),
        "HORNPIPE_RUNTIME": given.runtime,
        "HORNPIPE_POLL_SECONDS": "0.05",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-m", "hornpipe", "serve"]
    log = WORK / f"{given.model}.log"
    start = Start("hornpipe", command, environment, "/readyz", request, port, trained.ROOT, log)
    with running(start) as service:
        found = _measure(service, folder, given, content)
    kept = {"model": given.model, "runtime": given.runtime, "rate": given.rate, **found, **machine.facts()}
    path = WORK / f"{given.model}-{given.runtime}.json"
    path.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0 if found["failed"] == found["of_a_version_that_had_left"] == 0 else 1


def _measure(service: Child, folder: Path, given: argparse.Namespace, content: bytes) -> dict[str, Any]:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    client = multiprocessing.get_context("spawn").Process(
        target=ask, args=(service.port, content, given.rate, given.connections, theirs)
    )
    client.start()
    try:
        for i in range(WARM_SWAPS):
            _swap(service.port, folder, given.model, 2 - i % 2)
        time.sleep(given.quiet)
        before = service.family.share_mb()
        windows, left, quiet = [], [], []
        for i in range(given.swaps):
            begin, served = _swap(service.port, folder, given.model, 2 - i % 2)
            end = served + AFTER_SECONDS
            windows.append((begin, end))
            left.append((served, 1 + i % 2))
            quiet.append((end, 2 * end - begin))
            time.sleep(max(0.0, quiet[-1][1] - time.perf_counter()))
        after = service.family.share_mb()
        ours.send("stop")
        samples = Samples(*ours.recv())
    finally:
        client.join(10)
        client.kill()
    return _found(samples, quiet, windows, left) | {"before_mb": round(before, 1), "after_mb": round(after, 1)}


def _found(
    samples: Samples,
    quiet: Sequence[tuple[float, float]],
    windows: Sequence[tuple[float, float]],
    left: Sequence[tuple[float, int]],
) -> dict[str, Any]:
    calm, swapping = samples.took[samples.between(quiet)], samples.took[samples.between(windows)]
    late = 0
    wishes = [*(begin for begin, _ in windows[1:]), np.inf]
    for (served, version), following in zip(left, wishes, strict=True):
        asked = (samples.due > served) & (samples.due + samples.took < following)
        # Between the answer that said so and the next wish, nobody may see the version that has left.
        late += int((asked & (samples.version == version)).sum())
    return {
        "swaps": len(windows),
        "requests": len(samples.due),
        "failed": int((samples.version == 0).sum()),
        "of_a_version_that_had_left": late,
        "swap_seconds": _percentiles([end - begin - AFTER_SECONDS for begin, end in windows]),
        "quiet_ms": _percentiles(1e3 * calm),
        "swapping_ms": _percentiles(1e3 * swapping),
    }


def _percentiles(values: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    return {f"p{each:g}": round(float(np.percentile(values, each)), 3) for each in (50, 90, 99, 99.9)}


def _swap(port: int, folder: Path, name: str, version: int) -> tuple[float, float]:
    """When it was wished for, and when it served. The routing is written here: to verify first is the promoter's."""
    text = routing.Routing(production=version).model_dump_json(exclude={"pinned", "unloaded"})
    begin = time.perf_counter()
    bundle.replace_file(folder / name / routing.ROUTING, text.encode())
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    while True:
        connection.request("GET", "/models")
        (model,) = json.loads(connection.getresponse().read())["models"]
        if model["serving"] and model["serving"]["version"] == version:
            connection.close()
            return begin, time.perf_counter()
        time.sleep(0.01)


def ask(port: int, content: bytes, rate: float, connections: int, told: Connection) -> None:
    """Ask until told to stop, then send what was seen. A process of its own, so that it is late for nobody's sake."""
    told.send(uvloop.run(_ask(port, content, rate, connections, lambda: told.poll())))


async def _ask(port: int, content: bytes, rate: float, connections: int, stop: Callable[[], bool]) -> Any:
    import asyncio

    head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: {len(content)}\r\n\r\n"
    message, seen = head.encode() + content, []
    ends = asyncio.Event()

    async def one(offset: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = time.perf_counter() + offset
        while not ends.is_set():
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            writer.write(message)
            try:
                said = await reader.readuntil(b"\r\n\r\n")
                length = int(said.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
                body = await reader.readexactly(length)
                good = said[9:12] == b"200"
            except (OSError, EOFError):
                body, good = b"", False
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            version = int(body.partition(b'"version":')[2].partition(b",")[0]) if good else 0
            seen.append((due, time.perf_counter() - due, version))
            due += connections / rate

    asking = [asyncio.create_task(one(i / rate)) for i in range(connections)]
    while not stop():
        await asyncio.sleep(0.05)
    ends.set()
    await asyncio.gather(*asking)
    due, took, version = zip(*sorted(seen), strict=True)
    return np.array(due), np.array(took), np.array(version, np.int64)


def _two_versions(made: Bundle, folder: Path) -> None:
    """The same twice, under two numbers."""
    shutil.rmtree(folder, ignore_errors=True)
    name = made.manifest.name
    for version in (1, 2):
        with bundle.staged(folder, name) as staging:
            shutil.copytree(made.path, staging, dirs_exist_ok=True)
            bundle.publish(staging, lambda number: made.manifest.model_copy(update={"version": number}))
        assert (folder / name / str(version)).is_dir()
    routing.promote(folder, name, 1, by="benchmarks", why="to be swapped")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("benchmarks.swaps", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="flights")
    parser.add_argument("--runtime", default="litert", choices=("litert", "savedmodel"))
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--quiet", type=float, default=5.0, help="seconds before the first swap")
    return parser


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    sys.exit(main())
