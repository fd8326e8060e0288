"""See `run.py`."""

import sys

from training.fit.run import main

if __name__ == "__main__":
    sys.exit(main())
