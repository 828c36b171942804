"""Values of any type as the body of a message, where pickles are trusted.

To read such a body runs code of its sender: use it only where ``Trust.pickles`` is true.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from mapreduce_rq.core.bodies import PICKLED, PLAIN, WRAPPED, Buffer, PlainCodec, frame, frames
from mapreduce_rq.core.foreign_errors import Interruption, told
from mapreduce_rq.core.plain_values import Unfit, unpack_all
from mapreduce_rq.functions.pickling import Pickles


class PickleCodec:
    """Values of any type that can be pickled. It also reads plain bodies, from workers that write no pickles."""

    takes: ClassVar[str] = "any object that can be pickled"
    remedy: ClassVar[str] = "give the function what it needs to make the object, or the object's data"

    def __init__(self, pickles: Pickles) -> None:
        self._pickles = pickles

    def encode(self, values: Sequence[Any]) -> bytes:
        """The values as one body. Raises Unfit, which names the first value that cannot be pickled."""
        return b"".join(self.pieces(values))

    def pieces(self, values: Sequence[Any]) -> list[Buffer]:
        """The same body in pieces: the memory of a large array is one of them. Raises Unfit as :meth:`encode`."""
        try:
            buffers: list[pickle.PickleBuffer] = []
            pickled = self._pickles.dumps(values if type(values) is list else list(values), buffers.append)
        except (Interruption, KeyboardInterrupt):
            raise
        except BaseException as error:  # raised by the values' own code
            for index, value in enumerate(values):  # which of them was it?
                try:
                    self._pickles.dumps(value, buffers.append)
                except (Interruption, KeyboardInterrupt):
                    raise
                except BaseException as its:
                    raise Unfit(index, told(its)) from its
            raise Unfit(0, told(error)) from error  # each value alone can be pickled, and all together cannot
        return frame(PICKLED, len(values), pickled, [buffer.raw() for buffer in buffers])

    def decode(self, body: Buffer) -> list[Any]:
        """The values of a body. Raises ValueError for bytes that hold none, and Unreadable."""
        values: list[Any] = []
        for found in self.parts(body):
            if values:
                values += found
            else:
                values = found
        return values

    def parts(self, body: Buffer) -> Iterator[list[Any]]:
        """The same values, those of one frame at a time."""
        if body[:1] == PLAIN:
            yield PlainCodec().decode(body)
            return
        for tag, count, main, buffers in frames(body):
            found = unpack_all(count, main) if tag == WRAPPED else self._pickles.loads(main, buffers)
            if not isinstance(found, list) or len(found) != count:
                raise ValueError(f"a body that should hold {count} values does not")
            yield found
