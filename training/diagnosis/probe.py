"""A look into the network at one step: gradients, activations and updates by layer, for the doctor and the report.

Nothing is changed by looking: the network runs as in serving (`training=False`), so that no moving average and no
random generator moves, and a run that is probed ends in the same weights as one that is not.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

import keras
import numpy as np
import tensorflow as tf

from training.diagnosis.signals import Activation, LayerSignal, Probe
from training.task import Task

Tensor = Any  # tf.Tensor: TensorFlow has no type information
Loss = Callable[[Tensor, Tensor], Tensor]
Scalars = dict[tuple[str, str], Tensor]
T = TypeVar("T")

# A value is in the flat part of a sigmoid or tanh where the slope is below this share of the steepest: |x| > 6 for the
# sigmoid, |x| > 3 for tanh. (SageMaker Debugger's SaturatedActivation has x < -23, x > 17 and |x| > 9.5, where the
# slope is 0 in float32; by then training has long stood still.)
FLAT_SLOPE = 0.01

_NETWORK = ""  # the layer name under which the numbers of the whole network are kept


@dataclass(frozen=True)
class _Part:
    """A layer (or an operation such as keras.ops.relu) worth watching, and its trainable weights by number."""

    name: str
    operation: Any
    activation: Activation | None
    weights: tuple[int, ...]


@dataclass
class _Before:
    """What `before` found, until `after` completes it."""

    numbers: dict[tuple[str, str], float]
    weights: list[Tensor]


@dataclass
class _Watch:
    """Sees what goes into and comes out of the parts while the network is traced."""

    graph: Any
    seen: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def note(self, part: _Part, value: Tensor, output: Tensor) -> None:
        # A tensor inside a loop or a function of its own (the cell of a recurrent layer) cannot be taken out of it.
        visible = isinstance(output, tf.Tensor) and tf.compat.v1.get_default_graph() is self.graph
        if visible and output.dtype.is_floating:
            self.seen[part.name] = (value, tf.cast(output, tf.float32))


class Prober:
    """Probes `model` (inputs -> logits) with `loss`: (labels, logits) -> the loss of each row.

    Works for any Keras model. What cannot be seen of a layer (a part that is no layer, the inside of a loop) is None.
    """

    def __init__(self, model: keras.Model, task: Task, loss: Loss) -> None:
        self._model = model
        self._task = task
        self._loss = loss
        self._parts = _parts(model)
        self._keys: list[tuple[str, str]] = []
        self._before: _Before | None = None
        self._compiled_look = tf.function(self._look_on_device, autograph=False, reduce_retracing=True)
        self._compiled_updates = tf.function(self._updates, autograph=False, reduce_retracing=True)

    def before(self, inputs: dict[str, Tensor], labels: Tensor) -> None:
        """Look at the network on one training batch, and remember its weights; one step, then `after`."""
        values, weights = self._compiled_look(inputs, labels)
        self._before = _Before(dict(zip(self._keys, map(float, values.numpy()), strict=True)), weights)

    def after(self, step: int, loss: float, learning_rate: float, input_wait: float = 0.0) -> Probe:
        """The probe of `step`, the one training step since `before`. Raises RuntimeError without one."""
        if self._before is None:
            raise RuntimeError("Prober.after needs a Prober.before since the last one")
        numbers = dict(self._before.numbers)
        updates = self._compiled_updates(self._before.weights).numpy()
        self._before = None
        for part, (update, weight) in zip(self._weighted, updates, strict=True):
            numbers |= {(part.name, "update"): float(update), (part.name, "weight"): float(weight)}
        network = {name: value for (layer, name), value in numbers.items() if layer == _NETWORK}
        return Probe(
            step=step,
            loss=loss,
            learning_rate=learning_rate,
            input_wait=input_wait,
            layers=self._signals(numbers),
            **network,
        )

    def input_scales(self, inputs: dict[str, Tensor]) -> tuple[float, float]:
        """The largest absolute mean and the largest deviation over the columns (or channels) that reach the first
        layer that learns, embeddings apart: `Facts.input_mean` and `Facts.input_deviation`. (0, 1) where that layer
        normalises by itself, or its input cannot be seen."""
        mean, deviation = _on_first_replica(self._model, self._scales, inputs)
        return float(mean), float(deviation)

    @property
    def _weighted(self) -> list[_Part]:
        return [part for part in self._parts if part.weights]

    def _signals(self, numbers: dict[tuple[str, str], float]) -> tuple[LayerSignal, ...]:
        """In the order of the calls that were seen; layers that were not seen come last."""
        order = list(dict.fromkeys(layer for layer, _ in numbers if layer != _NETWORK))
        activations = {part.name: part.activation for part in self._parts}
        return tuple(
            LayerSignal(
                layer=name,
                activation=activations[name],
                **{what: value for (layer, what), value in numbers.items() if layer == name},
            )
            for name in order
        )

    def _look_on_device(self, inputs: dict[str, Tensor], labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """On one replica: under a MirroredStrategy gradients can be had only inside `run`, and all replicas agree."""
        return _on_first_replica(self._model, self._look, inputs, labels)

    def _look(self, inputs: dict[str, Tensor], labels: Tensor) -> tuple[Tensor, list[Tensor]]:
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape, self._watching() as watch:
            logits = self._model(inputs, training=False)
            loss = tf.reduce_mean(tf.cast(self._loss(labels, logits), tf.float32))
        gradients = [_dense(gradient) for gradient in tape.gradient(loss, variables)]
        scores = self._task.activation(tf.cast(logits, tf.float32))
        scalars: Scalars = {
            (_NETWORK, "gradient_norm"): tf.linalg.global_norm([g for g in gradients if g is not None]),
            (_NETWORK, "spread"): _spread(scores),
            (_NETWORK, "label_spread"): _spread(self._one_hot(labels, logits)),
        }
        scalars |= self._activations(watch)
        scalars |= self._gradients(gradients)
        self._keys = list(scalars)
        return tf.stack(list(scalars.values())), [tf.identity(variable.value) for variable in variables]

    def _one_hot(self, labels: Tensor, logits: Tensor) -> Tensor:
        if self._task.name == "multiclass":
            return tf.one_hot(tf.cast(labels, tf.int32), logits.shape[-1])
        return tf.cast(labels, tf.float32)

    def _activations(self, watch: _Watch) -> Scalars:
        activations = {part.name: part.activation for part in self._parts}
        scalars: Scalars = {}
        for name, (_, output) in watch.seen.items():
            scalars |= {(name, what): value for what, value in _of_activation(output, activations[name]).items()}
        return scalars

    def _gradients(self, gradients: list[Tensor | None]) -> Scalars:
        return {(part.name, "gradient"): _mean_gradient(gradients, part) for part in self._weighted}

    def _updates(self, before: list[Tensor]) -> Tensor:
        """float32 [layers with weights, 2]: the norms of the change since `before`, and of the weights before."""
        return _on_first_replica(self._model, self._updates_here, before)

    def _updates_here(self, before: list[Tensor]) -> Tensor:
        now = [variable.value for variable in self._model.trainable_variables]
        norms = [
            (
                tf.linalg.global_norm([tf.cast(now[i] - before[i], tf.float32) for i in part.weights]),
                tf.linalg.global_norm([tf.cast(before[i], tf.float32) for i in part.weights]),
            )
            for part in self._weighted
        ]
        return tf.reshape(tf.stack([norm for pair in norms for norm in pair]), (-1, 2)) if norms else tf.zeros((0, 2))

    def _scales(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        with self._watching() as watch:
            self._model(inputs, training=False)
        learns = {part.name: part.operation for part in self._weighted}
        for name, (value, _) in watch.seen.items():
            if name in learns and not isinstance(learns[name], keras.layers.Embedding):
                if _normalises(learns[name]) or not _is_float(value):
                    break
                mean, variance = _moments_by_unit(tf.cast(value, tf.float32))
                return tf.reduce_max(tf.abs(mean)), tf.reduce_max(tf.sqrt(variance))
        return tf.constant(0.0), tf.constant(1.0)

    @contextmanager
    def _watching(self) -> Iterator[_Watch]:
        """Within, calls of the parts are seen. Keras has no hooks, so each part's `call` is wrapped while tracing."""
        watch = _Watch(tf.compat.v1.get_default_graph())
        own = {part.name: vars(part.operation).get("call") for part in self._parts}
        for part in self._parts:
            vars(part.operation)["call"] = _watched(part, watch)
        try:
            yield watch
        finally:
            for part in self._parts:
                del vars(part.operation)["call"]
                if own[part.name] is not None:
                    vars(part.operation)["call"] = own[part.name]


def _watched(part: _Part, watch: _Watch) -> Callable[..., Tensor]:
    call = part.operation.call

    def watched(*args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401  # whatever the layer takes
        output = call(*args, **kwargs)
        watch.note(part, args[0] if args else None, output)
        return output

    return watched


def _on_first_replica(model: keras.Model, function: Callable[..., T], *args: Any) -> T:  # noqa: ANN401  # tensors
    strategy = model.distribute_strategy
    if strategy is None or strategy.num_replicas_in_sync == 1:
        return function(*args)
    results = strategy.run(function, args=args)
    first: T = tf.nest.map_structure(lambda result: strategy.experimental_local_results(result)[0], results)
    return first


def _parts(model: keras.Model) -> list[_Part]:
    """Layers that have weights of their own or a known activation, each once, however deep they are nested."""
    operations = _operations(model)
    owned = _owned(model, operations)
    parts: list[_Part] = []
    names: set[str] = set()
    for operation in operations:
        activation, weights = _activation(operation), owned.get(id(operation), ())
        if activation is not None or weights:
            name = _distinct(operation, names)
            names.add(name)
            parts.append(_Part(name, operation, activation, weights))
    return parts


def _operations(model: keras.Model) -> list[Any]:
    # Keras' own list of all layers inside layers; there is no public one that looks into custom layers.
    layers = model._flatten_layers(include_self=True)
    inside = [operation for layer in layers for operation in getattr(layer, "operations", ())]
    return list({id(operation): operation for operation in [*layers, *inside]}.values())


def _owned(model: keras.Model, operations: list[Any]) -> dict[int, tuple[int, ...]]:
    """The trainable weights of the model, by number, under the innermost layer that has them."""
    owner: dict[int, Any] = {}
    sizes: dict[int, int] = {}
    for operation in operations:
        held = getattr(operation, "trainable_variables", ())
        for variable in held:
            if len(held) <= sizes.get(id(variable), len(held)):
                owner[id(variable)], sizes[id(variable)] = operation, len(held)
    owned: dict[int, tuple[int, ...]] = {}
    for i, variable in enumerate(model.trainable_variables):
        key = id(owner[id(variable)])
        owned[key] = (*owned.get(key, ()), i)
    return owned


def _distinct(operation: Any, names: set[str]) -> str:  # noqa: ANN401  # a Keras layer
    """Its name; where another has it too, with its path (inner models repeat the names of outer ones)."""
    name = str(operation.name)
    if name in names:
        name = str(getattr(operation, "path", None) or name)
    count = 2
    while name in names:
        name, count = f"{operation.name}_{count}", count + 1
    return name


def _activation(operation: Any) -> Activation | None:  # noqa: ANN401  # a Keras layer or operation
    """Of its output; None where that is linear. Recurrent layers use their activation inside, not at their output."""
    if isinstance(operation, keras.layers.RNN | keras.Model):
        return None
    if isinstance(operation, keras.layers.ReLU):
        return "other" if operation.negative_slope else "relu"
    if isinstance(operation, keras.layers.Softmax):
        return "softmax"
    function = getattr(operation, "activation", None)
    if function is None:
        known = type(operation).__name__.lower() if not isinstance(operation, keras.Layer) else ""
        return _named(known) if _named(known) != "other" else None
    name = str(getattr(function, "__name__", type(function).__name__)).lower()
    return None if name == "linear" else _named(name)


def _named(name: str) -> Activation:
    kinds: dict[str, Activation] = {kind: kind for kind in get_args(Activation)}
    return kinds.get(name.removesuffix("6"), "other")  # relu6 dies as relu does


def _normalises(layer: Any) -> bool:  # noqa: ANN401  # a Keras layer
    kinds = (
        keras.layers.BatchNormalization,
        keras.layers.LayerNormalization,
        keras.layers.GroupNormalization,
        keras.layers.UnitNormalization,
    )
    return isinstance(layer, kinds)


def _is_float(value: Tensor) -> bool:
    return isinstance(value, tf.Tensor) and value.dtype.is_floating and value.shape.rank is not None


def _dense(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else tf.cast(tf.convert_to_tensor(gradient), tf.float32)


def _mean_gradient(gradients: list[Tensor | None], part: _Part) -> Tensor:
    """Mean absolute gradient of the layer's weights; 0 where the loss does not depend on them.

    Of an embedding, over the rows that the batch touches: the mean over all would only tell how large it is.
    """
    known = [gradient for gradient in (gradients[i] for i in part.weights) if gradient is not None]
    if not known:
        return tf.constant(0.0)
    total = tf.add_n([tf.reduce_sum(tf.abs(gradient)) for gradient in known])
    if isinstance(part.operation, keras.layers.Embedding):
        touched = tf.math.count_nonzero(tf.reduce_any(known[0] != 0, axis=-1), dtype=tf.float32)
        return tf.math.divide_no_nan(total, touched * float(known[0].shape[-1]))
    return total / float(sum(np.prod(gradient.shape.as_list(), dtype=np.int64) for gradient in known))


def _of_activation(output: Tensor, activation: Activation | None) -> dict[str, Tensor]:
    mean, variance = tf.nn.moments(output, axes=list(range(output.shape.rank)))
    found = {"mean": mean, "deviation": tf.sqrt(variance)}
    match activation:
        case "relu":
            active = tf.reduce_any(output > 0, axis=_rows(output))
            found["inactive"] = 1 - tf.reduce_mean(tf.cast(active, tf.float32))
        case "sigmoid":
            found["saturated"] = _share(4 * output * (1 - output) < FLAT_SLOPE)
        case "tanh":
            found["saturated"] = _share(1 - output * output < FLAT_SLOPE)
        case "softmax":
            # By row: a softmax over many classes is small nearly everywhere, and yet not flat.
            largest = tf.reduce_max(output, axis=-1)
            found["saturated"] = _share(4 * largest * (1 - largest) < FLAT_SLOPE)
    return found


def _rows(values: Tensor) -> list[int]:
    """All axes but the units, which are the last one (channels last)."""
    return list(range(max(1, values.shape.rank - 1)))


def _moments_by_unit(values: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = tf.nn.moments(values, axes=_rows(values))
    return mean, variance


def _share(holds: Tensor) -> Tensor:
    return tf.reduce_mean(tf.cast(holds, tf.float32))


def _spread(values: Tensor) -> Tensor:
    """Deviation over the rows; the largest one where a row has many values."""
    return tf.reduce_max(tf.math.reduce_std(tf.cast(values, tf.float32), axis=0))
