"""Frames come out as they went in, however the line cuts them, and nothing refers to the buffer that they were read
into: the next read overwrites it.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.pipes.lines import Frames, frame

BUFFER = 64


@given(st.lists(st.binary(max_size=200), max_size=20), st.data())
def test_frames_survive_their_buffer(bodies: list[bytes], data: st.DataObject) -> None:
    line = b"".join(frame(number, [body, "a text"]) for number, body in enumerate(bodies))
    frames, found = Frames(), []
    memory = bytearray(BUFFER)
    buffer = memoryview(memory)
    while line:
        size = data.draw(st.integers(1, BUFFER))
        piece, line = line[:size], line[size:]
        memory[: len(piece)] = piece
        found += frames.take(buffer[: len(piece)])
        memory[:] = b"\xff" * BUFFER
    assert found == [[number, [body, "a text"]] for number, body in enumerate(bodies)]
