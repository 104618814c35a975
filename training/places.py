"""Where jobs read and write, and what is kept of each.

runs/jobs/<number>/asked.json    which job the folder is of: a table that was lost begins to count anew
runs/jobs/<number>/<model>/...   its runs, see training/loop/run.py
runs/jobs/<number>/scratch       what libraries write for a while
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contract.bundle import replace_file
from contract.job import OPEN, Job
from contract.jobs import Jobs, UnknownJob
from training.loop.run import CHECKPOINTS

ASKED, SCRATCH, DATA = "asked.json", "scratch", "data"
# Of jobs that have ended, what was recorded of the newest so many is kept; checkpoints of none.
MOST_FOLDERS = 100


@dataclass(frozen=True)
class Places:
    """The job table, and the folders that training reads and writes."""

    jobs: Path
    models: Path
    runs: Path

    def folder(self, number: int) -> Path:
        """What is kept of a job."""
        return self.runs / "jobs" / str(number)

    def make_ready(self, job: Job) -> None:
        """The folder of a job that begins or goes on. Temporary files of this process then go to it, and are gone with
        the next attempt. Raises OSError."""
        folder = self.folder(job.id)
        stamp = json.dumps({"job": job.id, "asked_at": job.asked_at}).encode()
        if not (folder / ASKED).is_file() or (folder / ASKED).read_bytes() != stamp:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            replace_file(folder / ASKED, stamp)
        scratch = folder / SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch.absolute())

    def tidy(self, jobs: Jobs, most: int = MOST_FOLDERS) -> None:
        """Drop what no job will go on from, and all of the oldest. Raises JobError."""
        for i, number in enumerate(self._numbers()):
            if not _is_open(jobs, number):
                for each in self._heavy(number) if i < most else [self.folder(number)]:
                    shutil.rmtree(each, ignore_errors=True)

    def _numbers(self) -> list[int]:
        """The newest first."""
        folder = self.runs / "jobs"
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted((int(each.name) for each in found if each.name.isdecimal()), reverse=True)

    def _heavy(self, number: int) -> Iterator[Path]:
        folder = self.folder(number)
        yield folder / SCRATCH
        for name in (CHECKPOINTS, DATA):
            yield from folder.glob(f"*/*/{name}")


def _is_open(jobs: Jobs, number: int) -> bool:
    try:
        return jobs.get(number).state in OPEN
    except UnknownJob:
        return False
