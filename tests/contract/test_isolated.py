"""A SavedModel in a process of its own: it answers as one in this process does, and its death hurts one call."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from contract.encoded import Encoded
from contract.errors import RunFailed, RuntimeDied, RuntimeUnavailable
from contract.isolated import IsolatedSavedModel
from tests.contract import networks
from tests.contract.networks import Endless, Everything, Scaled, numbers, save
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

FOR_EVER = 1e15


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(Scaled(2.0), tmp_path_factory.mktemp("scaled"))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IsolatedSavedModel]:
    path = save(Everything(), tmp_path_factory.mktemp("everything"), "serving_default")
    runtime = IsolatedSavedModel(path, "cpu", "serving_default", threads=1, channels=3)
    yield runtime
    runtime.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):  # gone before, or between the two
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rows(*first: float) -> Encoded:
    return numbers(np.array([[value, 1, 1, 1] for value in first], np.float32))


@pytest.mark.parametrize("count", [1, 0, 5, 20_000, 2])
def test_all_types_go_in_and_come_out_as_they_are(everything: IsolatedSavedModel, count: int) -> None:
    encoded = networks.rows_of_everything(count)

    networks.assert_same(everything.run(encoded), networks.answers_of_everything(encoded))
    assert (everything.traces, everything.replicas) == (1, 1)


def test_many_threads_get_their_own_answers_and_keep_them(everything: IsolatedSavedModel) -> None:
    """More threads than channels."""
    sent = [networks.rows_of_everything(1 + i % 37) for i in range(200)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(everything.run, sent))

    for encoded, answer in zip(sent, answers, strict=True):
        networks.assert_same(answer, networks.answers_of_everything(encoded))


def test_rows_that_do_not_fit_fail_and_the_next_ones_run(everything: IsolatedSavedModel) -> None:
    fitting = networks.rows_of_everything(2)
    for wrong in ({"x": np.ones((2, 5), np.float32)}, {"x": np.ones((2, 4))}, {"word": np.array(["a", 1], object)}):
        with pytest.raises(RunFailed):
            everything.run(Encoded.of_tensors({**(fitting.tensors or {}), **wrong}))

    networks.assert_same(everything.run(fitting), networks.answers_of_everything(fitting))


def test_it_leaves_interrupts_and_requests_to_terminate_to_its_parent(everything: IsolatedSavedModel) -> None:
    pid = everything.pid
    assert pid is not None
    for asked in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, asked)
    encoded = networks.rows_of_everything(3)

    networks.assert_same(everything.run(encoded), networks.answers_of_everything(encoded))
    assert everything.pid == pid


def test_a_death_fails_the_calls_in_flight_and_the_next_process_answers(tmp_path: Path) -> None:
    runtime = IsolatedSavedModel(save(Endless(), tmp_path / "endless"), "cpu", threads=1, channels=1)
    first = runtime.pid
    assert first is not None
    idle = cpu_seconds(first)
    failed: list[Exception] = []
    ready = threading.Barrier(4)

    def run() -> None:
        ready.wait()
        try:
            runtime.run(rows(FOR_EVER))
        except RuntimeDied as error:
            failed.append(error)

    # One of them runs, the others wait for the channel.
    callers = [threading.Thread(target=run, daemon=True) for _ in range(3)]
    for caller in callers:
        caller.start()
    ready.wait()
    wait_until(lambda: cpu_seconds(first) > idle + 0.3, "one is being run")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(failed) == 3, "all of them have failed")

    # Who comes later than the death is told that another process starts.
    assert any("was killed by SIGKILL" in str(each) for each in failed)
    wait_until(lambda: runtime.pid not in (None, first), "another process is there")
    assert runtime.run(rows(0.0, 0.0))["value"].tolist() == [1.0, 1.0]
    runtime.close()
    with pytest.raises(RuntimeDied, match="is closed"):
        runtime.run(rows(0.0))


def test_one_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contract.isolated.LONGEST_RUN_SECONDS", 0.5)
    runtime = IsolatedSavedModel(save(Endless(), tmp_path / "endless"), "cpu", threads=1, channels=1)
    first = runtime.pid
    assert first is not None

    with pytest.raises(RuntimeDied, match="SIGKILL: timed out"):
        runtime.run(rows(FOR_EVER))
    assert not alive(first)
    runtime.close()


def test_what_cannot_be_had_is_said(scaled: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"^HORNPIPE_DEVICE=gpu, but TensorFlow sees no GPU"):
        IsolatedSavedModel(scaled, "gpu")


PARENT = """
import sys, time
from pathlib import Path
import numpy as np
from contract.encoded import Encoded
from contract.isolated import IsolatedSavedModel

runtime = IsolatedSavedModel(Path(sys.argv[1]), "cpu", threads=1)
assert runtime.run(Encoded(np.ones((1, 4), np.float32), np.zeros((1, 0), np.int32)))["value"].tolist() == [8.0]
assert "tensorflow" not in sys.modules
print(runtime.pid, flush=True)
time.sleep(600)
"""


def test_it_dies_with_its_parent_and_spares_it_tensorflow(scaled: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(scaled)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()

    wait_until(lambda: not alive(pid), "the child is gone")


SWAPS = """
import json, os, re, sys, threading
from pathlib import Path
import numpy as np
from contract.encoded import Encoded
from contract.isolated import IsolatedSavedModel

def resident(pid):
    # Without the pages of files: those of TensorFlow's libraries come and go with what else the machine does.
    return int(re.search(r"Anonymous: +(\\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())[1])

def counted(runtime):
    return resident(os.getpid()), resident(runtime.pid), len(list(Path("/proc/self/fd").iterdir()))

def closed(runtime, keeper):
    runtime.close()
    keeper.join()  # it gives the descriptors back

def keepers():
    return {each for each in threading.enumerate() if each.name.startswith("keep-")}

path, rows = Path(sys.argv[1]), Encoded(np.ones((3, 4), np.float32), np.zeros((3, 0), np.int32))
serving, keeper, said = None, None, []
for _ in range(int(sys.argv[2]) + 1):
    before = keepers()
    coming = IsolatedSavedModel(path, "cpu", threads=1)
    (its,) = keepers() - before
    for _ in range(20):
        assert coming.run(rows)["value"].tolist() == [8.0] * 3
    if serving is not None:
        closed(serving, keeper)
    serving, keeper = coming, its
    said.append(counted(serving))
closed(serving, keeper)
print(json.dumps(said))
"""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("swaps", [pytest.param(30, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.soak)])
def test_swaps_leave_nothing_behind(scaled: Path, swaps: int) -> None:
    """Each loaded beside the last, as the service does it: memory of the parent, of both, and open files."""
    command = [sys.executable, "-c", SWAPS, str(scaled), str(swaps)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    (parent, child, files), last = said[1], said[-1]

    assert len(said) == swaps + 1
    assert last[0] < 1.05 * parent
    assert last[0] + last[1] < 1.05 * (parent + child)
    assert last[2] == files
