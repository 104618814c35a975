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
    from contract.features import Problem

Rows = list[dict[str, Any]]
Predict = Callable[[Rows], Rows]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--bundle`, the version folder that the fixtures speak of."""
    parser.getgroup("hornpipe").addoption(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="a version folder for the fixtures bundle, predict, input_shape and golden_rows",
    )


@pytest.fixture(scope="session")
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """The bundle of `--bundle`, with every file as its manifest states; a damaged one fails the test."""
    path: Path | None = request.config.getoption("--bundle")
    if path is None:
        pytest.fail("this test needs a bundle: pytest --bundle models/NAME/VERSION", pytrace=False)
    from contract.bundle import read, verify
    from contract.errors import BundleError

    try:
        found = read(path)
        verify(found)
    except BundleError as error:
        pytest.fail(str(error), pytrace=False)
    return found


@pytest.fixture(scope="session")
def predict(bundle: Bundle) -> Predict:
    """Raw rows to predictions, one a row, worded as POST /predict words them.

    Rows that it would refuse raise service.errors.InvalidRequest with every problem. A bundle that does not reproduce
    its golden examples here fails the test.
    """
    from contract import runtimes
    from contract.errors import HornpipeError
    from contract.features import Encoder
    from contract.proof import prove
    from service.errors import InvalidRequest
    from service.inference.answers import predictions

    try:
        variant, _ = runtimes.choose(bundle.manifest)
        runtime, encoder = runtimes.load(bundle, variant), Encoder(bundle.manifest.features)
        prove(bundle, variant, runtime)
    except HornpipeError as error:
        pytest.fail(str(error), pytrace=False)

    def answer(rows: Rows) -> Rows:
        encoded = encoder.encode(rows)
        if isinstance(encoded, list):
            raise InvalidRequest(_lines(encoded), encoded)
        return predictions(bundle.manifest.output, runtime.run(encoded))

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
        pytest.fail(f"{bundle.path} refuses its own golden row: {_lines(encoded)}", pytrace=False)
    parts = encoded._asdict().items()
    return {name: (None, *part.shape[1:]) for name, part in parts if part is not None and part.shape[1:] != (0,)}


def _lines(problems: list[Problem]) -> str:
    return "; ".join(f"{p.path}: {p.problem}, expected {p.expected}, got {p.received}" for p in problems)
