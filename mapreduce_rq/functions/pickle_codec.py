"""Values of any type as the body of a message, where pickles are trusted.

Reading such a body runs code of its sender: only for what ``Trust.pickles`` lets in.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, ClassVar

from mapreduce_rq.core.bodies import PICKLED, PLAIN, WRAPPED, Buffer, PlainCodec, frame, frames
from mapreduce_rq.core.foreign_errors import Interruption, told
from mapreduce_rq.core.plain_values import Unfit, unpack_all
from mapreduce_rq.functions.pickling import Pickles


class PickleCodec:
    """Values of any type that a pickle takes. It reads plain bodies, too: of a worker that writes no pickles."""

    takes: ClassVar[str] = "what a pickle takes"
    remedy: ClassVar[str] = "give the function what it needs to make it instead, or its data"

    def __init__(self, pickles: Pickles) -> None:
        self._pickles = pickles

    def encode(self, values: Sequence[Any]) -> bytes:
        """The values as one body. Raises Unfit, naming the first that no pickle takes."""
        try:
            buffers: list[pickle.PickleBuffer] = []
            pickled = self._pickles.dumps(values if type(values) is list else list(values), buffers.append)
        except (Interruption, KeyboardInterrupt):
            raise
        except BaseException as error:  # of the values' own code
            for index, value in enumerate(values):  # which of them was it?
                try:
                    self._pickles.dumps(value, buffers.append)
                except (Interruption, KeyboardInterrupt):
                    raise
                except BaseException as its:
                    raise Unfit(index, told(its)) from its
            raise Unfit(0, told(error)) from error  # each alone travels, all together do not
        return b"".join(frame(PICKLED, len(values), pickled, [buffer.raw() for buffer in buffers]))

    def decode(self, body: Buffer) -> list[Any]:
        """The values of a body. Raises ValueError for bytes that hold none, and Unreadable."""
        if body[:1] == PLAIN:
            return PlainCodec().decode(body)
        values: list[Any] = []
        for tag, count, main, buffers in frames(body):
            found = unpack_all(count, main) if tag == WRAPPED else self._pickles.loads(main, buffers)
            if not isinstance(found, list) or len(found) != count:
                raise ValueError(f"a body that should hold {count} values does not")
            values = values + found if values else found
        return values
