"""From what `data.path` names to the arrays of a run: read, check against the config, split, fit the features, encode.

Only training rows are ever looked at to fit anything. Each kind of source is a module of training/sources.
"""

from pathlib import Path

from training.errors import DataError
from training.rows import Prepared
from training.sections import TrainingConfig
from training.sources import arrays, files, images, shards, table


def prepare(config: TrainingConfig, workdir: Path | None = None) -> Prepared:
    """Everything from path to arrays. Raises DataError with all that is wrong.

    What does not fit into memory is kept in `workdir`, where a run that is started again finds it.
    """
    path = Path(config.data.paths[0])
    if path.suffix == ".npz" and path.is_file():
        _require_whole(config, "arrays")
        return arrays.prepare(config, path)
    if images.is_folder_of_pictures(path):
        _require_whole(config, "pictures")
        return images.prepare(config, path)
    found = files.find(config.data)
    return shards.prepare(config, found, workdir) if shards.are_many(config, found) else table.prepare(config, found)


def _require_whole(config: TrainingConfig, what: str) -> None:
    """Raises DataError for what only tables can be asked for."""
    data = config.data
    asked = {"path": len(data.paths) > 1, "where": data.where, "window": data.window, "labelled": data.labelled}
    if problems := [f"{key}: these are {what}, and only tables have that" for key, said in asked.items() if said]:
        raise DataError("data", problems)
