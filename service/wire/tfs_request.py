"""TensorFlow Serving's requests: rows in `instances`, columns in `inputs`, examples in `examples`."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson
import simdjson
from numpy.typing import NDArray

from contract.kinds import Feature, ImageFeature, NumberFeature
from contract.lists import flatten
from service.errors import InvalidRequest
from service.versions.loaded import LoadedModel
from service.wire import dense, lenient
from service.wire.arrays import objects, of_type

Row = dict[str, Any]
Tensor = NDArray[Any]

DEFAULT_SIGNATURE = "serving_default"

_B64 = "b64"


class Asked(NamedTuple):
    """A predict request. `value` is what stands under `instances`, by `row`, or under `inputs`; dense lists in it may
    be Numbers, which `careful` reads once more. `plain` says that it has no NaN or infinity."""

    signature: str
    row: bool
    value: Any
    plain: bool
    body: bytes

    @property
    def has_numbers(self) -> bool:
        """Whether there may be Numbers in the value."""
        return len(self.body) >= dense.LEAST_BYTES

    def careful(self) -> Any:  # noqa: ANN401  # JSON's
        """The value without Numbers."""
        return lenient.loads(self.body)["instances" if self.row else "inputs"]


def read(body: bytes) -> Asked:
    """Raises NotJSON and InvalidRequest as TensorFlow Serving words them."""
    document, plain = parse(body)
    if not isinstance(document, dict):
        raise _unfit(body, "Is not object")
    return of_document(document, plain, body)


def of_document(document: Row, plain: bool, body: bytes) -> Asked:
    """The same of a body that has been parsed. Raises InvalidRequest."""
    signature = _signature(document)
    if "instances" in document:
        instances = document["instances"]
        if "inputs" in document:
            raise _unfit(body, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ")
        if not isinstance(instances, list | dense.Numbers):
            raise _unfit(body, "Expecting 'instances' to be an list/array")
        if isinstance(instances, list) and not instances:
            raise _unfit(body, "No values in 'instances' array")
        return Asked(signature, True, instances, plain, body)
    if "inputs" not in document:
        raise InvalidRequest("Missing 'inputs' or 'instances' key")
    return Asked(signature, False, document["inputs"], plain, body)


def read_examples(body: bytes, method: str) -> tuple[str, list[Row]]:
    """The signature's name and the rows of a classify or regress request, each with what is in the context."""
    document = lenient.loads(body)
    if not isinstance(document, dict):
        raise _unfit(body, "Is not object")
    signature = _signature(document)
    context = _example(document.get("context", {}))
    if "examples" not in document:
        raise _unfit(body, f"When method is {method}, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise _unfit(body, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _unfit(body, "'examples' value is an empty array")
    return signature, [context | _example(example) for example in examples]


def check_signature(name: str, model: LoadedModel) -> None:
    """Raises InvalidRequest for a signature that the model does not have. A model imported under a signature of another
    name is there by the default one too."""
    if name not in ("", DEFAULT_SIGNATURE, model.manifest.variant(model.variant).signature) or name == "encoded":
        raise InvalidRequest(f'Serving signature name: "{name[: lenient.SHOWN]}" not found in signature def')


def rows(instances: Sequence[object], model: LoadedModel, plain: bool) -> list[Any]:
    """Instances as the encoder takes them; a value stands alone where the model has one input. NaN is a missing number.

    Raises InvalidRequest for a value that stands alone where the model has several inputs.
    """
    features = model.manifest.features
    if is_object(instances[0]):
        return list(instances) if plain else [_without_nan(row, features) for row in instances]
    if len(features) > 1:
        raise InvalidRequest(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if any(map(is_object, instances)):
        return list(instances)
    return [{features[0].name: value} for value in instances]


def is_object(value: object) -> bool:
    """Whether it is an object of inputs, and not a value in base64."""
    return isinstance(value, dict) and not (value.keys() == {_B64} and isinstance(value[_B64], str))


def columns(value: object, model: LoadedModel) -> dict[str, Tensor] | None:
    """The arrays of `inputs`, by name; None where a value does not fit its type or its lists differ in length.

    Inputs that the model does not have are left out, as TensorFlow Serving does. Raises InvalidRequest for one that is
    missing.
    """
    features = model.manifest.features
    if not is_object(value):
        if len(features) > 1:
            raise InvalidRequest(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        value = {features[0].name: value}
    assert isinstance(value, dict)  # noqa: S101  # for the type checker
    found: dict[str, Tensor] = {}
    for feature in features:
        if feature.name in value:
            array = _column(feature, value[feature.name])
            if array is None:
                return None
            found[feature.name] = array
        elif feature.required:
            raise InvalidRequest(f"Missing named input: {feature.name} in 'inputs' object.")
    return found


def parse(body: bytes) -> tuple[Any, bool]:
    """A body's JSON, in which dense lists may be Numbers, and whether all of it is plain. Raises NotJSON."""
    if not body:
        raise lenient.empty()
    document = dense.read(body)
    plain = True
    if document is None:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document, plain = lenient.loads(body), False
    return document, plain


def _unfit(body: bytes, words: str) -> InvalidRequest:
    return InvalidRequest(f"JSON Value: {lenient.show(lenient.loads(body))} {words}")


def _signature(document: Row) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        shown = lenient.show(document)
        raise InvalidRequest(
            f"JSON Value: {shown} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def _example(value: object) -> Row:
    """An example's features; a list of one value is that value."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"Example must be JSON object but got JSON {type_name(value)}")
    return {name: _only(each) for name, each in value.items()}


def _only(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def type_name(value: object) -> str:
    """A JSON type in TensorFlow Serving's words."""
    names = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return str(value) if isinstance(value, bool) else names[type(value)]


def _without_nan(row: object, features: Iterable[Feature]) -> object:
    if not isinstance(row, dict):
        return row
    numbers = {feature.name for feature in features if isinstance(feature, NumberFeature)}
    return {name: None if name in numbers and value != value else value for name, value in row.items()}


def _column(feature: Feature, value: object) -> Tensor | None:
    if isinstance(value, dense.Numbers):
        return value.read(feature.dtype, simdjson.Parser())
    shape, values = flatten([value])
    if not shape:
        return None
    array = _files(values) if isinstance(feature, ImageFeature) else None
    array = of_type(feature.dtype, values) if array is None else array
    return None if array is None else array.reshape(shape[1:])


def _files(values: Sequence[object]) -> Tensor | None:
    """Pictures as files."""
    return objects(values) if set(map(type, values)) == {dict} else None
