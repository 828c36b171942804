"""Bodies that the workers of one job laid aside, in files beside a private server; the master reads them there."""

from __future__ import annotations

from typing import Any

import msgspec

from mapreduce_rq.core.bodies import Aside
from mapreduce_rq.core.job.events import Replied
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.messages import MAP, OK, OK_ASIDE


class LaidAside:
    """The large bodies of one job. ``place``: where they lie; None where all bodies travel through Redis.

    ``items``: the master lays items there. ``pieces``: workers lay there what answers refer to.
    """

    def __init__(self, place: Aside | None, *, items: bool, pieces: bool = False) -> None:
        self.any = items or pieces
        """Whether a body may be there, as far as the answers tell."""
        self.read = 0
        """Bytes of the bodies that were read there."""
        self._place = place
        self._items = items

    def clear(self) -> None:
        """Drop all bodies, because the job is over."""
        if self._place is not None:
            self._place.clear()

    def keep(self, ledger: Ledger) -> None:
        """After tasks were counted: drop the items of the tasks that are not out any more."""
        if self._place is not None and self._items:
            self._place.keep({task.body for task in ledger.out.values()})

    def fetched(self, heard: list[Replied]) -> list[Replied]:
        """The replies with their bodies, which are copied only where they are folded: many may wait for that. A body
        that is gone was read before, and is counted.
        """
        place = self._place
        if place is None:
            return heard
        found = []
        for replied in heard:
            for answer in replied.answers:
                if answer.status != OK:
                    found.append(self._fetched(place, replied))
                    break
            else:
                found.append(replied)
        return found

    def _fetched(self, place: Aside, replied: Replied) -> Replied:
        self.any = True
        answers = []
        for answer in replied.answers:
            if answer.status == OK_ASIDE:
                try:
                    body = place.get(answer.body)
                except ValueError:
                    continue
                place.drop(answer.body)
                self.read += len(body)
                whole: Any = body if answer.op == MAP else bytes(body)
                answers.append(msgspec.structs.replace(answer, status=OK, body=whole))
            else:
                answers.append(answer)
        return replied._replace(answers=answers)
