"""An object that the calls of a client share: it is stored once, where the workers find it."""

from __future__ import annotations

from mapreduce_rq.client.wires import Wires
from mapreduce_rq.errors import CannotWrite


def put_shared(shelf: str, wires: Wires, name: str, body: bytes, *, alone: bool) -> None:
    """Store a body where workers find it by its name. ``alone``: only on the shelf. Raises BrokerError, CannotWrite."""
    from mapreduce_rq.broker.shared import share  # few programs use these
    from mapreduce_rq.runtime.worker.shared import is_laid, lay  # as above

    if shelf:
        try:
            if not is_laid(shelf, name):
                lay(shelf, name, [body])
            return
        except OSError as error:
            if alone:
                raise CannotWrite(f"the shared object cannot be written to {shelf}: {error.strerror}") from None
    with wires.verbs() as verbs:
        share(verbs.wire, verbs.keys, name, body)
