"""Every loss against Keras' own, or scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

from tests.training import small
from training.errors import ConfigError
from training.loop import loss
from training.loop.loss import Loss

RANDOM = np.random.default_rng(0)
BINARY = RANDOM.integers(0, 2, 200).astype(np.float32)
LOGITS = RANDOM.normal(scale=3, size=200).astype(np.float32)
CLASSES = RANDOM.integers(0, 4, 200).astype(np.int32)
MANY_LOGITS = RANDOM.normal(scale=3, size=(200, 4)).astype(np.float32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_binary_is_keras(smoothing: float, gamma: float) -> None:
    import keras

    keras_loss = keras.losses.BinaryFocalCrossentropy(gamma=gamma, from_logits=True, label_smoothing=smoothing)
    expected = float(keras_loss(BINARY[:, None], LOGITS[:, None]))

    # Keras clips probabilities at 1e-7.
    assert float(Loss("binary", 2, smoothing, gamma)(BINARY, LOGITS)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_many_classes_are_keras(smoothing: float, gamma: float) -> None:
    import keras

    keras_loss = keras.losses.CategoricalFocalCrossentropy(
        alpha=1.0, gamma=gamma, from_logits=True, label_smoothing=smoothing
    )
    expected = float(keras_loss(np.eye(4)[CLASSES], MANY_LOGITS))

    assert float(Loss("multiclass", 4, smoothing, gamma)(CLASSES, MANY_LOGITS)) == pytest.approx(expected, rel=1e-4)


def test_without_options_it_is_the_log_loss() -> None:
    probabilities = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))

    assert float(Loss("binary")(BINARY, LOGITS)) == pytest.approx(log_loss(BINARY, probabilities), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_sure_rows_have_finite_gradients(gamma: float) -> None:
    import tensorflow as tf

    logits = tf.constant([-200.0, -30.0, 0.0, 30.0, 200.0])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = Loss("binary", focal_gamma=gamma)(tf.constant([0.0, 0.0, 1.0, 1.0, 1.0]), logits)

    assert np.isfinite(tape.gradient(value, logits)).all()


def test_a_regression_is_measured_in_deviations() -> None:
    data = small.prepared("regression")
    made = loss.of(small.settings("regression").training, data)
    labels, values = data.sample.labels, data.sample.labels + 7

    assert float(made(labels, values)) == pytest.approx((7 / labels.std()) ** 2, rel=1e-4)
    assert made.base(labels) == pytest.approx(1.0, rel=1e-4)


def test_balanced_weights_are_scikit_learns() -> None:
    data = small.prepared("multiclass")
    made = loss.of(small.settings("multiclass", class_weights="balanced").training, data)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=data.sample.labels)
    logits = np.random.default_rng(1).normal(size=(len(data.sample), 3)).astype(np.float32)
    weighed = log_loss(
        data.sample.labels,
        np.exp(logits) / np.exp(logits).sum(1, keepdims=True),
        sample_weight=expected[data.sample.labels],
    )

    np.testing.assert_allclose(made.weights, expected)
    assert float(made(data.sample.labels, logits)) == pytest.approx(weighed, rel=1e-4)


def test_weights_by_name_leave_the_other_classes_at_one() -> None:
    made = loss.of(small.settings(class_weights={"yes": 3.0}).training, small.prepared())

    assert made.weights == (1.0, 3.0)
    assert float(made.rows(np.float32([1]), np.float32([0]))[0]) == pytest.approx(3 * np.log(2))


def test_weights_of_unknown_classes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"class_weights.yess: no such class; did you mean 'yes'"):
        loss.of(small.settings(class_weights={"yess": 3.0}).training, small.prepared())


def test_the_base_loss_is_that_of_the_shares() -> None:
    shares = np.bincount(CLASSES, minlength=4) / len(CLASSES)
    expected = -(shares * np.log(shares)).sum()

    assert Loss("multiclass", 4).base(CLASSES) == pytest.approx(expected, rel=1e-5)


def test_plain_is_zero_for_a_network_that_is_sure_and_right() -> None:
    smooth = Loss("binary", 2, 0.1, 0.0, (1.0, 2.0))

    assert float(smooth(BINARY, 200 * (BINARY - 0.5))) > 1
    assert float(smooth.plain()(BINARY, 200 * (BINARY - 0.5))) == pytest.approx(0, abs=1e-6)
