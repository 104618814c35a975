"""The prober, held to NumPy and to Keras itself."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.diagnosis.probe import Prober
from training.diagnosis.signals import LayerSignal, Probe
from training.task import TASKS


def binary_loss(labels, logits):
    return tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)


def class_loss(labels, logits):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def batch(rows=32, width=5, seed=0):
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(rows, width)).astype(np.float32)
    return inputs, (inputs[:, 0] + 0.3 * random.normal(size=rows) > 0).astype(np.float32)


def network(*layers, width=5):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((width,), name="numbers")
    hidden = inputs
    for layer in layers:
        hidden = layer(hidden)
    return keras.Model({"numbers": inputs}, keras.ops.squeeze(keras.layers.Dense(1, name="logits")(hidden), -1))


def probe(model, inputs, labels, task="binary", loss=binary_loss) -> Probe:
    prober = Prober(model, TASKS[task], loss)
    prober.before({name: tf.constant(values) for name, values in inputs.items()}, tf.constant(labels))
    return prober.after(step=7, loss=0.5, learning_rate=1e-3)


def signals(found: Probe) -> dict[str, LayerSignal]:
    return {signal.layer: signal for signal in found.layers}


def test_numbers_are_those_of_backpropagation_by_hand():
    model = network(keras.layers.Dense(8, activation="relu", name="hidden"))
    numbers, labels = batch()
    w1, b1, w2, b2 = (weight.astype(np.float64) for weight in model.get_weights())

    found = probe(model, {"numbers": numbers}, labels)

    hidden = np.maximum(numbers @ w1 + b1, 0)
    logits = (hidden @ w2 + b2)[:, 0]
    scores = 1 / (1 + np.exp(-logits))
    d_logits = ((scores - labels) / len(labels))[:, None]
    d_hidden = d_logits @ w2.T * (hidden > 0)
    gradients = {
        "hidden": [numbers.T @ d_hidden, d_hidden.sum(axis=0)],
        "logits": [hidden.T @ d_logits, d_logits.sum(axis=0)],
    }
    for layer, expected in gradients.items():
        flat = np.concatenate([gradient.ravel() for gradient in expected])
        assert signals(found)[layer].gradient == pytest.approx(np.abs(flat).mean(), rel=1e-4)
    everything = np.concatenate([gradient.ravel() for both in gradients.values() for gradient in both])
    assert found.gradient_norm == pytest.approx(np.linalg.norm(everything), rel=1e-4)
    assert found.spread == pytest.approx(scores.std(), rel=1e-4)
    assert found.label_spread == pytest.approx(labels.std(), rel=1e-4)
    assert signals(found)["hidden"].inactive == pytest.approx((hidden == 0).all(axis=0).mean())
    assert signals(found)["hidden"].mean == pytest.approx(hidden.mean(), rel=1e-4)
    assert signals(found)["hidden"].deviation == pytest.approx(hidden.std(), rel=1e-4)
    assert [signal.activation for signal in found.layers] == ["relu", None]
    assert (found.step, found.loss, found.learning_rate, found.input_wait) == (7, 0.5, 1e-3, 0.0)


def test_an_update_is_what_the_step_between_changed():
    model = network(keras.layers.Dense(8, activation="relu", name="hidden"))
    numbers, labels = batch()
    inputs = {"numbers": tf.constant(numbers)}
    optimizer = keras.optimizers.SGD(0.1)
    prober = Prober(model, TASKS["binary"], binary_loss)
    prober.before(inputs, tf.constant(labels))
    before = [np.array(weight) for weight in model.get_weights()]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(binary_loss(labels, model(inputs)))
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    found = signals(prober.after(step=1, loss=0.5, learning_rate=0.1))

    after = model.get_weights()
    for layer, (first, second) in {"hidden": (0, 1), "logits": (2, 3)}.items():
        change = np.concatenate([(after[i] - before[i]).ravel() for i in (first, second)])
        norm = np.concatenate([before[i].ravel() for i in (first, second)])
        assert found[layer].update == pytest.approx(np.linalg.norm(change), rel=1e-3)
        assert found[layer].weight == pytest.approx(np.linalg.norm(norm), rel=1e-4)


def test_looking_changes_nothing():
    model = network(
        keras.layers.Dense(8),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.Dropout(0.5, seed=3),
    )
    numbers, labels = batch()
    before = [variable.numpy() for variable in [*model.variables, *model.non_trainable_variables]]

    probe(model, {"numbers": numbers}, labels)

    after = [variable.numpy() for variable in [*model.variables, *model.non_trainable_variables]]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert any("seed" in variable.path for variable in model.non_trainable_variables)
    assert not any("call" in vars(layer) for layer in model.layers)


def test_pictures_inner_models_and_activations_of_their_own_are_seen():
    keras.utils.set_random_seed(0)
    block_in = keras.Input((8, 8, 4))
    block_out = keras.layers.Activation("tanh", name="bend")(
        keras.layers.BatchNormalization(name="normal")(keras.layers.Conv2D(4, 3, name="conv")(block_in))
    )
    block = keras.Model(block_in, block_out, name="block")
    image = keras.Input((8, 8, 1), name="image")
    hidden = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(image)
    hidden = keras.layers.Flatten()(block(hidden))
    hidden = keras.ops.relu(keras.layers.Dense(6, name="wide")(hidden))
    hidden = keras.layers.Softmax(name="shares")(keras.layers.Dense(3, name="narrow")(hidden))
    model = keras.Model({"image": image}, keras.layers.Dense(3, name="logits")(hidden))
    pictures = np.random.default_rng(0).normal(size=(16, 8, 8, 1)).astype(np.float32)
    labels = np.arange(16, dtype=np.int32) % 3

    found = probe(model, {"image": pictures}, labels, "multiclass", class_loss)

    seen = signals(found)
    kinds = {name: signal.activation for name, signal in seen.items() if signal.activation}
    assert list(kinds.values()) == ["relu", "tanh", "relu", "softmax"]  # in the order in which a batch goes through
    assert [name for name in kinds if not name.startswith("relu")] == ["first", "bend", "shares"]
    assert {"conv", "normal", "wide", "narrow", "logits"} <= seen.keys()
    first = keras.Model(model.input, model.get_layer("first").output).predict({"image": pictures}, verbose=0)
    assert seen["first"].inactive == pytest.approx((first == 0).all(axis=(0, 1, 2)).mean())
    assert seen["first"].mean == pytest.approx(first.mean(), rel=1e-4)
    bent = block.predict(first, verbose=0)
    assert seen["bend"].deviation == pytest.approx(bent.std(), rel=1e-4)
    assert seen["bend"].gradient is None
    assert seen["bend"].update is None
    probabilities = keras.ops.softmax(model.predict({"image": pictures}, verbose=0)).numpy()
    assert found.spread == pytest.approx(probabilities.std(axis=0).max(), rel=1e-3)
    assert found.label_spread == pytest.approx(np.eye(3)[labels].std(axis=0).max(), rel=1e-4)


def test_saturation_is_the_share_of_flat_values():
    model = network(
        keras.layers.Dense(50, name="linear", kernel_initializer=keras.initializers.RandomNormal(stddev=3)),
        keras.layers.Activation("sigmoid", name="sigmoid"),
        keras.layers.Dense(50, activation="tanh", name="tanh", kernel_initializer="he_normal"),
    )
    numbers, labels = batch(rows=64)
    linear = keras.Model(model.input, model.get_layer("linear").output).predict({"numbers": numbers}, verbose=0)
    tanh = keras.Model(model.input, model.get_layer("tanh").output).predict({"numbers": numbers}, verbose=0)

    found = signals(probe(model, {"numbers": numbers}, labels))

    slope = np.exp(-linear.astype(np.float64)) / (1 + np.exp(-linear.astype(np.float64))) ** 2
    assert found["sigmoid"].saturated == pytest.approx((slope < 0.01 * 0.25).mean(), abs=1e-3)
    assert 0.2 < found["sigmoid"].saturated < 0.8
    assert found["tanh"].saturated == pytest.approx((np.abs(tanh) > np.sqrt(0.99)).mean(), abs=1e-3)


class WithinALoop(keras.Model):
    """What is inside the loop cannot be seen from outside."""

    def __init__(self):
        super().__init__()
        self.again = keras.layers.Dense(4, activation="tanh", name="again")
        self.memory = keras.layers.LSTM(3, name="memory")
        self.unused = keras.layers.Dense(2, name="unused")
        self.answer = keras.layers.Dense(1, name="answer")

    def build(self, shape):
        self.again.build((None, 4))
        self.memory.build((None, 2, 2))
        self.unused.build((None, 4))
        self.answer.build((None, 3))

    def call(self, inputs):
        hidden = inputs["numbers"]
        _, hidden = tf.while_loop(lambda i, _: i < 3, lambda i, value: (i + 1, self.again(value)), (0, hidden))
        return self.answer(self.memory(keras.ops.reshape(hidden, (-1, 2, 2))))[:, 0]


def test_a_subclassed_model_is_seen_as_far_as_it_can_be():
    keras.utils.set_random_seed(0)
    model = WithinALoop()
    numbers, labels = batch(width=4)
    model({"numbers": tf.constant(numbers)})

    found = signals(probe(model, {"numbers": numbers}, labels))

    assert found["again"].mean is None
    assert found["again"].saturated is None
    assert found["again"].gradient > 0
    assert found["answer"].mean is not None
    assert found["unused"].gradient == 0  # the loss does not depend on it
    assert any(signal.gradient for name, signal in found.items() if name not in ("again", "answer"))


def test_an_embedding_counts_the_rows_that_were_looked_up():
    keras.utils.set_random_seed(0)
    codes = keras.Input((1,), dtype="int32", name="categories")
    hidden = keras.layers.Flatten()(keras.layers.Embedding(10_000, 2, name="embed")(codes))
    model = keras.Model({"categories": codes}, keras.layers.Dense(1, name="logits")(hidden)[:, 0])
    values = np.array([[3], [3], [7], [9]], np.int32)
    labels = np.array([1, 0, 1, 1], np.float32)
    table, w, b = model.get_weights()

    found = probe(model, {"categories": values}, labels)

    scores = 1 / (1 + np.exp(-(table[values[:, 0]] @ w + b)[:, 0]))
    gradient = np.zeros_like(table, dtype=np.float64)
    np.add.at(gradient, values[:, 0], np.outer((scores - labels) / 4, w[:, 0]))
    assert signals(found)["embed"].gradient == pytest.approx(np.abs(gradient[[3, 7, 9]]).mean(), rel=1e-4)
    dense = [gradient, table[values[:, 0]].T @ (scores - labels) / 4, [(scores - labels).mean()]]
    norm = np.sqrt(sum(np.square(part).sum() for part in dense))
    assert found.gradient_norm == pytest.approx(norm, rel=1e-4)


def test_input_scales_are_those_of_what_the_first_layer_gets():
    numbers, _ = batch(rows=200)
    numbers = numbers * np.array([1, 50, 1, 1, 1], np.float32) + np.array([0, 0, 0, -700, 0], np.float32)
    inputs = {"numbers": tf.constant(numbers)}

    def scales(model):
        return Prober(model, TASKS["binary"], binary_loss).input_scales(inputs)

    expected = (np.abs(numbers.mean(axis=0)).max(), numbers.std(axis=0).max())
    assert scales(network(keras.layers.Dense(4))) == pytest.approx(expected, rel=1e-4)
    normalised = keras.layers.Normalization()
    normalised.adapt(numbers)
    assert scales(network(normalised, keras.layers.Dense(4))) == pytest.approx((0, 1), abs=1e-3)
    assert scales(network(keras.layers.BatchNormalization(), keras.layers.Dense(4))) == (0, 1)


def test_what_is_not_finite_is_recorded_as_such():
    model = network(keras.layers.Dense(4, activation="relu", name="hidden"))
    numbers, labels = batch()
    numbers[0, 0] = np.inf

    found = probe(model, {"numbers": numbers}, labels)

    assert np.isnan(found.gradient_norm)
    again = Probe.model_validate_json(found.model_dump_json())
    assert np.isnan(again.gradient_norm)
    assert again.layers[0].update == found.layers[0].update == 0


def test_after_needs_before():
    prober = Prober(network(), TASKS["binary"], binary_loss)
    with pytest.raises(RuntimeError, match=r"needs a Prober\.before"):
        prober.after(step=1, loss=0.5, learning_rate=1e-3)


def test_layers_of_one_name_are_told_apart():
    keras.utils.set_random_seed(0)

    def inner(name):
        value = keras.Input((5,))
        return keras.Model(value, keras.layers.Dense(5, name="same")(value), name=name)

    found = probe(network(inner("one"), inner("two")), {"numbers": batch()[0]}, batch()[1])
    assert len(found.layers) == len({signal.layer for signal in found.layers}) == 3


MIRRORED = """
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.training.diagnosis.test_probe import batch, binary_loss, network, probe
numbers, labels = batch()
single = network(keras.layers.Dense(8, activation="relu", name="hidden"))
alone = probe(single, {"numbers": numbers}, labels)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = network(keras.layers.Dense(8, activation="relu", name="hidden"))
model.set_weights(single.get_weights())
both = probe(model, {"numbers": numbers}, labels)
assert np.allclose(alone.gradient_norm, both.gradient_norm, rtol=1e-5)
for one, other in zip(alone.layers, both.layers, strict=True):
    for (name, value), (_, same) in zip(one, other, strict=True):
        assert value == same or np.isclose(value, same, rtol=1e-5), (name, value, same)
print("the same")
"""


def test_a_mirrored_model_is_seen_as_one_copy_of_it():
    """In a process of its own: devices are divided before TensorFlow starts."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(MIRRORED)], capture_output=True, text=True)
    assert done.stdout.strip() == "the same", done.stderr[-2000:]
