"""One server with one model, started, loaded with every case that is wanted, weighed and ended."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import child, environments
from benchmarks.cases import Case
from benchmarks.child import BenchFailed, Child, Start
from benchmarks.described import ROOT, Described
from benchmarks.load import measure
from benchmarks.requests import Request
from benchmarks.servers.table import HORNPIPE, Server, Setting
from benchmarks.store import Store

# What float32 may differ by between Keras, TensorFlow, LiteRT and JSON.
FLOAT_TOLERANCE = 1e-4

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How long to measure. `connections` are tried in this order."""

    rounds: int
    seconds: int
    warm_up: int
    connections: tuple[int, ...]


class Visits:
    """Runs visits, and writes what they measure into the store."""

    def __init__(self, store: Store, plan: Plan, work: Path, tell: Tell) -> None:
        self._store, self._plan, self._work, self._tell = store, plan, work, tell
        self._answers: dict[str, str] = {}
        self._prepared: set[tuple[str, str]] = set()
        self._checked: set[tuple[str, str]] = set()

    def visit(self, turn: int, server: Server, cases: Sequence[Case], model: Described) -> None:
        """Every load that the store does not have yet. A server that fails is written down as such."""
        requests = {case: request for case in cases if (request := server.request(case, model)) is not None}
        wanted = [(case, n) for case in requests for n in self._connections(server)]
        done = {(each["case"], each["connections"]) for each in self._of(turn, server, "load", "failed")}
        wanted = [(case, n) for case, n in wanted if (case.name, n) not in done]
        if not wanted:
            return
        try:
            with child.running(self.start(server, model, requests[wanted[0][0]], cases)) as process:
                for case, connections in wanted:
                    self._load(turn, server, case, requests[case], connections, process, model)
                self._weigh(turn, server, model, process)
        except (BenchFailed, environments.NoEnvironment, OSError) as error:
            for case, connections in wanted:
                self._fail(turn, server, case, connections, error)

    def _connections(self, server: Server) -> list[int]:
        return [n for n in self._plan.connections if n <= server.most_connections]

    def _of(self, turn: int, server: Server, *whats: str) -> list[Mapping[str, object]]:
        found = [each for what in whats for each in self._store.all(what)]
        return [each for each in found if each["round"] == turn and each["server"] == server.name]

    def _load(
        self,
        turn: int,
        server: Server,
        case: Case,
        request: Request,
        connections: int,
        process: Child,
        model: Described,
    ) -> None:
        self._tell(f"{case.name}: {server.name}, {connections} connections")
        body = self._work / "body"
        try:
            self._check(server, case, request, process, model)
            load = measure(process, request, connections, self._plan.seconds, self._plan.warm_up, body)
        except BenchFailed as error:
            self._fail(turn, server, case, connections, error)
            return
        facts = {"round": turn, "server": server.name, "case": case.name, "connections": connections}
        self._store.add("load", **facts, **asdict(load), load_average=os.getloadavg()[0])

    def _fail(self, turn: int, server: Server, case: Case, connections: int, error: Exception) -> None:
        facts = {"round": turn, "server": server.name, "case": case.name, "connections": connections}
        self._store.add("failed", **facts, why=str(error)[:1000])
        self._tell(f"{case.name}: {server.name}, {connections} connections: {str(error)[:400]}")

    def _weigh(self, turn: int, server: Server, model: Described, process: Child) -> None:
        self._store.add(
            "visit",
            round=turn,
            server=server.name,
            model=model.name,
            ready=process.ready,
            idle_mb=process.idle_mb,
            resident_mb=process.family.resident_mb(),
            share_mb=process.family.share_mb(),
            processes=process.family.count(),
        )

    def _check(self, server: Server, case: Case, request: Request, process: Child, model: Described) -> None:
        """Hold the answer to TensorFlow's. Raises BenchFailed where it is something else."""
        if server.role == "limit" or (server.name, case.name) in self._checked:
            return
        said = request.read(child.ask(process.port, request))
        difference = float(np.abs(np.subtract(said, model.expected)).max()) if said else np.inf
        tolerance = self._tolerance(server, model)
        self._store.add(
            "answer", server=server.name, case=case.name, difference=difference, tolerance=tolerance, first=said[:3]
        )
        if not difference <= tolerance:
            raise BenchFailed(f"its answer differs by {difference:.2g} from TensorFlow's, allowed {tolerance:.2g}")
        self._checked.add((server.name, case.name))

    @staticmethod
    def _tolerance(server: Server, model: Described) -> float:
        """A quantized variant is held to what its manifest allows, and on a photograph it was not measured on to more:
        that it says something else altogether is what is to be found out."""
        if server.role in ("rival", "native"):
            return FLOAT_TOLERANCE
        variant = model.bundle.manifest.variant(model.bundle.manifest.chosen.variant)
        if variant.name == "litert-float32":
            return FLOAT_TOLERANCE
        return max(variant.tolerance, 0.2) if model.sample.file else variant.tolerance

    def start(self, server: Server, model: Described, first: Request, cases: Sequence[Case]) -> Start:
        """How to start a server, whose environment and files are made now if they are not there."""
        if server.venv is not None:
            environments.make(server.venv)
        scratch = model.description.with_name("scratch")
        scratch.mkdir(exist_ok=True)
        answer = self._answer(model, cases) if server.role == "limit" else ""
        setting = Setting(free_port(), model.models, model.description, scratch, answer)
        self._prepare(server, model, setting)
        log = self._work / "logs" / f"{model.name}-{server.name}.log".replace(" ", "-").replace(",", "")
        environment = server.environment(setting)
        return Start(
            server.name, server.command(setting), environment, server.ready_path, first, setting.port, ROOT, log
        )

    def _answer(self, model: Described, cases: Sequence[Case]) -> str:
        """What the bare application says: an answer of the real service, byte for byte."""
        if model.name not in self._answers:
            for case in cases:
                try:
                    request = HORNPIPE.request(case, model)
                    if request is None:
                        continue
                    with child.running(self.start(HORNPIPE, model, request, cases)) as process:
                        self._answers[model.name] = child.ask(process.port, request).decode()
                        return self._answers[model.name]
                except BenchFailed:
                    continue  # a kind of body that it cannot read (yet); another will do
            raise BenchFailed(f"hornpipe answers nothing about {model.name}")
        return self._answers[model.name]

    def _prepare(self, server: Server, model: Described, setting: Setting) -> None:
        key = (server.name, model.name)
        if server.prepare is None or key in self._prepared:
            return
        shutil.rmtree(setting.scratch / "mlflow", ignore_errors=True)
        environment = os.environ | server.environment(setting)
        done = subprocess.run(server.prepare(setting), cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise BenchFailed(f"{server.name} could not be prepared: {done.stderr[-800:]}")
        self._prepared.add(key)


def loop(turn: int, model: Described, variant: str, threads: int, seconds: int, store: Store) -> None:
    """The model's interpreter with nothing around it, into the store."""
    environment = os.environ | {"BENCH_MODEL": str(model.description)}
    row = str(model.description.with_name("sample.npy"))
    command = [sys.executable, "-m", "benchmarks.loop", str(seconds), str(threads), row]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BenchFailed(f"the loop ended with {done.returncode}: {done.stderr[-800:]}")
    facts = json.loads(done.stdout.splitlines()[-1])
    store.add("loop", round=turn, model=model.name, variant=variant, threads=threads, **facts)


def free_port() -> int:
    """A port that nobody listens on, with two more above it, which MLServer wants."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
        if all(_is_free(port + i) for i in (1, 2)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True
