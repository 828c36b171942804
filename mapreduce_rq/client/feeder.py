"""A thread that puts the items of an iterable into an open job, while there is room."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from mapreduce_rq.client.open_job import OpenJob
from mapreduce_rq.client.open_source import OpenSource
from mapreduce_rq.core.foreign_errors import Interruption

ROW = 4096
"""Items that are read together, if they can be read without waiting."""
AT_HAND: set[type] = {type(iter([])), type(iter(())), type(iter(range(0)))}
"""Iterators whose items are in memory: to read several at once never waits."""


class Feeder:
    """Puts the items of an iterable into an open job, in a thread of its own, while there is room.

    ``room`` returns how many more items may be put in now; it is called again after ``more``. If the iterable raises,
    ``failed`` is called with the error, after the items before it were put in.
    """

    def __init__(
        self,
        job: OpenJob,
        source: OpenSource,
        items: Iterator[Any],
        room: Callable[[], int],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._job, self._source, self._items, self._room, self._failed = job, source, items, room, failed
        self._more = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"mrq items of {job.id}", daemon=True)
        self._thread.start()

    def more(self) -> None:
        """Say that there may be more room now."""
        with self._more:
            self._more.notify()

    def stop(self) -> None:
        """Take no more items. The iterable is not closed, because it may be computing an item now."""
        self._stopped = True
        self.more()

    def _over(self) -> bool:
        return self._stopped or self._source.over or self._job.done()

    def _run(self) -> None:
        try:
            if type(self._items) in AT_HAND:
                self._read_rows()
            else:
                self._read()
        except Interruption:
            raise
        except BaseException as error:
            self._failed(error)
        self._job.finish()

    def _read(self) -> None:
        """Put items in one by one: the next may take a long time to come."""
        room = self._wait_for_room()
        for item in self._items:
            if self._over():
                return
            self._source.put((item,))
            room -= 1
            if room <= 0 or self._source.full:
                room = self._wait_for_room()
            if self._over():
                return

    def _read_rows(self) -> None:
        """Put many items in at once: they can be read without waiting."""
        while room := self._wait_for_room():
            row = list(islice(self._items, min(ROW, room)))
            if not row:
                return
            self._source.lay(row)

    def _wait_for_room(self) -> int:
        with self._more:
            while not self._over():
                room = self._room()
                if room > 0 and not self._source.full:
                    return room
                self._more.wait(1.0)
        return 0
