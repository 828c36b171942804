"""A backend for joblib, and so for scikit-learn, with workers anywhere.

register_joblib()
with joblib.parallel_config("mrq", url="redis://host"):
    GridSearchCV(model, grid, n_jobs=-1).fit(X, y)
"""

from __future__ import annotations

from mapreduce_rq.core.given import check
from mapreduce_rq.errors import UsageError

NAME = "mrq"


def register_joblib(*, make_default: bool = False) -> None:
    """Register the backend ``"mrq"`` with joblib, which has no entry point for that. A second call does nothing.

    ``make_default``: joblib uses it where no backend is named. Raises UsageError if joblib is not installed.
    """
    check(make_default=make_default)
    try:
        import joblib  # 0.1 s, and not everybody has it
    except ImportError:
        raise UsageError("register_joblib needs joblib: pip install joblib") from None
    from mapreduce_rq.client.joblib_backend import MrqBackend  # imports joblib

    joblib.register_parallel_backend(NAME, MrqBackend, make_default=make_default)
