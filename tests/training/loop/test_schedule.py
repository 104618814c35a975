"""The learning rate of every step, against Keras' schedules and callback."""

import numpy as np

from training.loop import schedule
from training.sections import TrainingSection


def section(**values: object) -> TrainingSection:
    return TrainingSection(**values)


def test_the_cosine_is_keras() -> None:
    import keras

    keras_schedule = keras.optimizers.schedules.CosineDecay(1.0, 500)
    expected = [float(keras_schedule(step)) for step in range(0, 500, 7)]

    np.testing.assert_allclose(schedule.shares(section(), 500)[::7], expected, atol=1e-6)


def test_warm_up_rises_evenly_and_hands_over_to_the_cosine() -> None:
    shares = schedule.shares(section(warmup=0.1), 1000)

    np.testing.assert_allclose(np.diff(shares[:100]), 1 / 101)
    assert 0 < shares[0] < 0.02
    assert shares[100] == 1
    np.testing.assert_allclose(shares[100:], schedule.shares(section(), 900))


def test_a_constant_stays() -> None:
    np.testing.assert_array_equal(schedule.shares(section(schedule="constant"), 50), np.ones(50))


def test_the_plateau_is_keras() -> None:
    import keras

    losses = [5, 4, 4, 4, 3, 3, 3, 3, 3, 2, 2]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse")
    callback = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=2, min_delta=0)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"loss": float(loss)})
        better = [loss < min(losses[:i], default=9) for i, loss in enumerate(losses[: epoch + 1])]

        assert schedule.plateau(better, 2) == float(model.optimizer.learning_rate)
