"""What is written down about an imported model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from contract import histogram
from contract.features import Encoded, Encoder
from contract.manifest import Choice, DataFacts, DriftBaseline, GoldenExample, Manifest, TensorsOutput, Variant
from contract.signature import is_number
from contract.tensors import plain
from training.export import code_revision
from training.exporting import outliers
from training.exporting.golden import GOLDEN_ROWS
from training.importing.rows import Rows, answers, values_a_row
from training.importing.source import Original
from training.importing.variants import Form

# By how much answers may differ from the original's, in units of the largest of them.
TOLERANCE = 1e-3

SEED = 0

# Golden examples travel in the manifest, so fewer of them do where they are large.
MOST_GOLDEN_VALUES = 400_000


@dataclass(frozen=True)
class Import:
    """What is asked for: where the model is and what it will be called; real rows, if there are any; which of its
    signatures; by how much a form of it may differ; whether Python code in a Keras file may run."""

    source: Path
    name: str
    sample: Path | None = None
    signature: str | None = None
    tolerance: float = TOLERANCE
    unsafe: bool = False


@dataclass(frozen=True)
class Subject:
    """The model, the rows it was asked, itself with its answers to them, and what these are."""

    found: Original
    rows: Rows
    reference: Form
    output: TensorsOutput


def golden_rows(subject: Subject) -> Encoded:
    """A few of the rows, evenly spread; the fewer, the larger they or their answers are."""
    encoded = subject.rows.encoded
    largest = max(values_a_row(encoded), *(math.prod(each.shape[1:]) for each in subject.reference.outputs.values()))
    count = max(1, min(GOLDEN_ROWS, MOST_GOLDEN_VALUES // largest, encoded.rows))
    return encoded.take(np.unique(np.linspace(0, encoded.rows - 1, count).astype(np.int64)))


def manifest(asked: Import, subject: Subject, measured: Sequence[Variant], chosen: Choice) -> Manifest:
    """All but the version's number, which it gets when it is published."""
    found, drift = subject.found, _baseline(subject)
    return Manifest(
        name=asked.name,
        version=1,
        created=datetime.now(UTC),
        code_revision=code_revision(),
        task="tensors",
        config={
            "imported": str(asked.source),
            "sample": str(asked.sample) if asked.sample else None,
            "signature": found.signature,
            "tolerance": asked.tolerance,
        },
        data=DataFacts(
            fingerprint=found.fingerprint,
            source=str(asked.source),
            train_rows=0,
            validation_rows=0,
            test_rows=subject.rows.encoded.rows,
        ),
        features=found.inputs,
        output=subject.output,
        variants=tuple(measured),
        chosen=chosen,
        drift=drift,
        outlier=outliers.of_rows(Encoder(found.inputs), subject.rows.encoded, drift, SEED),
        golden=_examples(subject),
    )


def stamped(draft: Manifest, version: int) -> Manifest:
    """The manifest of the version that it becomes."""
    return draft.model_copy(update={"version": version, "created": datetime.now(UTC)})


def _examples(subject: Subject) -> tuple[GoldenExample, ...]:
    rows = golden_rows(subject)
    inputs, outputs = rows.named(), answers(subject.reference.runtime, rows)
    return tuple(
        GoldenExample(
            row={each.name: plain(inputs[each.name][i, ...], each.dtype) for each in subject.found.inputs},
            tensors={each.name: plain(outputs[each.name][i, ...], each.dtype) for each in subject.output.tensors},
        )
        for i in range(rows.rows)
    )


def _baseline(subject: Subject) -> DriftBaseline:
    """Of a sample, its inputs and outputs that are one number a row; random rows say nothing of what will come."""
    if not subject.rows.sampled:
        return DriftBaseline(rows=0, inputs={}, outputs={}, labels={})
    named, count = subject.rows.encoded.named(), subject.rows.encoded.rows
    inputs = {each.name: named[each.name] for each in subject.found.inputs if is_number(each.dtype, each.shape)}
    scalars = [each.name for each in subject.output.tensors if is_number(each.dtype, each.row)]
    outputs = {name: subject.reference.outputs[name] for name in scalars}
    whole = {name: values for name, values in outputs.items() if values.dtype.kind in "iu"}
    rest = {name: values for name, values in outputs.items() if name not in whole}
    fitted = histogram.fit_numbers(rest, count, histogram.fit_output)
    fitted |= histogram.fit_numbers(whole, count, histogram.fit_whole_output)
    return DriftBaseline(
        rows=count,
        inputs=dict(histogram.fit_numbers(inputs, count, histogram.fit_input)),
        outputs={name: fitted[name] for name in scalars},
        labels={},
    )
