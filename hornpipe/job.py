"""One job in a process of its own, `python -m hornpipe.job`: training's, with what only the service's log has."""

import sys

from hornpipe.labelled import export
from training import job

if __name__ == "__main__":
    sys.exit(job.main(sys.argv[1:], export))
