"""One load on one server: wrk, and the server's CPU time around it."""

import json
import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.child import BenchFailed, Child
from benchmarks.requests import Request

# A slow server is measured for so long that each connection gets this many answers, but no longer than the limit.
ANSWERS_A_CONNECTION = 2
MOST_SECONDS = 15
# A percentile of so few is the largest of them, by luck.
FEWEST_FOR_P999 = 2000

_SCRIPT = Path(__file__).with_name("request.lua")


@dataclass(frozen=True)
class Load:
    """What was measured. Milliseconds for latencies, microseconds for CPU time a request. `failed` is the share of
    requests that were not answered with a 2xx; the others are counted."""

    per_second: float
    p50: float
    p99: float
    p999: float | None
    cpu: float
    failed: float


def measure(child: Child, request: Request, connections: int, seconds: int, warm_up: int, body: Path) -> Load:
    """Warm up, then measure. Raises BenchFailed when not a single request succeeded."""
    body.write_bytes(request.body)
    before = _wrk(child.port, request, connections, warm_up, body)
    child.settle()
    seconds = max(seconds, _enough(connections, before))
    spent = -child.family.cpu_seconds()
    result = _wrk(child.port, request, connections, seconds, body)
    child.settle()
    spent += child.family.cpu_seconds()
    good = result["requests"] - result["refused"]
    if good <= 0:
        raise BenchFailed(f"no request of {result['requests']:g} succeeded at {connections} connections")
    return Load(
        per_second=good / result["microseconds"] * 1e6,
        p50=result["p50"] / 1000,
        p99=result["p99"] / 1000,
        p999=result["p999"] / 1000 if result["requests"] >= FEWEST_FOR_P999 else None,
        # wrk leaves with a request under way on each connection; the server has worked on those too.
        cpu=spent / (good + connections) * 1e6,
        failed=(result["refused"] + result["lost"]) / (result["requests"] + result["lost"]),
    )


def _enough(connections: int, before: dict[str, float]) -> int:
    per_second = before["requests"] / before["microseconds"] * 1e6
    if not per_second:
        return MOST_SECONDS
    return min(MOST_SECONDS, math.ceil(ANSWERS_A_CONNECTION * connections / per_second))


def _wrk(port: int, request: Request, connections: int, seconds: int, body: Path) -> dict[str, float]:
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "--latency", "-s", str(_SCRIPT)]
    command = ["wrk", *options, f"http://127.0.0.1:{port}{request.path}"]
    headers = {"content-type": request.content_type, **request.headers}
    lines = "\n".join(f"{name}: {value}" for name, value in headers.items())
    environment = os.environ | {"BENCH_BODY": str(body), "BENCH_HEADERS": lines}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not found:
        raise BenchFailed(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    result: dict[str, float] = json.loads(found[0].removeprefix("RESULT "))
    return result
