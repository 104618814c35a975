"""`python -m training.exporting.footprint VARIANT ROWS SIGNATURE`: a variant's memory, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.features import Encoded
from contract.runtimes import SIGNATURE, LiteRT, SavedModel, tensorflow
from contract.savedmodel import WITHOUT_KERAS

RUNS = 3
TENSORS = "tensors"


def footprint(path: Path, encoded: Encoded, signature: str = SIGNATURE) -> int | None:
    """Bytes of resident memory that loading a variant and running the rows adds to a process of its own, beyond the
    runtime's library; None where such a process does not live to tell."""
    parts = {name: part for name, part in encoded._asdict().items() if part is not None and name != TENSORS}
    parts |= {f"{TENSORS}.{name}": tensor for name, tensor in (encoded.tensors or {}).items()}
    with TemporaryDirectory(prefix="hornpipe-") as folder:
        rows = Path(folder) / "rows.npz"
        np.savez(rows, **parts)
        command = [sys.executable, "-m", "training.exporting.footprint", str(path.absolute()), str(rows), signature]
        # A GPU's memory is not what is asked for, nor what TensorFlow imports for nobody.
        environment = os.environ | WITHOUT_KERAS | {"CUDA_VISIBLE_DEVICES": ""}
        try:
            told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)  # noqa: S603  # our own module
        except subprocess.CalledProcessError:
            return None
    return int(json.loads(told.stdout)["bytes"])


def main(variant: Path, rows: Path, signature: str) -> None:
    """Print {"bytes": ...}: resident memory after loading and three runs, less that with the library alone."""
    with np.load(rows, allow_pickle=True) as stored:  # texts are objects; the file is our caller's own
        encoded = _encoded(stored)
    if variant.is_dir():
        tensorflow()
    else:
        import ai_edge_litert.interpreter  # noqa: F401  # counted as the library's
    before = _resident()
    runtime = SavedModel(variant, "cpu", signature) if variant.is_dir() else LiteRT(variant, signature=signature)
    for _ in range(RUNS):
        runtime.run(encoded)
    json.dump({"bytes": max(0, _resident() - before)}, sys.stdout)


def _encoded(stored: Mapping[str, NDArray[Any]]) -> Encoded:
    named = {name.removeprefix(f"{TENSORS}."): stored[name] for name in stored if name.startswith(f"{TENSORS}.")}
    packed: dict[str, Any] = {name: stored[name] for name in stored if not name.startswith(f"{TENSORS}.")}
    return Encoded(**packed, tensors=named or None)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
