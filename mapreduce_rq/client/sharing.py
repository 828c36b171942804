"""What the calls of one client share: an object that is put once where its workers find it."""

from __future__ import annotations

from mapreduce_rq.client.wires import Wires
from mapreduce_rq.errors import CannotWrite


def put_shared(shelf: str, wires: Wires, name: str, body: bytes, *, alone: bool) -> None:
    """Put what calls share where workers find it. ``alone``: only on the shelf. Raises BrokerError, CannotWrite."""
    from mapreduce_rq.broker.shared import share  # few programs use these
    from mapreduce_rq.runtime.worker.shared import is_laid, lay  # as above

    if shelf:
        try:
            if not is_laid(shelf, name):
                lay(shelf, name, [body])
            return
        except OSError as error:
            if alone:
                raise CannotWrite(f"what calls share has no room in {shelf}: {error.strerror}") from None
    with wires.verbs() as verbs:
        share(verbs.wire, verbs.keys, name, body)
