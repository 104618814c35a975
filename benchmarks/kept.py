"""What the prediction log and feedback cost a request, in microseconds of CPU.

    python -m benchmarks.kept models/flights/1

Requests of one row and of 32, a golden row of the bundle each: on the event loop, where they are kept and where they
are not in the share; on the thread that writes them; on the one that indexes them; and a label for each. Written to a
temporary folder. The best of several rounds, because other programs run here too.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from contract import bundle
from service.http.call import Call
from service.http.messages import Request
from service.inference.work import Batch, Result
from service.labels.indexing import index
from service.labels.labels import Feedback, Labels
from service.predictions import predictions
from service.predictions.predictions import PredictionLog
from service.settings import Settings
from service.versions.loaded import LoadedModel, load

REQUESTS = 4000
ROUNDS = 5
Clock = Callable[[], float]


def cost(work: Callable[[], object], clock: Clock = time.process_time) -> float:
    """Microseconds a request."""
    began = clock()
    work()
    return (clock() - began) / REQUESTS * 1e6


def measure(model: LoadedModel, row: dict[str, object], rows: int, folder: Path) -> dict[str, float]:
    """One round, in a folder of its own."""
    given = [row] * rows
    encoded = model.encoder.encode(given)
    batch = Batch([], [], encoded, model.run(encoded), 0.0, 0.0, 0.0)
    calls = [
        Call(Request("POST", b"/predict", []), f"87b81091ed0f-{i:x}", 0.0, "interactive", b"") for i in range(REQUESTS)
    ]
    kept, left = (PredictionLog(folder, Settings(predictions_share=share)) for share in (1.0, 0.0))

    def note(log: PredictionLog) -> None:
        for call in calls:
            log.note(model, call, Result(batch, 0, rows), given)

    def write() -> None:
        kept.start()
        kept.close()

    found = {"kept": cost(lambda: note(kept)), "not in the share": cost(lambda: note(left)), "written": cost(write)}
    with closing(Labels(folder)) as labels:
        found["indexed"] = cost(lambda: index(labels, folder))
        found["labelled"] = cost(lambda: labels.store([Feedback("", call.id, 0, label_of(model)) for call in calls]))
    assert not any(result != "written" for _, result, _ in kept.counted())
    return found


def label_of(model: LoadedModel) -> str | float:
    return getattr(model.manifest.output, "classes", [0.0])[0]


def main(path: Path) -> None:
    predictions.MOST_WAITING = REQUESTS  # all of them wait, to be written at once
    models, name, version = path.parent.parent, path.parent.name, int(path.name)
    model = load(models, name, version, Settings(models_dir=models))
    row = dict(bundle.read_version(models, name, version).manifest.golden[0].row)
    for rows in (1, 32):
        rounds = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                rounds.append(measure(model, row, rows, Path(folder)))
        best = {step: min(each[step] for each in rounds) for step in rounds[0]}
        print(f"{rows} rows: " + ", ".join(f"{step} {microseconds:.1f} µs" for step, microseconds in best.items()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
