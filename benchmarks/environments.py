"""The rivals' environments: build/rivals/NAME, a virtual environment with exactly what benchmarks/rivals/NAME.txt pins.

Made when a server needs one that is not there, or whose list has changed; reused otherwise. Each has its own
TensorFlow, about 1.7 GB in all, because their other requirements do not agree.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.servers.table import RIVALS

LISTS = Path(__file__).with_name("rivals")
STAMP = "made-of"


class NoEnvironment(Exception):
    """It could not be made; the text has pip's last words."""


def make(name: str) -> None:
    """Raises NoEnvironment."""
    wanted = LISTS / f"{name}.txt"
    folder = RIVALS / name
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text() == digest:
        return
    print(f"installing {name} into {folder}, once", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    quietly = ["--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([str(folder / "bin" / "python"), "-m", "pip", "install", *quietly, "-r", str(wanted)])
    stamp.write_text(digest)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: os.nice(15))
    if done.returncode:
        raise NoEnvironment(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-1500:]}")
