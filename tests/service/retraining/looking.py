"""What looks whether to train again, with a clock of the test's own, on real files."""

import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract import routing
from contract.job import Job
from contract.jobs import Jobs, opened
from contract.manifest import Manifest
from contract.retrain import Retrain
from service.labels.indexing import index
from service.labels.joining import JoinedLabels
from service.labels.labels import Feedback, Labels
from service.registry import Registry
from service.retraining.watch import Retraining
from service.retraining.wish import Wish
from service.settings import Settings
from tests.service.logged import Logger
from tests.service.untrained import table

MODEL = "flights"
HOUR = 3600.0


class Looking:
    """A model's folder, a job table, a log of predictions; `now` stands still until somebody moves it."""

    def __init__(self, folder: Path) -> None:
        self.now = time.time()
        self.folder = folder
        self.jobs = folder / "jobs.sqlite"
        self.seen = folder / "jobs.sqlite.triggers" / f"{MODEL}.json"
        self.log = folder / "log"
        self._logged = 0
        (folder / "models" / MODEL).mkdir(parents=True)
        self.begin()

    def begin(self, *, labelled: bool = True) -> None:
        """As another process would, that shares the files."""
        settings = Settings(models_dir=self.folder / "models", jobs_file=self.jobs)
        labels = JoinedLabels(self.log) if labelled else None
        self.retraining = Retraining(Registry(settings), labels, settings, self.jobs, lambda: self.now)

    def wish(self, version: int = 1, made: float = -HOUR, **section: Any) -> Wish:
        """Of a version that was made so many seconds from when all began."""
        created = datetime.fromtimestamp(self.now + made, UTC)
        config = {"name": MODEL, "retrain": section}
        manifest: Manifest = table(MODEL, version).model_copy(update={"created": created, "config": config})
        return Wish(manifest, Retrain.model_validate(section))

    def look(self, *wishes: Wish, after: float = 0.0) -> list[Job]:
        """All jobs, the oldest first."""
        self.now += after
        self.retraining.look(wishes)
        with opened(self.jobs) as jobs:
            return jobs.newest()[::-1]

    def end(self, state: Any = "succeeded", after: float = HOUR) -> None:
        """Have the open job done."""
        with closing(Jobs(self.jobs, lambda: self.now)) as jobs:
            job = jobs.claim("worker", 60.0)
            assert job is not None
            self.now += after
            assert jobs.end(job, state)

    def told(self) -> list[tuple[str, str, str]]:
        """What the history says of decisions."""
        events = routing.history(self.folder / "models", MODEL)
        return [(each.action, each.by, each.why) for each in events]

    def predict(self, scores: Sequence[float], labels: Sequence[str], model: str = MODEL, version: int = 1) -> None:
        """Rows that are predicted now and have their label at once."""
        request = f"request-{self._logged}"
        self._logged += 1
        Logger(self.log, model=model).log(request, list(scores), self.now, version)
        with closing(Labels(self.log)) as file:
            index(file, self.log)
            file.store([Feedback("", request, row, label) for row, label in enumerate(labels)])
            file.connection.execute("UPDATE labels SET received = ? WHERE id = ?", (self.now, request))
