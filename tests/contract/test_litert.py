"""LiteRT: rows that change in number, memory that is shared, forgotten and given back."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from contract.encoded import Encoded
from contract.errors import RunFailed, RuntimeUnavailable
from contract.litert import LiteRT
from tests.contract.networks import Scaled, numbers, save


class Types(tf.Module):
    """`classes`: x [n, 4] and its integers to several types and ranks."""

    @tf.function(
        input_signature=[tf.TensorSpec([None, 4], tf.float32, "x"), tf.TensorSpec([None, 4], tf.int64, "whole")]
    )
    def serve(self, x: Any, whole: Any) -> dict[str, Any]:
        return {
            "sum": tf.reduce_sum(x, -1),
            "whole": whole + 1,
            "positive": x > 0,
            "outer": x[:, :, tf.newaxis] * x[:, tf.newaxis, :],
        }


class Wide(tf.Module):
    """`encoded`: numbers [n, 4] to `value` [n, 4], through four megabytes of weights."""

    def __init__(self) -> None:
        super().__init__()
        draw = np.random.default_rng(0)
        self.first = tf.Variable(draw.normal(size=(4, 1000)).astype(np.float32))
        self.second = tf.Variable(draw.normal(size=(1000, 1000)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "numbers")])
    def serve(self, numbers: Any) -> dict[str, Any]:
        return {"value": (tf.nn.relu(numbers @ self.first) @ self.second)[:, :4]}


def convert(module: Any, folder: Path, signature: str) -> Path:
    saved = save(module, folder / "saved", signature)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=[signature])
    path = folder / "network.tflite"
    path.write_bytes(converter.convert())
    return path


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(Scaled(2.0), tmp_path_factory.mktemp("scaled"), "encoded")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(Wide(), tmp_path_factory.mktemp("wide"), "encoded")


def test_any_signature_and_types(tmp_path: Path) -> None:
    runtime = LiteRT(convert(Types(), tmp_path, "classes"), signature="classes")
    for rows in (3, 1, 7):
        x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
        whole = np.arange(4 * rows, dtype=np.int64).reshape(rows, 4)
        answers = runtime.run(Encoded.of_tensors({"x": x, "whole": whole}))

        assert {name: each.dtype for name, each in answers.items()} == {
            "sum": np.float32,
            "whole": np.int64,
            "positive": bool,
            "outer": np.float32,
        }
        np.testing.assert_allclose(answers["sum"], x.sum(1), rtol=1e-5)
        np.testing.assert_array_equal(answers["whole"], whole + 1)
        np.testing.assert_array_equal(answers["positive"], x > 0)
        np.testing.assert_allclose(answers["outer"], x[:, :, None] * x[:, None, :], rtol=1e-6)


def test_answers_are_the_callers_and_outlive_the_next_run_and_the_runtime(scaled: Path) -> None:
    runtime = LiteRT(scaled)
    kept = [runtime.run(numbers(np.full((2, 4), i, np.float32)))["value"] for i in range(5)]
    kept[0] += 1
    again = runtime.run(numbers(np.zeros((2, 4), np.float32)))["value"]
    runtime.close()

    assert [each.tolist() for each in kept] == [[1, 1], [8, 8], [16, 16], [24, 24], [32, 32]]
    assert again.tolist() == [0, 0]


def test_rows_that_do_not_fit_fail_and_the_next_ones_run(scaled: Path) -> None:
    runtime = LiteRT(scaled)
    for wrong in (np.ones((2, 5), np.float32), np.ones((2, 4), np.int32)):
        with pytest.raises(RunFailed, match=scaled.name):
            runtime.run(numbers(wrong))
        assert runtime.run(numbers(np.ones((2, 4), np.float32)))["value"].tolist() == [8.0, 8.0]
    with pytest.raises(RunFailed, match="numbers"):
        runtime.run(Encoded.of_tensors({"other": np.ones((1, 4), np.float32)}))


def test_a_signature_that_is_not_there_is_said(scaled: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="no signature 'decoded'; it has: encoded"):
        LiteRT(scaled, signature="decoded")


def test_a_closed_one_runs_no_more(scaled: Path) -> None:
    runtime = LiteRT(scaled)
    runtime.run(numbers(np.ones((1, 4), np.float32)))
    runtime.close()

    with pytest.raises(RunFailed, match="is closed"):
        runtime.run(numbers(np.ones((1, 4), np.float32)))


ALONE = """
import json, re, sys
from pathlib import Path
import numpy as np
from contract.encoded import Encoded
from contract.litert import LiteRT

def resident():
    # Of files the network alone: pages of libraries come and go with what else the machine does.
    mappings = Path("/proc/self/smaps").read_text()
    memory = re.findall(r"^Anonymous: +(\\d+)", mappings, re.MULTILINE)
    mapped = re.findall(rf" {re.escape(str(path))}\\n(?:.*\\n)*?Rss: +(\\d+)", mappings)
    return 1024 * sum(map(int, memory + mapped))

def run(rows):
    made = LiteRT(path)
    for count in rows:
        made.run(Encoded(np.ones((count, 4), np.float32), np.zeros((count, 0), np.int32)))
    return made

path = Path(sys.argv[1]).resolve()
run((1, 8)).close()
"""

ADDED = """
before = resident()
held = [run((1,)), run((1,))]
added = resident() - before
for each in held:
    each.close()
print(json.dumps([added, resident() - before]))
"""

SWAPPED = """
before = resident()
for _ in range(200):
    run((1, 8, 3)).close()
print(json.dumps([before, resident()]))
"""


def told_alone(code: str, path: Path) -> list[int]:
    """By a process that does nothing else, which has loaded and run the file once before."""
    told = subprocess.run([sys.executable, "-c", ALONE + code, str(path)], capture_output=True, text=True, check=True)
    found: list[int] = json.loads(told.stdout)
    return found


def test_two_interpreters_hold_the_weights_twice_and_not_four_times(wide: Path) -> None:
    """Once each as the kernels want them; the file's own pages are let go."""
    added, after = told_alone(ADDED, wide)

    size = wide.stat().st_size
    assert size > 4e6
    assert 1.8 * size < added < 2.5 * size
    assert after < 0.2 * size


def test_two_hundred_swaps_leave_no_memory_behind(wide: Path) -> None:
    before, after = told_alone(SWAPPED, wide)

    assert after < 1.05 * before


SHRUNK = """
made = run((1,))
before = resident()
row = Encoded(np.ones((1, 4), np.float32), np.zeros((1, 0), np.int32))
said = made.run(row)["value"]
made.run(Encoded(np.ones((5000, 4), np.float32), np.zeros((5000, 0), np.int32)))
large = resident() - before
made.shrink()
assert np.array_equal(made.run(row)["value"], said)
print(json.dumps([large, resident() - before]))
"""


def test_one_that_begins_anew_keeps_nothing_of_its_largest_run(wide: Path) -> None:
    """5,000 rows of 1,000 numbers between the layers are 20 megabytes."""
    large, shrunk = told_alone(SHRUNK, wide)

    assert large > 20e6
    assert shrunk < 0.25 * large
