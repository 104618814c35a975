"""Several devices, in processes of their own: TensorFlow takes its devices once."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training import small
from training.errors import ConfigError

SCRIPT = """
import sys
import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from pathlib import Path
from tests.training import small
from training import fit
from training.loop import devices
from training.loop.run import Run

def trained(task, weights, folder):
    for count in (1, 2):
        options = {"clip_norm": 0.3, "epochs": 2, "class_weights": weights}
        config = small.settings(task, devices=count, **options)
        with devices.building(config.training):
            model = small.network(task)
        with Run.open(folder, config) as run:
            record = fit.fit(model, small.prepared(task), config, run, small.Heard()).record
        np.savez(folder / f"{count}.npz", *model.get_weights(), losses=np.array([loss for _, loss in record.losses]))
        print(task, count, model.distribute_strategy.num_replicas_in_sync)
        # ... and goes on from a checkpoint
        with devices.building(config.training):
            again = small.network(task)
        with Run.open(folder, config) as run:
            fit.fit(again, small.prepared(task), config, run, small.Heard())
        assert all(np.array_equal(a, b) for a, b in zip(again.get_weights(), model.get_weights()))

for task, weights in zip(sys.argv[2::2], sys.argv[3::2]):
    trained(task, weights, Path(sys.argv[1]) / task)
"""
WEIGHTS = {"binary": "balanced", "regression": "none"}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each task, with the weights that one device and two have trained."""
    folder = tmp_path_factory.mktemp("devices")
    for task in WEIGHTS:
        (folder / task).mkdir()
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", SCRIPT, str(folder), *(each for pair in WEIGHTS.items() for each in pair)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{task} {count} {count}" for task in WEIGHTS for count in (1, 2)]
    return folder


@pytest.mark.parametrize("task", WEIGHTS)
@pytest.mark.slow
def test_two_devices_train_the_weights_of_one(both: Path, task: str) -> None:
    one, two = np.load(both / task / "1.npz"), np.load(both / task / "2.npz")

    for name in one.files:
        np.testing.assert_allclose(two[name], one[name], rtol=2e-3, atol=2e-4, err_msg=name)
    moved = one["arr_1"] - small.network(task).get_weights()[1]
    assert np.abs(moved).max() > 0.01


def test_what_cannot_be_shared_out_is_refused() -> None:
    from training.loop import devices

    with pytest.raises(ConfigError, match="devices: 7 are asked for, there is 1 CPU"):
        devices.strategy(small.settings(devices=7).training)


def test_the_policy_is_ours_only_while_building() -> None:
    import keras

    from training.loop import devices

    before = keras.config.dtype_policy().name
    with devices.building(small.settings(mixed_precision=True).training):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        model = small.network()
    assert keras.config.dtype_policy().name == before
    assert model.layers[-3].compute_dtype == "bfloat16"
