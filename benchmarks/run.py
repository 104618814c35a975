"""Measure the service beside other ways to serve the same model, on this machine: python -m benchmarks.run

Every server is a process of its own with one worker, gets the same bytes, and is started, loaded and ended before the
next one starts; the rounds go over all of them again, so that whatever else the machine does meets each of them.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import child, report
from benchmarks.child import BenchFailed
from benchmarks.load import measure
from benchmarks.report import Visit, Visits
from benchmarks.servers.table import HORNPIPE, KERAS, SERVERS, Server, Setting
from contract import bundle, routing
from contract.bundle import Bundle

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "bench"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
MODELS = Path(os.environ.get("HORNPIPE_MODELS_DIR", ROOT / "models"))
NAME = "flights"
CONNECTIONS = (1, report.LOADED)
# What float32 may differ by between Keras, TensorFlow and JSON; the service's variant has its own tolerance beside it.
FLOAT_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Options:
    """How long to measure, and what."""

    rounds: int
    seconds: int
    warm_up: int
    servers: tuple[Server, ...]
    output: Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 measured, 1 a server failed, 2 wrk is missing. A goal that is missed is a result, not a failure."""
    options = parse(arguments)
    if shutil.which("wrk") is None:
        print("wrk is needed to make load: apt-get install wrk, or see https://github.com/wg/wrk", file=sys.stderr)
        return 2
    # As an exception, so that a running server is ended with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    load_average = os.getloadavg()[0]
    try:
        served = prepare(options.servers)
        visits, probabilities = visit_all(served, options)
        checks = compare(served, probabilities)
    except (BenchFailed, subprocess.CalledProcessError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    protocol = (
        f"Medians of {options.rounds} rounds, each {options.seconds} s after {options.warm_up} s of warm-up; "
        "± is half the spread of the CPU time over the rounds."
    )
    given = shlex.join(sys.argv[1:] if arguments is None else arguments)
    command = f"python -m benchmarks.run {given}".rstrip()
    text = report.render(visits, command, protocol, load_average, checks)
    options.output.write_text(text)
    print(f"\n{text}")
    return 0


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser("python -m benchmarks.run", description=__doc__)
    names = [server.name for server in SERVERS]
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="measured, for each number of connections")
    parser.add_argument("--warm-up", type=int, default=3, help="seconds before that")
    parser.add_argument("--server", action="append", choices=names, help="only this one; may be given again")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    servers = tuple(server for server in SERVERS if server.name in (given.server or names))
    return Options(given.rounds, given.seconds, given.warm_up, servers, given.output)


def prepare(servers: Sequence[Server]) -> Bundle:
    """A models folder with a copy of the production version alone: a promotion meanwhile changes nothing here.

    Trains a first version where there is none.
    """
    if routing.read(MODELS, NAME).production is None:
        subprocess.run([sys.executable, "-m", "examples.flights", "first-model"], cwd=ROOT, check=True)
    version = routing.read(MODELS, NAME).production
    if version is None:
        raise BenchFailed(f"{NAME} has no production version")
    shutil.rmtree(WORK, ignore_errors=True)
    copy = WORK / "models" / NAME / str(version)
    shutil.copytree(MODELS / NAME / str(version), copy)
    routing.promote(WORK / "models", NAME, version, by="benchmarks", why="to be measured")
    served = bundle.read(copy)
    body_file().write_text(json.dumps({"instances": [served.manifest.golden[0].row]}))
    if KERAS in servers:
        make = [sys.executable, "-m", "benchmarks.keras_file", str(copy), str(keras_file())]
        subprocess.run(make, cwd=ROOT, check=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"})
    return served


def visit_all(served: Bundle, options: Options) -> tuple[Visits, dict[str, float]]:
    """Every round on every server, and the probability that each gave for the row."""
    body = body_file().read_bytes()
    setting = Setting(0, WORK / "models", served.path, keras_file(), "")
    # Once without measuring, for the constant's bytes; bytecode and file cache are warm from then on.
    warm = replace(setting, port=free_port())
    with child.running(HORNPIPE, warm, body, ROOT):
        setting = replace(setting, answer=child.ask(warm.port, body).decode())
    visits: Visits = {server.name: [] for server in options.servers}
    probabilities: dict[str, float] = {}
    for number in range(1, options.rounds + 1):
        for server in options.servers:
            print(f"round {number} of {options.rounds}: {server.name}", flush=True)
            visit, answer = visit_one(server, replace(setting, port=free_port()), options)
            visits[server.name].append(visit)
            if server.computes:
                probabilities[server.name] = positive(served, answer)
    return visits, probabilities


def visit_one(server: Server, setting: Setting, options: Options) -> tuple[Visit, bytes]:
    """One round on one server; its answer is asked for when it has been under load."""
    body = body_file()
    with child.running(server, setting, body.read_bytes(), ROOT) as process:
        loads = {n: measure(process, n, options.seconds, options.warm_up, body) for n in CONNECTIONS}
        answer = child.ask(setting.port, body.read_bytes())
        return Visit(process.ready, process.resident_mb(), loads), answer


def positive(served: Bundle, answer: bytes) -> float:
    """The probability of the positive class in an answer of one row."""
    return float(json.loads(answer)["predictions"][0]["probabilities"][served.manifest.output.positive])


def compare(served: Bundle, probabilities: dict[str, float]) -> list[str]:
    """Hold every server's answer to the one that the bundle records. Raises BenchFailed where one is something else."""
    manifest = served.manifest
    expected = manifest.golden[0].outputs[manifest.output.name]
    checks = ["every request of every load was answered with a 2xx"]
    for name, probability in probabilities.items():
        ours = name == HORNPIPE.name
        tolerance = manifest.variant(manifest.chosen.variant).tolerance if ours else FLOAT_TOLERANCE
        difference = abs(probability - expected)
        variant = f" ({manifest.chosen.variant})" if ours else ""
        line = f"{name}{variant} says {probability:.6f}, {difference:.2g} from the bundle's record"
        if not difference <= tolerance:
            raise BenchFailed(f"{line}; tolerance {tolerance:.2g}")
        checks.append(f"{line}, tolerance {tolerance:.2g}")
    return checks


def body_file() -> Path:
    return WORK / "body.json"


def keras_file() -> Path:
    return WORK / f"{NAME}.keras"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
