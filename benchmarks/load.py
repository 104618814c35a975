"""One load on one server: wrk, and the server's CPU time around it."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.child import BenchFailed, Child

_SCRIPT = Path(__file__).with_name("request.lua")


@dataclass(frozen=True)
class Load:
    """What was measured. Milliseconds for latencies, microseconds for CPU time a request."""

    per_second: float
    p50: float
    p99: float
    cpu: float


def measure(child: Child, connections: int, seconds: int, warm_up: int, body: Path) -> Load:
    """Warm up, then measure. Raises BenchFailed when a single request failed or timed out."""
    _wrk(child.port, connections, warm_up, body)
    child.settle()
    before = child.cpu_seconds()
    result = _wrk(child.port, connections, seconds, body)
    child.settle()
    spent = child.cpu_seconds() - before
    if result["errors"] or not result["requests"]:
        raise BenchFailed(
            f"{result['errors']:g} of {result['requests']:g} requests at {connections} connections failed"
        )
    return Load(
        per_second=result["requests"] / result["microseconds"] * 1e6,
        p50=result["p50"] / 1000,
        p99=result["p99"] / 1000,
        # wrk leaves with a request under way on each connection; the server has worked on those too.
        cpu=spent / (result["requests"] + connections) * 1e6,
    )


def _wrk(port: int, connections: int, seconds: int, body: Path) -> dict[str, float]:
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "--latency", "-s", str(_SCRIPT)]
    command = ["wrk", *options, f"http://127.0.0.1:{port}/predict"]
    environment = os.environ | {"BENCH_BODY": str(body)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise BenchFailed(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    result: dict[str, float] = json.loads(lines[0].removeprefix("RESULT "))
    return result
