"""joblib's Parallel on workers anywhere; scikit-learn's n_jobs=-1 goes the same way. It needs `pip install joblib`.

python3 examples/parallel.py                      # local workers and a private server
"""

from __future__ import annotations

from math import sqrt

from joblib import Parallel, delayed, parallel_config

from mapreduce_rq import register_joblib

register_joblib()


def main() -> None:
    with parallel_config("mrq", n_jobs=2):  # or url="redis://host", and n_jobs=-1 for all workers there
        roots = Parallel()(delayed(sqrt)(k) for k in range(1000))
        print("their sum:", sum(roots))


if __name__ == "__main__":
    main()
