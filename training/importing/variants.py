"""The executable forms of an imported model: made, compared with the original on the same rows, timed, one chosen.

Nobody knows the truth of an imported model's rows, so a form is as good as its answers are the original's.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from tensorflow.lite.python.convert_phase import ConverterError

from contract.bundle import VARIANTS
from contract.errors import RunFailed, RuntimeUnavailable
from contract.features import Encoded
from contract.manifest import Choice, Variant
from contract.proof import differ
from contract.runtimes import LiteRT, Outputs, Runtime, SavedModel
from training.exporting.conversion import FLOAT, NAMES, why
from training.exporting.footprint import footprint
from training.exporting.latency import Latencies, head, latencies
from training.exporting.silence import quiet
from training.importing.rows import Rows, answers
from training.importing.source import Original
from training.variants import MEMORY_ROWS, size

REFERENCE = "savedmodel-original"

# A form of less than float32 is no better known than the rows it was compared on.
FEWEST_ROWS = 32

Failed = dict[str, str]


@dataclass(frozen=True)
class Form:
    """One form, loaded, with its answers."""

    name: str
    path: Path
    runtime: Runtime
    outputs: Outputs


def loaded(found: Original) -> Runtime:
    """The SavedModel itself, as the service runs it."""
    with quiet():
        return SavedModel(found.folder, "cpu", found.signature)


def convert(found: Original, rows: Rows) -> Failed:
    """Write LiteRT's forms beside the original; why those that could not be made could not, by name.

    Those of less than float32 are made only where there is a sample to hold them against: on random rows a network
    answers nothing that its answers to real ones could be judged by.
    """
    folder = found.folder / VARIANTS
    folder.mkdir()
    failed: Failed = {}
    for name in (FLOAT, NAMES["float16"], NAMES["dynamic-int8"]):
        if "string" in {feature.dtype for feature in found.inputs} | {answer.dtype for answer in found.outputs}:
            failed[name] = "LiteRT has no operations on strings"
        elif FLOAT in failed:
            failed[name] = failed[FLOAT]
        elif name != FLOAT and not (rows.sampled and rows.encoded.rows >= FEWEST_ROWS):
            failed[name] = f"there is no --sample of {FEWEST_ROWS} rows or more to compare it on"
        else:
            try:
                (folder / f"{name}.tflite").write_bytes(_lite(found, name))
            except (
                ConverterError,
                RuntimeError,
                ValueError,
                NotImplementedError,
                TypeError,
                tf.errors.OpError,
            ) as error:
                failed[name] = _reason(error)
    return failed


def _reason(error: Exception) -> str:
    """What the converter has to say, in pages of its own language: the operations that LiteRT does not have."""
    missing = re.search(r"^(?:TF Select|Custom) ops: (.+)$", str(error), re.MULTILINE)
    return f"LiteRT cannot do what the model does: {missing[1]}" if missing else why(error)


def measure(
    reference: Form, found: Original, rows: Rows, golden: Encoded, tolerance: float
) -> tuple[list[Variant], Failed]:
    """Every form against the original on the same rows, in the units of contract.proof.differ, and timed.

    One that differs by more than the tolerance is refused, and stays listed with the reason; one that does not even run
    is removed, and the second result says why, by name.
    """
    with quiet():
        forms, failed = _forms(reference, found, rows)
        timed = latencies({form.name: form.runtime for form in forms}, rows.encoded)
    wanted = answers(reference.runtime, golden)
    measured = []
    for form in forms:
        on_golden = differ(answers(form.runtime, golden), wanted)
        difference = max(differ(form.outputs, reference.outputs), on_golden)
        measured.append(_variant(form, found, rows, (difference, tolerance), timed[form.name]))
    return measured, failed


def choose(variants: Sequence[Variant], failed: Mapping[str, str], rows: Rows) -> Choice:
    """The fastest at one row among those that answer as the original does."""
    good = [variant for variant in variants if variant.refused is None]
    best = min(good, key=lambda variant: variant.latency["1"].p50)
    also = "".join(f"; {each.name} refused: {each.refused}" for each in variants if each.refused is not None)
    for reason in dict.fromkeys(failed.values()):
        also += f"; no {', '.join(name for name in failed if failed[name] == reason)}: {reason}"
    if best.name == REFERENCE:
        return Choice(variant=best.name, why=f"nothing that answers the same is faster{also}")
    reference = next(variant for variant in variants if variant.name == REFERENCE)
    speedup = reference.latency["1"].p50 / best.latency["1"].p50
    n = rows.encoded.rows
    on = f"{n} {'row' if n == 1 else 'rows'} of the sample" if rows.sampled else f"{n} random rows"
    same = f"within {best.largest_difference:.2g} of its answers to {on}"
    return Choice(variant=best.name, why=f"{speedup:.1f} times as fast as {REFERENCE} at one row, {same}{also}")


def _lite(found: Original, name: str) -> bytes:
    with quiet():
        converter = tf.lite.TFLiteConverter.from_saved_model(str(found.folder), signature_keys=[found.signature])
        if name != FLOAT:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if name == NAMES["float16"]:
            converter.target_spec.supported_types = [tf.float16]
        content: bytes = converter.convert()
    return content


def _forms(reference: Form, found: Original, rows: Rows) -> tuple[list[Form], Failed]:
    forms, failed = [reference], {}
    for path in sorted((found.folder / VARIANTS).iterdir()):
        try:
            runtime = LiteRT(path, signature=found.signature)
            forms.append(Form(path.stem, path, runtime, answers(runtime, rows.encoded)))
        except (RunFailed, RuntimeUnavailable, RuntimeError, ValueError, KeyError) as error:  # what LiteRT raises
            failed[path.stem] = why(error)
            path.unlink()
    if not any((found.folder / VARIANTS).iterdir()):
        shutil.rmtree(found.folder / VARIANTS)
    return forms, failed


def _variant(form: Form, found: Original, rows: Rows, measured: tuple[float, float], timed: Latencies) -> Variant:
    difference, tolerance = measured
    refused = None if difference <= tolerance else f"differs by {difference:.2g}, allowed {tolerance:.2g}"
    return Variant(
        name=form.name,
        runtime="savedmodel" if form.path == found.folder else "litert",
        path=form.path.relative_to(found.folder).as_posix(),
        signature=found.signature,
        size=size(form.path),
        largest_difference=difference,
        # Another processor rounds otherwise: twice what was seen on many rows here is still the same model.
        tolerance=max(tolerance, 2 * difference) if refused is None else tolerance,
        metrics={},
        latency=timed,
        memory=footprint(form.path, head(rows.encoded, MEMORY_ROWS), found.signature),
        refused=refused,
    )
