"""The folder of a run: which one goes on, who has it, and what those see who look on."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training import small
from training.diagnosis.signals import Record
from training.errors import RunBusy, TrainingError
from training.loop.run import Run, digest_of

CONFIG = small.settings()


def test_the_same_config_goes_on_with_its_run(tmp_path: Path) -> None:
    with Run.open(tmp_path, CONFIG) as first:
        first.is_on("data")
    with Run.open(tmp_path, CONFIG) as second:
        assert second.path == first.path
        assert second.status.data == "data"
    with Run.open(tmp_path, small.settings(seed=5)) as other:
        assert other.path != first.path


@pytest.mark.parametrize(("stopped", "goes_on"), [("finished", True), ("diverged", False)])
def test_a_trained_run_goes_on_until_it_is_published(tmp_path: Path, stopped: str, goes_on: bool) -> None:
    with Run.open(tmp_path, CONFIG) as first:
        first.trained(Record(stopped=stopped), seconds=3.0)
    with Run.open(tmp_path, CONFIG) as second:
        assert (second.path == first.path) == goes_on
        second.published(Path("models/small/1"))
    with Run.open(tmp_path, CONFIG) as third:
        assert third.path not in (first.path, second.path)


def test_fresh_is_a_new_run_and_the_newest_one_goes_on(tmp_path: Path) -> None:
    with Run.open(tmp_path, CONFIG) as first, Run.open(tmp_path, CONFIG, fresh=True) as second:
        assert second.path != first.path
    with Run.open(tmp_path, CONFIG) as third:
        assert third.path == second.path


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Run.open(tmp_path, CONFIG) as run:
        lines = [
            "import sys; from pathlib import Path",
            "from tests.training import small; from training.loop.run import Run",
            "Run.open(Path(sys.argv[1]), small.settings())",
        ]
        other = subprocess.run([sys.executable, "-c", "\n".join(lines), str(tmp_path)], capture_output=True, text=True)
        with pytest.raises(RunBusy, match=r"process \d+ is training .* --fresh"):
            Run.open(tmp_path, CONFIG)
    assert "RunBusy" in other.stderr
    Run.open(tmp_path, CONFIG).close()
    assert run.path.is_dir()


def test_a_killed_process_frees_its_run(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.training import small\n"
        "from training.loop.run import Run\n"
        "run = Run.open(Path(sys.argv[1]), small.settings()); print(run.path, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    path = process.stdout.readline().strip()
    process.kill()
    process.wait()
    process.stdout.close()
    with Run.open(tmp_path, CONFIG) as run:
        assert str(run.path) == path


def test_other_data_are_refused(tmp_path: Path) -> None:
    with Run.open(tmp_path, CONFIG) as run:
        run.is_on("a" * 64)
        run.is_on("a" * 64)
    with Run.open(tmp_path, CONFIG) as run, pytest.raises(TrainingError, match=r"data have changed .* --fresh"):
        run.is_on("b" * 64)


def test_reading_sees_what_was_recorded(tmp_path: Path) -> None:
    with Run.open(tmp_path, CONFIG) as run:
        assert Run.read(run.path).record == Record()
        run.record(Record(losses=((1, 0.5),)))
        reading = Run.read(run.path)
        assert Run.read(tmp_path / "small") == reading

    assert reading.config == CONFIG
    assert reading.record.losses == ((1, 0.5),)
    assert reading.status.state == "training"


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is not the folder of a run"):
        Run.read(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TrainingError, match="is of another Hornpipe"):
        Run.read(tmp_path)


def test_the_digest_is_the_configs(tmp_path: Path) -> None:
    assert digest_of(CONFIG) == digest_of(small.settings())
    assert digest_of(CONFIG) != digest_of(small.settings(epochs=7))
    before = month()
    with Run.open(tmp_path, CONFIG) as run:
        assert run.path.name[:6] in (before, month())
        assert run.path.name.endswith(digest_of(CONFIG))


def month() -> str:
    return time.strftime("%Y%m", time.gmtime())
