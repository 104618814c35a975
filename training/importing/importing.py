"""The table of contents of importing: from anyone's SavedModel or Keras file to a published, proven bundle."""

from pathlib import Path

import numpy as np

from contract import bundle
from contract.bundle import Bundle
from contract.errors import RunFailed
from contract.manifest import TensorsOutput, is_name
from contract.proof import differ
from contract.runtimes import Runtime
from contract.signature import UNKNOWN, TensorSpec
from training.errors import ConfigError, DataError
from training.export import prove_all
from training.importing import rows as importing_rows
from training.importing import source as importing_source
from training.importing import variants as importing_variants
from training.importing.manifest import TOLERANCE, Import, Subject, golden_rows, manifest, stamped
from training.importing.rows import Rows
from training.importing.source import Answer, Original
from training.importing.variants import REFERENCE, Form
from training.progress import TrainingProgress

ROWS_ALONE = 3


def run(asked: Import, models: Path, progress: TrainingProgress) -> Bundle:
    """Publish the next version of `asked.name` under `models`.

    Raises ConfigError, DataError or ProofFailed; then nothing is published.
    """
    _check(asked)
    with bundle.staged(models, asked.name) as staging:
        with progress.stage(f"reading {asked.source}"):
            found = importing_source.bring(asked.source, staging, asked.signature, unsafe=asked.unsafe)
        with progress.stage("asking the original"):
            subject = _ask(asked, found)
        if subject.rows.note:
            progress.console.print(f"  {subject.rows.note}", highlight=False)
        with progress.stage("converting"):
            failed = importing_variants.convert(found, subject.rows)
        with progress.stage("comparing, timing and proving"):
            measured, broken = importing_variants.measure(
                subject.reference, found, subject.rows, golden_rows(subject), asked.tolerance
            )
            chosen = importing_variants.choose(measured, failed | broken, subject.rows)
            draft = manifest(asked, subject, measured, chosen)
            prove_all(Bundle(staging, draft))
        return bundle.publish(staging, lambda version: stamped(draft, version))


def _check(asked: Import) -> None:
    problems = []
    if not is_name(asked.name):
        problems.append(f"--name: expected letters, digits, dots, dashes and underscores, got {asked.name!r}")
    if not 0 < asked.tolerance < 1:
        problems.append(f"--tolerance: expected a number between 0 and 1, got {asked.tolerance:g}")
    if problems:
        raise ConfigError("import", problems)


def _ask(asked: Import, found: Original) -> Subject:
    """The rows, and what the original says to them. Raises DataError where that is not one answer a row, the same for
    the same row whatever stands beside it."""
    runtime = importing_variants.loaded(found)
    rows = _rows(asked, found, runtime)
    try:
        problems = _unlike_rows(rows, runtime)
        outputs = {} if problems else importing_rows.answers(runtime, rows.encoded)
    except RunFailed as error:
        where = str(asked.sample or asked.source)
        raise DataError(where, [f"the model cannot answer these rows: {importing_rows.said(error)}"]) from error
    reference = Form(REFERENCE, found.folder, runtime, outputs)
    if problems or (problems := _unsteady(rows, reference)):
        raise DataError(str(asked.source), problems)
    output = TensorsOutput(tensors=tuple(_spec(each, outputs[each.name].ndim) for each in found.outputs))
    return Subject(found, rows, reference, output)


def _rows(asked: Import, found: Original, runtime: Runtime) -> Rows:
    if asked.sample is not None:
        return importing_rows.sample(asked.sample, found.inputs)
    return importing_rows.random(found.inputs, runtime)


def _unlike_rows(rows: Rows, runtime: Runtime) -> list[str]:
    """Which outputs are not one row a row, for one row and for two."""
    found: dict[str, str] = {}
    for n in (1, min(2, rows.encoded.rows)):
        for name, values in runtime.run(rows.encoded.take(slice(0, n))).items():
            if values.shape[:1] != (n,):
                found[name] = f"output {name}: has the shape {list(values.shape)} for {n} rows, not a row for each"
    return list(found.values())


def _unsteady(rows: Rows, reference: Form) -> list[str]:
    """Whether the first rows are answered alone as they are among others."""
    count = min(ROWS_ALONE, rows.encoded.rows)
    alone = [reference.runtime.run(rows.encoded.take(slice(i, i + 1))) for i in range(count)]
    problems = []
    for name, values in reference.outputs.items():
        by = differ({name: np.concatenate([outputs[name] for outputs in alone])}, {name: values[:count]})
        if by > TOLERANCE:
            doubt = "is it random, or does it look at the other rows of a request?"
            problems.append(f"output {name}: differs by {by:.2g} when a row is asked alone: {doubt}")
    return problems


def _spec(answer: Answer, dimensions: int) -> TensorSpec:
    """An output's declared shape, the rows first; of one that declares none, as many unknown sizes as it has."""
    declared = answer.shape if answer.shape is not None else (UNKNOWN,) * dimensions
    return TensorSpec(name=answer.name, dtype=answer.dtype, shape=(UNKNOWN, *declared[1:]))
