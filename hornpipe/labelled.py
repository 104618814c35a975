"""Logged rows with their labels for training, which may not look into a service's log itself."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.sections import TrainingConfig


def export(config: TrainingConfig, target: Path) -> int:
    """Write the rows of the config's model whose labels have come to a Parquet file, called as the data call them; how
    many. Raises LabelsError, and ConfigError where nobody says which folder."""
    from service.labels import command
    from service.labels.labels import NAME
    from service.labels.training_rows import Columns, write
    from training.errors import ConfigError

    asked = config.data.labelled
    folder = asked if isinstance(asked, str) else os.environ.get("HORNPIPE_PREDICTIONS_DIR", "")
    if not folder:
        problem = "say which folder of predictions is meant, or set HORNPIPE_PREDICTIONS_DIR as the service has it"
        raise ConfigError("data.labelled", [problem])
    renamed = {name: section.column for name, section in config.features.items() if section.column is not None}
    columns = Columns(config.data.target or "label", renamed)
    if not (Path(folder) / NAME).exists():  # nothing has served yet
        return write(lambda: (), target)
    wanted = command.Wanted(config.name, None, -math.inf, math.inf)
    return command.export(Path(folder), wanted, target, columns)
