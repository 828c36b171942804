"""A worker's answers as they travel: sealed, in one reply or, if Redis does not accept that, in several."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.broker.wire import SPARE_BYTES, SURE_BYTES, raise_limit
from mapreduce_rq.core.job.failures import failure_of
from mapreduce_rq.core.messages import (
    ERROR,
    MAX_MESSAGE_BYTES,
    OK,
    OK_ASIDE,
    Answer,
    Output,
    Reply,
    Tried,
    encode_failure,
    pieces_of_reply,
)
from mapreduce_rq.core.numbers.integers import keep_memory
from mapreduce_rq.core.sealing import LARGE_BYTES, InPieces
from mapreduce_rq.errors import BrokerError, TooLarge
from mapreduce_rq.runtime.server.shelf import Shelf
from mapreduce_rq.runtime.worker.wid import address_of

LESS = "return less from each term, such as the name of a file that holds it"


class Replies:
    """Makes the replies of one worker."""

    def __init__(self, wid: str, tasks: Tasks) -> None:
        self._wid = wid
        self._wire = tasks.wire
        self._codecs = tasks.codecs
        self._keeps_memory = False

    def sealed(
        self, job: str, items: list[Answer], tried: Sequence[Tried] = (), output: Output | None = None
    ) -> list[bytes | InPieces]:
        """The answers to one job, in one reply if Redis accepts it, otherwise in several; the first has the ``output``.
        A large reply is in pieces.

        Raises BrokerDown if Redis must be asked for its limit, and does not answer.
        """
        try:
            sealed = self._seal(Reply(job, self._wid, items, list(tried), output))
            if len(sealed) <= SURE_BYTES or len(sealed) <= self._wire.limit() - SPARE_BYTES:
                return [sealed]
            size = len(sealed)
        except TooLarge as error:
            size = error.size
        half = len(items) // 2
        if half:
            first, rest = items[:half], items[half:]
            return [*self.sealed(job, first, _of(first, tried), output), *self.sealed(job, rest, _of(rest, tried))]
        (answer,) = items
        failure = failure_of(too_large_partial(size, self._wire.limit() - SPARE_BYTES), address_of(self._wid))
        failed = [msgspec.structs.replace(answer, status=ERROR, body=encode_failure(failure))]
        return self.sealed(job, failed, output=output)

    def _seal(self, reply: Reply) -> bytes | InPieces:
        for answer in reply.answers:
            if len(answer.body) >= LARGE_BYTES:
                return self._codecs.reply.seal_pieces(pieces_of_reply(reply, LARGE_BYTES))
        return self._codecs.reply.seal(reply)

    def _must_fit(self, size: int) -> None:
        """Raise TooLarge for a body that Redis does not accept. If Redis cannot be asked, sending will show it."""
        try:
            limit = self._wire.limit() - 2 * SPARE_BYTES  # the rest of the reply
        except BrokerError:
            return
        if size > limit:
            raise too_large_partial(size, limit)

    def large(self, body: bytes, cap: int, shelf: Shelf | None) -> tuple[bytes, int]:
        """The bytes for the answer in the place of a large body, and the answer's status.

        Raises TooLarge for a body that has to go through Redis and has more than ``cap`` bytes, or more than Redis
        accepts.
        """
        if not self._keeps_memory:  # or the system would clear the memory of each value page by page
            self._keeps_memory = True
            keep_memory()
        if shelf is not None and (reference := shelf.put(body)) is not None:
            return reference, OK_ASIDE
        if len(body) > cap:
            more = ", or raise max_body (512 MiB at most)" if cap < MAX_MESSAGE_BYTES else ""
            raise TooLarge("the partial", len(body), cap, LESS + more)
        if len(body) > SURE_BYTES:
            self._must_fit(len(body))
        return body, OK


def too_large_partial(size: int, limit: int) -> TooLarge:
    """The error for a partial that Redis does not accept."""
    return TooLarge("the partial", size, limit, f"{LESS}, or {raise_limit(limit)}")


def _of(answers: Sequence[Answer], tried: Sequence[Tried]) -> list[Tried]:
    """Those of these terms that are in the answers."""
    return [one for one in tried if any(answer.lo <= one.term < answer.hi for answer in answers)]
