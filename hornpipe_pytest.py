"""A pytest plugin for tests of one's own against a bundle: `pytest --bundle models/flights/3`.

Its fixtures answer as the service does. What they need is imported when the first test asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from contract.bundle import Bundle

Rows = list[dict[str, Any]]
Predict = Callable[[Rows], Rows]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--bundle`, the version folder that the fixtures speak of."""
    parser.getgroup("hornpipe").addoption(
        "--bundle", type=Path, metavar="DIR", help="a version folder for the fixtures bundle, predict, golden_rows"
    )


@pytest.fixture(scope="session")
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """The bundle of `--bundle`, with every file as its manifest states."""
    path: Path | None = request.config.getoption("--bundle")
    if path is None:
        raise pytest.UsageError("this test needs a bundle: pytest --bundle models/NAME/VERSION")
    from contract.bundle import read, verify

    found = read(path)
    verify(found)
    return found


@pytest.fixture(scope="session")
def predict(bundle: Bundle) -> Predict:
    """Raw rows to predictions, one a row, worded as POST /predict words them. Rows that it would refuse raise
    service.errors.InvalidRequest with every problem."""
    from contract import runtimes
    from contract.features import Encoder
    from service.errors import InvalidRequest
    from service.predictor import predictions

    variant, _ = runtimes.choose(bundle.manifest)
    runtime, encoder = runtimes.load(bundle, variant), Encoder(bundle.manifest.features)

    def answer(rows: Rows) -> Rows:
        encoded = encoder.encode(rows)
        if isinstance(encoded, list):
            lines = "; ".join(f"{p.path}: {p.problem}, expected {p.expected}, got {p.received}" for p in encoded)
            raise InvalidRequest(lines, encoded)
        return predictions(bundle.manifest.output, runtime.run(encoded)[bundle.manifest.output.name])

    return answer


@pytest.fixture(scope="session")
def golden_rows(bundle: Bundle) -> Rows:
    """Raw held-out rows that travel in the bundle, and their edge cases."""
    return [dict(example.row) for example in bundle.manifest.golden]


@pytest.fixture(scope="session")
def input_shape(bundle: Bundle) -> dict[str, tuple[int | None, ...]]:
    """Shapes of the packed tensors that the network takes, by name; None is the number of rows."""
    from contract.features import Encoder

    encoded = Encoder(bundle.manifest.features).encode([dict(bundle.manifest.golden[0].row)])
    if isinstance(encoded, list):
        raise pytest.UsageError(f"{bundle.path} refuses its own golden row: {encoded[0]}")
    parts = encoded._asdict().items()
    return {name: (None, *part.shape[1:]) for name, part in parts if part is not None and part.shape[1:] != (0,)}
