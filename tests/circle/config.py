"""The training config that goes round: small, so that a job takes half a minute, with all that a circle needs.

The month is no feature, as the doctor advises: it only says when a row came about. What a canary may differ by is the
default: a version that has learnt from autumn answers otherwise, and the gate has seen how.
"""

from pathlib import Path

CONFIG = """
name = "flights"
task = "binary"

[data]
path = "{shards}"
target = "outcome"
positive = "late"
category_min_count = 20

[data.window]
last = "270d"

[split]
by = "time"
column = "date"
validation = "14d"
test = "30d"

[features]
carrier = "category"
origin = "category"
dest = "category"
day_of_week = "number"
departure_minute = "number"
arrival_minute = "number"
distance = "number"
temp = {{ kind = "number", optional = true }}
precip = {{ kind = "number", optional = true }}
visib = {{ kind = "number", optional = true }}

[model]
members = 1
hidden = [32, 16]
number_bins = 8

[training]
epochs = 3
batch_size = 256

[evaluation]
resamples = 20
slices = false
importance = false
robustness = false

[quantization]
variants = []

[gate]
margin = 0.02
calibration_margin = 0.1        # how many flights are late goes by the season, which no feature tells

[retrain]
on_drift = ["HornpipeInputDrift"]
cooldown = "1h"

[promotion]
policy = "canary"
steps = [5, 25, 100]
min_requests = 100
min_minutes = 0.05
"""


def write(folder: Path, shards: Path) -> Path:
    """The file."""
    path = folder / "flights.toml"
    path.write_text(CONFIG.format(shards=shards))
    return path
