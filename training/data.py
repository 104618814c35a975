"""From what `data.path` names to the arrays of a run: read, check against the config, split, fit the features, encode.

Only training rows are ever looked at to fit anything. Each kind of source is a module of training/sources.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from contract.evidence import DataWarning
from contract.manifest import Manifest
from training.errors import DataError
from training.rows import Prepared
from training.sections import TrainingConfig
from training.sources import arrays, files, images, labelled, shards, table
from training.sources.labelled import Exporter

# Logged rows as they were when the run began.
EXPORTED = "logged.parquet"


def prepare(
    config: TrainingConfig,
    workdir: Path | None = None,
    logged: Exporter | None = None,
    production: Manifest | None = None,
) -> Prepared:
    """Everything from path to arrays. Raises DataError with all that is wrong.

    What does not fit into memory is kept in `workdir`, where a run that is started again finds it; so are the rows that
    `logged` writes, so that such a run sees the same ones. Rows that are newer than what `production` has seen are
    compared with those that are not.
    """
    path = Path(config.data.paths[0])
    if path.suffix == ".npz" and path.is_file():
        _require_whole(config, "arrays")
        return arrays.prepare(config, path)
    if images.is_folder_of_pictures(path):
        _require_whole(config, "pictures")
        return images.prepare(config, path)
    found = files.find(config.data)
    with ExitStack() as stack:
        warnings: tuple[DataWarning, ...] = ()
        if config.data.labelled:
            folder = workdir or Path(stack.enter_context(TemporaryDirectory(prefix="hornpipe-logged-")))
            found, warnings = labelled.added(config, found, _exported(config, folder, logged), folder)
        read = shards.prepare if shards.are_many(config, found) else table.prepare
        prepared = read(config, found, workdir, production)
    return replace(prepared, warnings=(*warnings, *prepared.warnings))


def _exported(config: TrainingConfig, folder: Path, logged: Exporter | None) -> Path:
    """Where the logged rows are. Raises DataError where nobody can get at them."""
    if logged is None:
        problem = "logged rows are kept no longer than a run takes: train again, or set data.labelled=false"
        raise DataError("data.labelled", [problem])
    path = folder / EXPORTED
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        logged(config, path)
    return path


def _require_whole(config: TrainingConfig, what: str) -> None:
    """Raises DataError for what only tables can be asked for."""
    data = config.data
    asked = {"path": len(data.paths) > 1, "where": data.where, "window": data.window, "labelled": data.labelled}
    if problems := [f"{key}: these are {what}, and only tables have that" for key, said in asked.items() if said]:
        raise DataError("data", problems)
