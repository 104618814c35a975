"""SavedModels in this process: any types, any number of rows, never traced again, a replica on each device."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from contract.encoded import Encoded
from contract.errors import RunFailed, RuntimeUnavailable
from contract.savedmodel import SavedModel
from tests.contract import networks
from tests.contract.networks import Everything, Scaled, numbers, save


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(Everything(), tmp_path_factory.mktemp("everything"), "serving_default")


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(Scaled(3.0), tmp_path_factory.mktemp("scaled"))


@pytest.mark.parametrize("rows", [1, 5, 0])
def test_all_types_go_in_and_come_out_as_they_are(everything: Path, rows: int) -> None:
    encoded = networks.rows_of_everything(rows)
    answers = SavedModel(everything, "cpu", "serving_default").run(encoded)

    networks.assert_same(answers, networks.answers_of_everything(encoded))


def test_texts_may_be_str_objects(everything: Path) -> None:
    encoded = networks.rows_of_everything(3).tensors or {}
    texts = Encoded.of_tensors({**encoded, "word": np.array(["red", "grün", ""], object)})

    upper = SavedModel(everything, "cpu", "serving_default").run(texts)["upper"].tolist()
    assert upper == [b"RED", "GRüN".encode(), b""]


def test_no_number_of_rows_is_traced_anew(scaled: Path) -> None:
    from tensorflow.python.eager import context  # TensorFlow's own list of all functions that it has

    runtime = SavedModel(scaled, "cpu")
    runtime.run(numbers(np.ones((1, 4), np.float32)))
    functions = set(context.context().list_function_names())
    for rows in range(41):
        runtime.run(numbers(np.ones((rows, 4), np.float32)))

    assert runtime.traces == 1
    # None is new; of other tests' models some may have gone meanwhile, with the garbage.
    assert set(context.context().list_function_names()) <= functions


def test_rows_that_do_not_fit_fail_and_the_next_ones_run(scaled: Path) -> None:
    runtime = SavedModel(scaled, "cpu")
    for wrong in (np.ones((2, 5), np.float32), np.ones((2, 4), np.int32)):
        with pytest.raises(RunFailed, match=str(scaled)):
            runtime.run(numbers(wrong))
    with pytest.raises(RunFailed, match="numbers"):
        runtime.run(Encoded.of_tensors({"other": np.ones((1, 4), np.float32)}))

    assert runtime.run(numbers(np.ones((2, 4), np.float32)))["value"].tolist() == [12.0, 12.0]


@pytest.mark.parametrize(
    ("device", "signature", "message"),
    [("gpu", "encoded", "TensorFlow sees no GPU"), ("cpu", "decoded", "no signature 'decoded'; it has: encoded")],
)
def test_what_cannot_be_had_is_said(scaled: Path, device: str, signature: str, message: str) -> None:
    with pytest.raises(RuntimeUnavailable, match=message):
        SavedModel(scaled, device, signature)


def test_a_closed_one_runs_no_more(scaled: Path) -> None:
    runtime = SavedModel(scaled, "cpu")
    runtime.close()

    with pytest.raises(RunFailed, match="is closed"):
        runtime.run(numbers(np.ones((1, 4), np.float32)))


@pytest.mark.parametrize(("policy", "unit"), [("mixed_float16", 2**-10), ("mixed_bfloat16", 2**-7)])
def test_a_network_of_mixed_precision_answers_in_float32(policy: str, unit: float, tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="numbers")
    hidden = keras.layers.Dense(16, activation="relu", dtype=keras.DTypePolicy(policy))(x)
    assert hidden.dtype == policy.removeprefix("mixed_")
    value = keras.layers.Dense(1, dtype="float32", name="value")(hidden)
    network = keras.Model(x, {"value": keras.ops.squeeze(value, -1)})
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("encoded", network.call, [tf.TensorSpec([None, 4], tf.float32, name="numbers")])
    archive.write_out(str(tmp_path / "saved"), verbose=False)

    rows = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    answers = SavedModel(tmp_path / "saved", "cpu").run(numbers(rows))["value"]
    expected = network(rows)["value"].numpy()
    assert answers.dtype == np.float32
    # To how many roundings of its hidden layer's type a graph comes is the processor's affair.
    np.testing.assert_allclose(answers, expected, atol=4 * unit * np.abs(expected).max())
    assert len(np.unique(answers)) > 5


ON_TWO = """
import json, sys
from pathlib import Path
import numpy as np, tensorflow as tf
from contract.encoded import Encoded
from contract.savedmodel import SavedModel

cpu = tf.config.list_physical_devices("CPU")[0]
tf.debugging.set_log_device_placement(True)
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
runtime = SavedModel(Path(sys.argv[1]), devices=["/CPU:0", "/CPU:1"])
rows = Encoded(np.arange(8, dtype=np.float32).reshape(2, 4), np.zeros((2, 0), np.int32))
answers = [runtime.run(rows)["value"].tolist() for _ in range(4)]
print(json.dumps([answers, runtime.replicas, runtime.traces]))
"""


def test_there_is_a_replica_on_each_device_and_they_take_turns(scaled: Path) -> None:
    """On two devices that share one CPU, which TensorFlow allows only before it has begun; it says itself what runs
    where."""
    told = subprocess.run(
        [sys.executable, "-c", ON_TWO, str(scaled)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "0"},
    )
    ran = re.findall(r"op __inference_<lambda>\S+ in device \S+(CPU:\d)", told.stderr)

    assert json.loads(told.stdout.splitlines()[-1]) == [[[18.0, 66.0]] * 4, 2, 2]
    assert ran == ["CPU:0", "CPU:1"] * 2
