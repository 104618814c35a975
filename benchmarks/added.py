"""What one more model adds to the service's memory: hornpipe with flights alone, and with flights and another.

Both have answered every model a few hundred times before they are weighed.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import child
from benchmarks.cases import CASES
from benchmarks.child import BenchFailed, Start
from benchmarks.described import ROOT, Described
from benchmarks.requests import Request
from benchmarks.servers.table import HORNPIPE, Setting
from benchmarks.store import Store
from benchmarks.visit import free_port

FIRST = "flights"
ANSWERS = 200
# Heavy models answer no more often than this takes.
MOST_SECONDS = 10.0


def measure(store: Store, described: Mapping[tuple[str, str | None], Described], work: Path) -> None:
    """Into the store; nothing where flights or the others are not among what is measured."""
    models = {name: model for (name, _), model in reversed(described.items())}
    first = models.pop(FIRST, None)
    if first is None:
        return
    try:
        alone = _resident([first], work)
        store.add("added", model=FIRST, alone_mb=alone)
        for name, other in models.items():
            both = _resident([first, other], work)
            file = other.bundle.manifest.variant(other.bundle.manifest.chosen.variant)
            store.add("added", model=name, variant=file.name, added_mb=both - alone, file_mb=file.size / 1e6)
    except BenchFailed as error:
        store.add("failed", round=0, server=HORNPIPE.name, case="added", connections=1, why=str(error)[:1000])


def _resident(models: list[Described], work: Path) -> float:
    folder = work / "together"
    shutil.rmtree(folder, ignore_errors=True)
    for model in models:
        shutil.copytree(model.models / model.name, folder / model.name)
    asked = [_request(model) for model in models]
    setting = Setting(free_port(), folder, models[0].description, folder, "")
    log = work / "logs" / "together.log"
    environment = HORNPIPE.environment(setting)
    start = Start(
        HORNPIPE.name, HORNPIPE.command(setting), environment, HORNPIPE.ready_path, asked[0], setting.port, ROOT, log
    )
    with child.running(start) as process:
        for request in asked:
            _ask_often(process.port, request)
        process.settle()  # what predictions do not need is imported once models are ready
        return process.family.resident_mb()


def _request(model: Described) -> Request:
    """The leanest kind of body that there is for the model, naming it: its own weight is wanted, not that of JSON."""
    case = [each for each in CASES if each.model == model.name][-1]
    request = HORNPIPE.request(case, model)
    if request is None:
        raise BenchFailed(f"hornpipe has no request for {case.name}")
    if case.kind == "binary":
        return request  # its path names the model
    body = request.body.rstrip().removesuffix(b"}") + f', "model": "{model.name}"}}'.encode()
    return Request(request.path, request.content_type, body, request.read, request.headers)


def _ask_often(port: int, request: Request) -> None:
    until = time.perf_counter() + MOST_SECONDS
    for _ in range(ANSWERS):
        child.ask(port, request)
        if time.perf_counter() > until:
            return
