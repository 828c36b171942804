"""An executor that needs no client: it makes one of its own, which ends with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mapreduce_rq.client.client import CLIENT, Client
from mapreduce_rq.client.executor import Executor
from mapreduce_rq.core.given import check, only

if TYPE_CHECKING:  # most calls show nothing
    from mapreduce_rq.progress.printed import Logs


def executor(
    max_workers: int | None = None,
    *,
    url: str | None = None,
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
    max_tasks_per_child: int | None = None,
    logs: Logs = False,
    **client: Any,
) -> Executor:
    """A ``concurrent.futures.Executor`` with a client of its own, which ends with it.

    ``max_workers``: how many local workers; on a server of others (``url``, or as MRQ_URL says) those that run there
    help, too. The rest as ``ProcessPoolExecutor`` and, for ``client``, as ``Client`` have it.
    """
    only("executor", client, EXECUTOR)
    check(max_workers=max_workers, initializer=initializer, initargs=initargs, max_tasks_per_child=max_tasks_per_child)
    if max_workers is not None and max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    made = Client(url, local=max_workers, **client)
    try:
        return Executor(
            made,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=max_tasks_per_child,
            logs=logs,
            owned=True,
        )
    except BaseException:
        made.close()
        raise


EXECUTOR = (CLIENT - {"local"}) | frozenset(executor.__kwdefaults__ or ()) | {"max_workers"}
"""The named arguments of ``executor``, also of the client that it makes."""
