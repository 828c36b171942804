"""`python -m mapreduce_rq` is `mrq`."""

from __future__ import annotations

import sys

from mapreduce_rq.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
