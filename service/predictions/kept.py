"""What is kept of predictions, where HORNPIPE_PREDICTIONS_DIR says so: the log, its labels, and both of them joined."""

import errno
import tempfile
from pathlib import Path

from service.labels.joining import JoinedLabels
from service.labels.labelled import Labelled
from service.labels.labelling import Labelling
from service.metrics import Metrics
from service.predictions.predictions import PredictionLog
from service.settings import Settings, SettingsError, variable

# There may be room later, and predictions can be had without it.
FULL = (errno.ENOSPC, errno.EDQUOT)


class Kept:
    """Raises SettingsError when the folder is none that can be written to."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            if error.errno not in FULL:
                raise SettingsError(f"{variable('predictions_dir')}: {folder}: {error.strerror}") from error
        self.log = PredictionLog(folder, settings)
        self.labelling = Labelling(folder, settings)
        self.labelled: Labelled = JoinedLabels(folder)

    def start(self) -> None:
        self.log.start()
        self.labelling.start()

    def count(self, metrics: Metrics) -> None:
        """Tell what has become of rows and labels since this was last done; for the event loop."""
        for model, result, rows in self.log.counted():
            metrics.logged(model, result, rows)
        for model, outcome, labels in self.labelling.counted():
            metrics.fed_back(model, outcome, labels)

    def close(self) -> None:
        """Write what waits; it takes as long as the disk does."""
        self.log.close()
        self.labelling.close()
