"""TensorFlow Serving's answers: predictions, outputs, results, statuses, metadata and errors."""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from contract.manifest import BinaryOutput, Manifest, MulticlassOutput, RegressionOutput
from contract.runtimes import Outputs
from contract.signature import TensorSpec
from service.errors import InvalidRequest
from service.versions.slot import VersionStatus
from service.wire import lenient
from service.wire.tensors import TFS_NAMES

# The reason itself names paths of this machine: it is in the log.
REFUSED = "the version did not load or prove itself; see the log"
CLASSIFY, REGRESS, PREDICT = (f"tensorflow/serving/{method}" for method in ("classify", "regress", "predict"))

# Outputs of text whose name ends so are bytes.
_BYTES = "_bytes"
_STATES = {"loading": "LOADING", "ready": "AVAILABLE", "refused": "END"}


def by_row(outputs: Outputs) -> bytes:
    """`predictions`: of the only output its rows, of several an object a row."""
    _check_rows(outputs)
    if len(outputs) == 1:
        ((name, output),) = outputs.items()
        return _body("predictions", _values(name, output))
    heads = [b"%s: " % orjson.dumps(name) for name in outputs]
    columns = [_each_row(name, output) for name, output in outputs.items()]
    rows = (b", ".join(map(b"".join, zip(heads, row, strict=True))) for row in zip(*columns, strict=True))
    return _body("predictions", b"[%b]" % b", ".join(b"{%b}" % row for row in rows))


def by_column(outputs: Outputs, key: str = "outputs") -> bytes:
    """`outputs`: the only output, or an object of all."""
    return _body(key, column_value(outputs))


def column_value(outputs: Outputs) -> bytes:
    """What stands under `outputs`."""
    if len(outputs) == 1:
        ((name, output),) = outputs.items()
        return _values(name, output)
    return b"{%b}" % b", ".join(b"%b: %b" % (orjson.dumps(name), _values(name, each)) for name, each in outputs.items())


def results(method: str, manifest: Manifest, outputs: Outputs) -> bytes:
    """Classes and their scores, or values. Raises InvalidRequest for a model that has none."""
    require_method(method, manifest)
    output = manifest.output
    answers = outputs[output.name]
    if isinstance(output, RegressionOutput):
        return _body("results", lenient.numbers(answers))
    if isinstance(output, BinaryOutput):
        positive = output.classes.index(output.positive)
        answers = np.stack([answers, 1 - answers] if positive == 0 else [1 - answers, answers], axis=1)
    assert isinstance(output, BinaryOutput | MulticlassOutput)  # noqa: S101  # for the type checker
    labels = [orjson.dumps(name) for name in output.classes]
    rows = ([lenient.numbers(score.reshape(1))[1:-1] for score in row] for row in answers)
    pairs = (b", ".join(b"[%b, %b]" % pair for pair in zip(labels, row, strict=True)) for row in rows)
    return _body("results", b"[%b]" % b", ".join(b"[%b]" % row for row in pairs))


def require_method(method: str, manifest: Manifest) -> None:
    """Raises InvalidRequest for a model that does not classify, or does not regress."""
    if _method(manifest) != f"tensorflow/serving/{method}":
        kind = {"classify": "classification", "regress": "regression"}[method]
        raise InvalidRequest(
            f"Expected {kind} signature method_name to be tensorflow/serving/{method}. Was: {_method(manifest)}"
        )


def status(versions: Iterable[VersionStatus]) -> list[dict[str, Any]]:
    """`model_version_status`, the newest first."""
    return [
        {
            "version": str(each.version),
            "state": _STATES[each.state],
            "status": {
                "error_code": "UNKNOWN" if each.refused else "OK",
                "error_message": REFUSED if each.refused else "",
            },
        }
        for each in sorted(versions, key=lambda each: -each.version)
    ]


def metadata(manifest: Manifest) -> bytes:
    """The model's version and its signature."""
    signature = manifest.signature
    definition = {
        "inputs": {spec.name: _info(spec, f"serving_default_{spec.name}:0") for spec in signature.inputs},
        "outputs": {spec.name: _info(spec, f"StatefulPartitionedCall:{i}") for i, spec in enumerate(signature.outputs)},
        "method_name": PREDICT,
        "defaults": {},
    }
    spec = {"name": manifest.name, "signature_name": "", "version": str(manifest.version)}
    signatures = {"signature_def": {"signature_def": {"serving_default": definition}}}
    return pretty({"model_spec": spec, "metadata": signatures})


def pretty(value: Mapping[str, Any]) -> bytes:
    """An object for people too."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)


def error(message: str) -> bytes:
    """The body of every error."""
    return b'{\n    "error": %b\n}' % orjson.dumps(message)


def _method(manifest: Manifest) -> str:
    match manifest.output:
        case BinaryOutput() | MulticlassOutput():
            return CLASSIFY
        case RegressionOutput():
            return REGRESS
    return PREDICT


def _body(key: str, value: bytes) -> bytes:
    return b'{\n    "%b": %b\n}' % (key.encode(), value)


def _info(spec: TensorSpec, name: str) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in spec.shape]
    return {
        "dtype": TFS_NAMES[spec.dtype],
        "tensor_shape": {"dim": dimensions, "unknown_rank": False},
        "name": name,
    }


def _check_rows(outputs: Outputs) -> None:
    """Raises InvalidRequest where outputs have different numbers of rows."""
    count = -1
    for name, output in outputs.items():
        if not output.ndim:
            raise InvalidRequest(f"Tensor name: {name} has no shape information ")
        if count not in (-1, len(output)):
            raise InvalidRequest(f"Tensor name: {name} has inconsistent batch size: {len(output)} expecting: {count}")
        count = len(output)


def _each_row(name: str, output: NDArray[Any]) -> list[bytes]:
    if output.ndim > 1:
        return [_values(name, row) for row in output]
    if output.dtype.kind not in "OSU":
        return _values(name, output)[1:-1].split(b",")
    return [orjson.dumps(_texts(value, name.endswith(_BYTES))) for value in output.tolist()]


def _values(name: str, output: NDArray[Any]) -> bytes:
    if output.dtype.kind not in "OSU":
        if output.dtype.name in ("float16", "bfloat16"):
            kind = {"float16": "half"}.get(output.dtype.name, output.dtype.name)
            raise InvalidRequest(f"Failed to write JSON value for tensor type: {kind}")
        return lenient.numbers(output)
    return orjson.dumps(_texts(output.tolist(), name.endswith(_BYTES)))


def _texts(value: object, as_bytes: bool) -> object:
    if isinstance(value, list):
        return [_texts(each, as_bytes) for each in value]
    content = value if isinstance(value, bytes) else str(value).encode()
    if not as_bytes:
        try:
            return content.decode()
        except UnicodeDecodeError:  # which TensorFlow Serving sends as it is, and no client can read
            pass
    return {"b64": base64.b64encode(content).decode()}
