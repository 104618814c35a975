"""What TensorFlow says to one row: python -m benchmarks.reference ROW.npy, with BENCH_MODEL set as for a server."""

import json
import sys

import numpy as np

from benchmarks.servers.networks import SavedModel
from benchmarks.servers.payload import Payload, description

if __name__ == "__main__":
    model = description()
    row = np.load(sys.argv[1])[None]
    print(json.dumps(SavedModel(model)({Payload(model).input: row})[0].tolist()))
