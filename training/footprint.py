"""`python -m training.footprint VARIANT ROWS.npz`: a variant's memory, in a process that does nothing else."""

import json
import sys
from pathlib import Path

import numpy as np

from contract.features import Encoded
from contract.runtimes import LiteRT, SavedModel, tensorflow


def main(variant: Path, rows: Path) -> None:
    """Print {"bytes": ...}: resident memory after loading and three runs, less that with the library alone."""
    with np.load(rows, allow_pickle=True) as stored:  # texts are objects; the file is our caller's own
        encoded = Encoded(**stored)
    if variant.is_dir():
        tensorflow()
    else:
        import ai_edge_litert.interpreter  # noqa: F401  # counted as the library's
    before = _resident()
    runtime = SavedModel(variant, "cpu") if variant.is_dir() else LiteRT(variant)
    for _ in range(3):
        runtime.run(encoded)
    json.dump({"bytes": max(0, _resident() - before)}, sys.stdout)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
