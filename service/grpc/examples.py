"""tf.Example as the rows of a model: what Classify and Regress of TensorFlow Serving send.

An example names features as lists of bytes, floats or integers. A list of one value is that value.
"""

from typing import Any

from contract.tensors import text_of
from service.errors import InvalidRequest
from service.grpc.tfs_pb2 import Example, Input


def read(sent: Input, most_rows: int) -> list[dict[str, Any]]:
    """Rows as JSON would have them; a context holds for all examples, where they do not say otherwise.

    Raises InvalidRequest where there are none, or more than `most_rows`.
    """
    kind = sent.WhichOneof("kind")
    if kind is None:
        raise InvalidRequest("expected an example_list, or an example_list_with_context")
    listed = getattr(sent, kind)
    if not 1 <= len(listed.examples) <= most_rows:
        raise InvalidRequest(f"expected 1 to {most_rows} examples, got {len(listed.examples)}")
    context = _row(listed.context) if kind == "example_list_with_context" else {}
    return [context | _row(example) for example in listed.examples]


def _row(example: Example) -> dict[str, Any]:
    row = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        sent = [] if kind is None else getattr(feature, kind).value
        values = [text_of(value) if isinstance(value, bytes) else value for value in sent]
        row[name] = values[0] if len(values) == 1 else values or None
    return row
