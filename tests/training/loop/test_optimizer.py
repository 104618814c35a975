"""The fused AdamW, its clipping and loss scaling against Keras' optimizers, step for step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training import small
from training import fit
from training.loop.averages import Averages
from training.loop.optimizer import AdamW, LossScale
from training.loop.run import Run


def model() -> Any:
    import keras

    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(5), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((3,)), *layers])


def gradients(of: Any, scale: float = 1.0, seed: int = 0) -> list[Any]:
    import tensorflow as tf

    random = np.random.default_rng(seed)
    return [tf.constant(scale * random.normal(size=weight.shape), tf.float32) for weight in of.trainable_variables]


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_it_is_keras_adamw(clip_norm: float | None) -> None:
    import keras

    ours, theirs = model(), model()
    optimizer = AdamW(ours, weight_decay=0.1, clip_norm=clip_norm)
    reference = keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=clip_norm)
    reference.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    for step in range(20):
        batch = gradients(ours, seed=step)
        rate = np.float32(0.01 / (1 + step))
        reference.learning_rate = rate
        reference.apply(batch, theirs.trainable_variables)
        optimizer.apply(batch, rate)

    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_the_average_is_the_one_that_numpy_computes() -> None:
    import keras

    dense = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    averages = Averages(dense, momentum=0.5)
    expected = dense.get_weights()[0]
    for step in range(6):
        dense.set_weights([np.full((1, 1), float(step)), np.zeros(1)])
        averages.update()
        momentum = min(0.5, (1 + step) / (10 + step))
        expected = momentum * expected + (1 - momentum) * step
    with averages.in_place():
        inside = dense.get_weights()[0]

    np.testing.assert_allclose(inside, expected, rtol=1e-5)
    np.testing.assert_array_equal(dense.get_weights()[0], np.full((1, 1), 5.0))


def test_without_momentum_the_average_is_the_weights() -> None:
    dense = model()
    averages = Averages(dense, momentum=0.0)
    averages.update()
    before = dense.get_weights()
    with averages.in_place():
        for a, b in zip(dense.get_weights(), before, strict=True):
            np.testing.assert_array_equal(a, b)


def half_precision(build: Any) -> Any:
    import keras

    keras.config.set_dtype_policy("mixed_float16")
    try:
        return build()
    finally:
        keras.config.set_dtype_policy("float32")


def test_overflowing_steps_are_left_out_and_halve_the_scale() -> None:
    ours = half_precision(model)
    optimizer, scale = AdamW(ours, 0.0, None), LossScale(ours)
    initial = ours.get_weights()
    scale.apply(optimizer, gradients(ours, np.inf), np.float32(0.1))
    for a, b in zip(ours.get_weights(), initial, strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(scale.scale(1.0)) == LossScale.INITIAL / 2
    scale.apply(optimizer, gradients(ours), np.float32(0.1))

    assert not np.array_equal(ours.get_weights()[0], initial[0])
    assert float(scale.scale(1.0)) == LossScale.INITIAL / 2


def test_the_scale_doubles_after_many_sound_steps() -> None:
    ours = half_precision(model)
    optimizer, scale = AdamW(ours, 0.0, None), LossScale(ours)
    scale.variables[1].assign(LossScale.SOUND_STEPS - 1)
    scale.apply(optimizer, gradients(ours), np.float32(0.1))

    assert float(scale.scale(1.0)) == 2 * LossScale.INITIAL


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_learns_as_well(tmp_path: Path, policy: str) -> None:
    import keras

    config = small.settings()
    keras.config.set_dtype_policy(policy)
    try:
        half = small.network()
    finally:
        keras.config.set_dtype_policy("float32")
    with Run.open(tmp_path, config) as run:
        record = fit.fit(half, small.prepared(), config, run, small.Heard()).record

    assert policy.removeprefix("mixed_") in {layer.compute_dtype for layer in half.layers}
    assert max(each.monitor for each in record.evaluations) > 0.9
