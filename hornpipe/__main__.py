"""`python -m hornpipe`: the command line where no script is installed."""

import sys

from hornpipe import main

if __name__ == "__main__":
    sys.exit(main())
