"""From what `data.path` names to the arrays of a run: read, check against the config, split, fit the features, encode.

Only training rows are ever looked at to fit anything. Each kind of source is a module of training/sources.
"""

from pathlib import Path

from training.rows import Prepared
from training.sections import TrainingConfig
from training.sources import arrays, files, images, shards, table


def prepare(config: TrainingConfig, workdir: Path | None = None) -> Prepared:
    """Everything from path to arrays. Raises DataError with all that is wrong.

    What does not fit into memory is kept in `workdir`, where a run that is started again finds it.
    """
    path = Path(config.data.path)
    if path.suffix == ".npz" and path.is_file():
        return arrays.prepare(config, path)
    if images.is_folder_of_pictures(path):
        return images.prepare(config, path)
    found = files.find(path)
    return shards.prepare(config, found, workdir) if shards.are_many(config, found) else table.prepare(config, found)
