"""Golden examples: warm-up, self-test and parity check in one.

A bundle carries raw rows and the float32 SavedModel's answers to them. Whoever loads a variant runs the rows through
the very encoder and runtime that will serve, and refuses the variant when an answer differs.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import tensors
from contract.bundle import Bundle, read, verify
from contract.errors import ProofFailed
from contract.features import Encoded, Encoder, Problem
from contract.manifest import GoldenExample, TensorFeature, TensorsOutput, Variant
from contract.runtimes import Outputs, Runtime, installed, load


def prove(bundle: Bundle, variant: Variant, runtime: Runtime) -> float:
    """Run the golden examples, all at once and one by one.

    Returns the largest difference. Raises ProofFailed when it is above the variant's tolerance.
    """
    encoded = encode_golden(bundle)
    expected = expected_outputs(bundle)
    singly = [runtime.run(one) for one in _each_row(encoded)]
    joined = {name: np.concatenate([outputs[name] for outputs in singly]) for name in expected if name in singly[0]}
    compare = differ if isinstance(bundle.manifest.output, TensorsOutput) else _scores_differ
    difference = float(np.max([compare(runtime.run(encoded), expected), compare(joined, expected)]))
    if not difference <= variant.tolerance:  # NaN fails as well
        problem = f"differs by {difference:.3g} on its golden examples, tolerance {variant.tolerance:.3g}"
        raise ProofFailed(bundle.path, [f"{variant.path}: {problem}"])
    return difference


def encode_golden(bundle: Bundle, most: int | None = None) -> Encoded:
    """The golden rows as arrays, or the first so many. Raises ProofFailed when the bundle's features refuse them."""
    encoded = Encoder(bundle.manifest.features).encode([example.row for example in bundle.manifest.golden[:most]])
    if isinstance(encoded, list):
        raise ProofFailed(bundle.path, [f"golden {p.path}: {p.problem}" for p in encoded])
    return encoded


def expected_outputs(bundle: Bundle) -> Outputs:
    """The recorded answers by output. Raises ProofFailed where they are not what the manifest says of its outputs."""
    manifest = bundle.manifest
    if not isinstance(manifest.output, TensorsOutput):
        return {manifest.output.name: golden_outputs(manifest.golden, manifest.output.name)}
    expected, problems = {}, []
    for spec in manifest.output.tensors:
        feature = TensorFeature(name=spec.name, dtype=spec.dtype, shape=spec.row)
        answers = [tensors.read(spec.name, feature, example.tensors[spec.name]) for example in manifest.golden]
        problems += [f"golden {each.path}: {each.problem}" for each in answers if isinstance(each, Problem)]
        stacked = tensors.stack([each for each in answers if isinstance(each, np.ndarray)], len(answers))
        if stacked is None:
            problems.append(f"golden {spec.name}: differs in shape from row to row")
        else:
            expected[spec.name] = stacked
    if problems:
        raise ProofFailed(bundle.path, problems)
    return expected


def golden_outputs(golden: Sequence[GoldenExample], output: str) -> NDArray[np.float32]:
    """The recorded answers, float32 [n] or [n, classes]."""
    return np.array([example.outputs[output] for example in golden], np.float32)


def largest_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Infinity norm of a - b; infinite where the shapes differ."""
    return float(np.max(np.abs(a - b))) if a.shape == b.shape else float("inf")


def differ(outputs: Outputs, expected: Outputs) -> float:
    """The largest difference of any value of any output, in units of the largest finite value that was expected of that
    output, or of 1 where only zeros were; infinite where an output is missing, has another type or shape, where strings
    differ, or NaN and infinity stand in other places."""
    return max(_difference(outputs.get(name), wanted) for name, wanted in expected.items())


def _difference(found: NDArray[Any] | None, expected: NDArray[Any]) -> float:
    if found is None or found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    if not expected.size or np.array_equal(found, expected):
        return 0.0
    if expected.dtype.kind in "OSb":
        return float("inf")
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(finite, np.isfinite(a)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    largest = np.max(np.abs(b[finite]))
    return float(np.max(np.abs(a[finite] - b[finite])) / (largest or 1.0))


def _scores_differ(outputs: Outputs, expected: Outputs) -> float:
    # NumPy's maximum of anything and NaN is NaN; Python's depends on the order.
    return float(np.max([largest_difference(outputs[name], wanted) for name, wanted in expected.items()]))


def _each_row(encoded: Encoded) -> list[Encoded]:
    rows = range(encoded.rows)
    return [encoded.take(slice(i, i + 1)) for i in rows]


def verify_everywhere(path: Path) -> Iterator[str]:
    """Verify a version folder and prove each of its variants on each runtime that is installed; a line for each.

    Raises BundleError, or ProofFailed at the first variant that fails.
    """
    bundle = read(path)
    manifest = bundle.manifest
    verify(bundle)
    yield f"{manifest.name}/{manifest.version}: {len(manifest.files)} files match their checksums"
    for variant in manifest.variants:
        if variant.refused is not None:
            yield f"{variant.name}: not proven, refused: {variant.refused}"
            continue
        if variant.runtime not in installed():
            yield f"{variant.name}: not proven, the runtime {variant.runtime} is not installed"
            continue
        difference = prove(bundle, variant, load(bundle, variant, "cpu"))
        rows = len(manifest.golden)
        yield f"{variant.name}: {rows} golden examples within {difference:.2g} (tolerance {variant.tolerance:.2g})"
