"""Quality as samples of /metrics."""

from collections.abc import Iterator, Mapping

from contract.evidence import Metric
from contract.manifest import Manifest
from contract.quality_interval import MEASURED
from service.counting.board import Sample
from service.counting.instruments import (
    QUALITY,
    QUALITY_BASELINE,
    QUALITY_BASELINE_HIGH,
    QUALITY_BASELINE_LOW,
    QUALITY_ESTIMATE,
    QUALITY_ESTIMATE_ERROR,
    QUALITY_ESTIMATE_ROWS,
    QUALITY_HIGH,
    QUALITY_LOW,
    QUALITY_ROWS,
    Instrument,
)

_NAMES = {name for names in MEASURED.values() for name in names}
_REALISED = {"value": QUALITY, "low": QUALITY_LOW, "high": QUALITY_HIGH}
_BASELINE = {"value": QUALITY_BASELINE, "low": QUALITY_BASELINE_LOW, "high": QUALITY_BASELINE_HIGH}


def realised(
    model: str, version: int, rows: int, found: Mapping[str, Metric], expected: Mapping[str, float]
) -> Iterator[Sample]:
    """Of labelled rows, and the error of what was expected of them without their labels."""
    of = model, str(version)
    yield Sample(QUALITY_ROWS.name, of, rows)
    yield from _ends(_REALISED, of, found)
    for name in found.keys() & expected.keys():
        yield Sample(QUALITY_ESTIMATE_ERROR.name, (*of, name), expected[name] - found[name].value)


def estimated(manifest: Manifest, rows: int, estimates: Mapping[str, float]) -> Iterator[Sample]:
    """Of answered rows."""
    of = manifest.name, str(manifest.version)
    yield Sample(QUALITY_ESTIMATE_ROWS.name, of, rows)
    for name, value in estimates.items():
        yield Sample(QUALITY_ESTIMATE.name, (*of, name), value)


def baseline(manifest: Manifest) -> Iterator[Sample]:
    """Of the test rows, what is realised and estimated as well."""
    metrics = {name: metric for name, metric in manifest.metrics.items() if name in _NAMES}
    yield from _ends(_BASELINE, (manifest.name, str(manifest.version)), metrics)


def _ends(instruments: Mapping[str, Instrument], of: tuple[str, ...], found: Mapping[str, Metric]) -> Iterator[Sample]:
    for name, metric in found.items():
        for end, value in metric:
            yield Sample(instruments[end].name, (*of, name), value)
