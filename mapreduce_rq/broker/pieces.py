"""The pieces of a shuffle on a shared Redis: they are in a hash of the job, and only workers send and read them.

A fold of many keys goes from the worker that made it to the workers that merge its parts. Through the master it would
go over the network four times (in an answer, to the master, in a request, to a worker), and the master would hold the
keys of all folds. So a worker lays the pieces of its fold in the hash, and its answer has their name. A worker that
merges a part reads the pieces of this part alone.

A worker first lays the pieces and then answers: if it dies in between, no message names the pieces, and the task is
computed again. If a connection is lost before the answer has arrived, Redis may have lost the pieces as well: both are
sent again. All pieces are deleted at the job's end, and from then on none is laid (see lay.lua). A piece is sealed for
its place, so it cannot be used as another one. If Redis loses the last writes in a failover, the answers that name lost
pieces are lost, too, because they were written later; the master goes back to the checkpoint in Redis (see
``Reducer.refers``). The master counts an answer only after it has seen that the pieces are there: the answer may be
from before a wipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec

from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.foreign_errors import Interruption
from mapreduce_rq.core.messages import MAP, OK, Reply
from mapreduce_rq.core.reducers.base import Reducer
from mapreduce_rq.errors import BadMessage, BrokerError, BrokerFull, ForeignKey, NoPermission, TooLarge

AT_ONCE = 64
"""The number of pieces that are read with one command: a worker has these in memory, and between two commands the
server answers other clients.
"""


class Away(Interruption):
    """Redis could not be reached in the middle of a task. The task is not at fault, and is computed again."""

    def __init__(self, error: BrokerError) -> None:
        super().__init__(str(error))
        self.error = error


class LaidFold(NamedTuple):
    """The pieces of one fold, as they were laid."""

    job: str
    name: str
    pieces: Sequence[bytes]


def _nobody(_: LaidFold) -> None:
    """Do nothing: no one is to be told."""


def with_their_pieces(replies: Iterable[Reply], reducer: Reducer[Any], place: LaidApart) -> list[Reply]:
    """The replies without the answers that refer to pieces which are gone, as after a wipe. The master then finds their
    tasks missing, and pushes them again. Raises BrokerError.
    """
    found = list(replies)
    rows = {
        id(answer): reducer.refers_to(answer.body)
        for reply in found
        for answer in reply.answers
        if answer.status == OK and answer.op == MAP
    }
    gone = place.missing([reference for row in rows.values() for reference in row])
    if not gone:
        return found
    return [
        msgspec.structs.replace(
            reply, answers=[answer for answer in reply.answers if gone.isdisjoint(rows.get(id(answer), ()))]
        )
        for reply in found
    ]


class LaidApart:
    """The pieces of one job's shuffle, over the wire of a worker, or of the master, which only reads.

    ``own``: a name that no other worker has; '' to read only. ``before`` is called before each request to Redis.
    ``note`` is called with each fold that is laid. ``lost`` makes the exception for an error of the connection.
    """

    outlives: ClassVar[bool] = False

    def __init__(
        self,
        tasks: Tasks,
        job: str,
        own: str,
        before: Callable[[], None],
        *,
        note: Callable[[LaidFold], None] = _nobody,
        lost: Callable[[BrokerError], BaseException] = lambda error: error,
    ) -> None:
        self._tasks = tasks
        self._job = job
        self._own = own
        self._before = before
        self._note = note
        self._lost = lost
        self._count = 0

    def lay(self, pieces: Sequence[bytes]) -> bytes | None:
        """Lay some pieces aside together. None if there is no room or no permission: they must travel as they are."""
        if not self._own or sum(map(len, pieces)) > self._tasks.wire.limit():
            return None
        self._count += 1
        name = f"{self._own}-{self._count}"
        try:
            self._before()
            laid = self._tasks.lay(self._job, name, pieces)
        except (BrokerFull, ForeignKey, NoPermission, TooLarge):
            return None
        except BrokerError as error:
            raise self._lost(error) from None
        if not laid:
            return None
        self._note(LaidFold(self._job, name, pieces))
        return name.encode()

    def missing(self, references: Sequence[bytes]) -> set[bytes]:
        """Those of these references whose pieces are gone. Raises BrokerError."""
        if not references:
            return set()
        self._before()
        laid = self._tasks.are_laid(self._job, [reference.decode() for reference in references])
        return {reference for reference, there in zip(references, laid, strict=True) if not there}

    def row(self, references: Sequence[bytes], number: int) -> Iterator[bytes]:
        """The piece with this number of each of these folds. Raises ValueError if one is gone."""
        for at in range(0, len(references), AT_ONCE):
            names = [reference.decode() for reference in references[at : at + AT_ONCE]]
            try:
                self._before()
                found = self._tasks.pieces(self._job, names, number)
            except (BadMessage, ForeignKey) as error:
                raise ValueError(f"{error}: run the job again") from None
            except BrokerError as error:
                raise self._lost(error) from None
            yield from found
