"""What must not be imported, and what must not happen on import: watched in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

# As on a machine where none of them is installed.
WITHOUT = """
import sys
from importlib.machinery import PathFinder
ABSENT = {"tensorflow", "keras", "pandas", "sklearn", "scipy", "pyarrow", "rich", "training"}
class WithoutThem(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in ABSENT else super().find_spec(name, path, target)
sys.meta_path = [WithoutThem if finder is PathFinder else finder for finder in sys.meta_path]
"""


def run(code: str, *arguments: str) -> str:
    child = [sys.executable, "-c", code, *arguments]
    finished = subprocess.run(child, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_service_loads_and_answers_with_nothing_of_training_installed(models: Path) -> None:
    code = """
import asyncio
from pathlib import Path
from contract import bundle
from service.app import create_app
from service.inference.answers import predictions
from service.versions.loaded import load
from service.settings import Settings
settings = Settings(models_dir=Path(sys.argv[1]))
create_app(settings)
model = load(settings.models_dir, "flights", 1, settings)
golden = bundle.read_version(settings.models_dir, "flights", 1).manifest.golden
encoded = model.encoder.encode([dict(golden[0].row)])
print(predictions(model.manifest.output, model.run(encoded))[0]["label"])
"""
    assert run(WITHOUT + code, str(models)).strip() in ("late", "on_time")


def test_a_csv_is_scored_with_nothing_of_training_installed(models: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    code = """
import csv, json
from pathlib import Path
models, folder = Path(sys.argv[1]), Path(sys.argv[2])
from contract import bundle
rows = [dict(example.row) for example in bundle.read_version(models, "flights", 1).manifest.golden]
with (folder / "rows.csv").open("w", newline="") as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
from hornpipe import main
sys.exit(main(["predict", "flights", str(folder / "rows.csv"), "--models", str(models)]))
"""
    lines = run(WITHOUT + code, str(models), str(tmp_path)).splitlines()

    assert lines[0] == "label,probability,probability_on_time,probability_late"
    assert len(lines) == 17


@pytest.mark.parametrize("module", ["hornpipe", "contract.manifest", "service.app", "training.config"])
def test_importing_has_no_effects(module: str, tmp_path: Path) -> None:
    code = f"""
import os, sys, threading, logging
before = (set(os.environ), threading.active_count(), list(logging.getLogger().handlers), os.getcwd())
import {module}
assert before == (set(os.environ), threading.active_count(), list(logging.getLogger().handlers), os.getcwd())
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
"""
    assert run(code) == ""


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from hornpipe import main
try:
    main(["train", "--help"])
except SystemExit:
    pass
print("heavy:", {"numpy", "pydantic", "fastapi", "tensorflow", "rich", "contract"} & set(sys.modules))
"""
    assert run(code).endswith("heavy: set()\n")
