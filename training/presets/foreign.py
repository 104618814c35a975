"""A network that somebody else made: checked against the task, and put in the form of ours."""

from collections.abc import Mapping

import keras
from keras.src.models.functional import Functional  # Keras shows this class under no name of its own

from training.errors import ConfigError
from training.presets.inputs import ModelInputs, Tensor


def adopt(network: object, inputs: ModelInputs, key: str, source: str) -> keras.Model:
    """A functional model of the packed inputs, by name, -> logits float32 [n] or [n, classes], of `network`'s layers.

    `network` may be functional or subclassed, take any of the inputs (or, if it has just one, call it what it likes),
    and end in [n], [n, 1] or [n, classes]. Raises ConfigError(key) that names `source`, what was expected and what
    came.
    """
    if not isinstance(network, keras.Model):
        raise ConfigError(key, [f"{source}: expected a keras.Model, got {type(network).__name__}"])
    problems = [*_input_problems(network, inputs), *_ending_problems(network)]
    if problems:
        raise ConfigError(key, [f"{source}: {problem}" for problem in problems])
    packed = inputs.packed()
    logits = _call(network, packed, key, source)
    return keras.Model(packed, _standard(logits, inputs, key, source), name="network")


def _input_problems(network: keras.Model, inputs: ModelInputs) -> list[str]:
    """Of the inputs of a network that states them: names, shapes and types."""
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in inputs.packed().items()}
    stated = getattr(network, "inputs", None) or []
    got = {_name(tensor, stated, expected): (tensor.shape, tensor.dtype) for tensor in stated}
    problems = []
    for name, (shape, dtype) in got.items():
        if name not in expected:
            problems.append(f"has an input {name!r}; there are {', '.join(sorted(expected))}")
        elif not _fits(shape, expected[name][0]):
            problems.append(f"the input {name!r} is {shape}, the data's is {expected[name][0]}")
        elif (dtype == "string") != (expected[name][1] == "string"):
            problems.append(f"the input {name!r} is {dtype}, the data's is {expected[name][1]}")
    return problems


def _name(tensor: Tensor, stated: list[Tensor], expected: Mapping[str, object]) -> str:
    """Which input is meant: where there is just one on both sides, its name does not matter."""
    return next(iter(expected)) if len(stated) == len(expected) == 1 else tensor.name


def _fits(stated: tuple[int | None, ...], given: tuple[int | None, ...]) -> bool:
    """A network may leave sizes open."""
    return len(stated) == len(given) and all(a in (None, b) for a, b in zip(stated, given, strict=True))


def _ending_problems(network: keras.Model) -> list[str]:
    """A last layer that gives probabilities already is the commonest mistake, and no shape shows it."""
    stated = getattr(network, "outputs", None) or []
    last = [tensor._keras_history.operation for tensor in stated]
    names = [getattr(getattr(layer, "activation", None), "__name__", "") for layer in last]
    return [
        f"ends in {name}; logits are expected, so that the loss is exact: leave out the last activation"
        for name in names
        if name in ("sigmoid", "softmax")
    ]


def _call(network: keras.Model, packed: dict[str, Tensor], key: str, source: str) -> Tensor:
    try:
        if isinstance(network, Functional):
            return _flat(network, packed)
        if isinstance(network, keras.Sequential):
            return network(next(iter(packed.values())))
        return network(packed)
    except Exception as error:  # whatever somebody else's code raises
        lines = str(error).strip().partition("\n")[0]
        raise ConfigError(key, [f"{source}: fails on {_shapes(packed)}: {type(error).__name__}: {lines}"]) from error


def _flat(network: Functional, packed: dict[str, Tensor]) -> Tensor:
    """The network's own layers on our inputs, one by one, not as one layer: the doctor looks at each of them."""
    stated = network.inputs
    tensors = keras.tree.map_structure(lambda tensor: packed[_name(tensor, stated, packed)], network.input)
    if type(network) is not Functional:  # its class may have a `call` of its own
        return network(tensors)
    return keras.models.clone_model(network, input_tensors=tensors, clone_function=lambda layer: layer).output


def _standard(logits: Tensor, inputs: ModelInputs, key: str, source: str) -> Tensor:
    """float32 [n] or [n, classes]."""
    wanted = [(None, inputs.outputs)] if inputs.task.name == "multiclass" else [(None,), (None, 1)]
    shape = getattr(logits, "shape", None)
    if shape not in wanted:
        expected = " or ".join(str(each) for each in wanted)
        got = f"a {type(logits).__name__}" if shape is None else str(shape)
        raise ConfigError(key, [f"{source}: expected logits {expected} for a {inputs.task.name} task, got {got}"])
    if shape == (None, 1):
        logits = logits[:, 0]
    return logits if logits.dtype == "float32" else keras.ops.cast(logits, "float32")


def _shapes(packed: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} {tensor.dtype} {tensor.shape}" for name, tensor in packed.items())
