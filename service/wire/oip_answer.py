"""Answers of the Open Inference Protocol, in JSON or with binary tensors behind it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from contract.manifest import BinaryOutput, Manifest, MulticlassOutput
from contract.runtimes import Outputs
from service.wire import lenient
from service.wire.oip_request import Asked, Wanted
from service.wire.tensors import OIP_NAMES, dtype_of, to_raw

Tensor = NDArray[Any]

PLATFORM = "tensorflow_savedmodel"


def write(manifest: Manifest, outputs: Outputs, asked: Asked) -> tuple[bytes, int | None]:
    """The body, and how long its JSON is where binary tensors follow."""
    wanted = chosen(manifest, outputs, asked)
    parts: list[bytes] = []
    described = [_described(each, tensor, parts) for each, tensor in wanted]
    head: dict[str, Any] = {} if asked.id is None else {"id": asked.id}
    head |= {"model_name": manifest.name, "model_version": str(manifest.version)}
    text = b'%b,"outputs":[%b]}' % (orjson.dumps(head)[:-1], b",".join(described))
    return (text + b"".join(parts), len(text)) if parts or any(each.binary for each, _ in wanted) else (text, None)


def chosen(manifest: Manifest, outputs: Outputs, asked: Asked) -> list[tuple[Wanted, Tensor]]:
    """The outputs that are asked for, as they are asked for."""
    wanted = asked.outputs or [Wanted(spec.name, asked.binary, 0) for spec in manifest.signature.outputs]
    labels = _labels(manifest)
    return [
        (each, _largest(outputs[each.name], each.classes, labels) if each.classes else outputs[each.name])
        for each in wanted
    ]


def error(message: str) -> bytes:
    """The body of every error."""
    return orjson.dumps({"error": message})


def _described(wanted: Wanted, tensor: Tensor, parts: list[bytes]) -> bytes:
    """An output's object; its bytes go to `parts` where they are binary."""
    name, datatype = orjson.dumps(wanted.name), OIP_NAMES[dtype_of(tensor)].encode()
    head = b'{"name":%b,"datatype":"%b","shape":%b' % (name, datatype, orjson.dumps(tensor.shape))
    if wanted.binary:
        parts.append(to_raw(tensor))
        return b'%b,"parameters":{"binary_data_size":%d}}' % (head, len(parts[-1]))
    return b'%b,"data":%b}' % (head, _flat(tensor))


def _flat(tensor: Tensor) -> bytes:
    if tensor.dtype.kind in "OSU":
        return orjson.dumps([_text(each) for each in tensor.ravel().tolist()])
    wide = tensor.astype(np.float32) if dtype_of(tensor) in ("float16", "bfloat16") else tensor
    return lenient.numbers(wide.ravel())


def _text(value: object) -> str:
    """Bytes that are no text are not for JSON: a client that needs them asks for binary tensors."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _largest(tensor: Tensor, count: int, labels: Sequence[str]) -> Tensor:
    """The largest values of each row as `value:index`, with the label where there is one."""
    rows = tensor.reshape(len(tensor), -1)
    best = np.argsort(-rows, axis=1, kind="stable")[:, :count]
    named = len(labels) == rows.shape[1]
    found = [
        [f"{row[i]:f}:{i}:{labels[i]}" if named else f"{row[i]:f}:{i}" for i in order]
        for row, order in zip(rows, best, strict=True)
    ]
    return np.array(found, object)


def _labels(manifest: Manifest) -> Sequence[str]:
    output = manifest.output
    return output.classes if isinstance(output, BinaryOutput | MulticlassOutput) else ()
