"""What a training process finds around itself."""

import os
import subprocess
import sys
from pathlib import Path

from tests.waiting import PATIENCE_SECONDS
from training.child import environment

# libgomp says what it has understood when it is loaded; it spins so often before it sleeps.
ASK = [sys.executable, "-c", "import sklearn.ensemble._hist_gradient_boosting.utils"]


def understood(ours: dict[str, str]) -> str:
    others = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    around = environment(others | {"OMP_DISPLAY_ENV": "verbose"} | ours)
    return subprocess.run(ASK, env=around, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS).stderr


def test_threads_sleep_while_they_wait_unless_somebody_knows_better() -> None:
    assert "GOMP_SPINCOUNT = '0'" in understood({})
    assert "GOMP_SPINCOUNT = '0'" not in understood({"OMP_WAIT_POLICY": "active"})


def test_it_finds_hornpipe_first_and_then_what_the_worker_finds() -> None:
    ours, theirs = environment({"PYTHONPATH": "/theirs", "HOME": "/home/ann"})["PYTHONPATH"].split(os.pathsep)
    assert Path(ours).samefile(Path.cwd())
    assert theirs == "/theirs"
    assert environment({"HOME": "/home/ann"})["HOME"] == "/home/ann"
