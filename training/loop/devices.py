"""The devices that train: how many, in which precision, and that they compute the same every time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from training.errors import ConfigError
from training.sections import TrainingSection

AMPERE = (8, 0)  # from this compute capability on, a GPU computes in bfloat16


@contextmanager
def building(section: TrainingSection) -> Iterator[None]:
    """A Keras model built within is for the devices and the precision that the section asks for, from its seed.

    Raises ConfigError where there are too few devices, or the batch cannot be shared out among them.
    """
    chosen = strategy(section)
    if tf.config.list_logical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()  # CPUs are deterministic without
    keras.utils.set_random_seed(section.seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision(section))
    try:
        with chosen.scope():
            yield
    finally:
        keras.config.set_dtype_policy(before)


def strategy(section: TrainingSection) -> Any:  # noqa: ANN401  # tf.distribute.Strategy has no type information
    """One device, or a mirrored strategy over several: all GPUs for "auto", or the first `devices` GPUs or CPUs."""
    gpus = tf.config.list_logical_devices("GPU")
    there = gpus or tf.config.list_logical_devices("CPU")
    wanted = max(1, len(gpus)) if section.devices == "auto" else section.devices
    if wanted > len(there):
        raise ConfigError(
            "training", [f"devices: {wanted} are asked for, there is {len(there)} {there[0].device_type}"]
        )
    if section.batch_size % wanted:
        raise ConfigError("training", [f"batch_size: {section.batch_size} cannot be shared out among {wanted} devices"])
    return (
        tf.distribute.get_strategy()
        if wanted == 1
        else tf.distribute.MirroredStrategy([d.name for d in there[:wanted]])
    )


def precision(section: TrainingSection) -> str:
    """The Keras dtype policy. Half precision is bfloat16 wherever there is one: it needs no scaling of the loss."""
    gpus = tf.config.list_physical_devices("GPU")
    wanted = bool(gpus) if section.mixed_precision == "auto" else section.mixed_precision
    if not wanted:
        return "float32"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    old = any(each.get("compute_capability", AMPERE) < AMPERE for each in details)
    return "mixed_float16" if old else "mixed_bfloat16"
