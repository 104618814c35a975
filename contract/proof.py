"""Golden examples: warm-up, self-test and parity check in one.

A bundle carries raw rows and the float32 SavedModel's answers to them. Whoever loads a variant runs the rows through
the very encoder and runtime that will serve, and refuses the variant when an answer differs.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.bundle import Bundle, read, verify
from contract.errors import ProofFailed
from contract.features import Encoded, Encoder
from contract.manifest import GoldenExample, Variant
from contract.runtimes import Runtime, installed, load


def prove(bundle: Bundle, variant: Variant, runtime: Runtime) -> float:
    """Run the golden examples, all at once and one by one.

    Returns the largest difference. Raises ProofFailed when it is above the variant's tolerance.
    """
    manifest = bundle.manifest
    encoded = encode_golden(bundle)
    expected = golden_outputs(manifest.golden, manifest.output.name)
    together = runtime.run(encoded)[manifest.output.name]
    singly = np.concatenate([runtime.run(one)[manifest.output.name] for one in _each_row(encoded)])
    difference = max(largest_difference(together, expected), largest_difference(singly, expected))
    if not difference <= variant.tolerance:  # NaN fails as well
        problem = f"differs by {difference:.3g} on its golden examples, tolerance {variant.tolerance:.3g}"
        raise ProofFailed(bundle.path, [f"{variant.path}: {problem}"])
    return difference


def encode_golden(bundle: Bundle) -> Encoded:
    """The golden rows as arrays. Raises ProofFailed when the bundle's own features refuse them."""
    encoded = Encoder(bundle.manifest.features).encode([example.row for example in bundle.manifest.golden])
    if isinstance(encoded, list):
        raise ProofFailed(bundle.path, [f"golden {p.path}: {p.problem}" for p in encoded])
    return encoded


def golden_outputs(golden: Sequence[GoldenExample], output: str) -> NDArray[np.float32]:
    """The recorded answers, float32 [n] or [n, classes]."""
    return np.array([example.outputs[output] for example in golden], np.float32)


def largest_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Infinity norm of a - b; infinite where the shapes differ."""
    return float(np.max(np.abs(a - b))) if a.shape == b.shape else float("inf")


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
