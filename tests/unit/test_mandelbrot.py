from __future__ import annotations

import struct
import zlib
from fractions import Fraction

import numpy as np
import pytest

from mapreduce_rq.computations import mandelbrot, png
from mapreduce_rq.computations.mandelbrot import Mandelbrot
from mapreduce_rq.errors import BadParameter
from tests.support.folding import fold

AREA = 1.5065918849  # Munafo; pixel counting, to 10 digits


def by_hand(cr: float, ci: float, steps: int) -> int:
    zr, zi = cr, ci
    for step in range(1, steps + 1):
        if zr * zr + zi * zi > 4:
            return step
        zr, zi = zr * zr - zi * zi + cr, 2 * (zr * zi) + ci
    return 0


def test_escape_times_are_those_of_the_plain_loop() -> None:
    job = Mandelbrot.create({"width": 31, "height": 21, "steps": 200})
    _, whole, _ = fold(job, 4)
    steps = np.frombuffer(b"".join(job.reducer.decode(whole).bodies), dtype="<u2").reshape(21, 31)
    pixel = 3.0 / 31
    for row in range(21):
        for column in range(31):
            cr, ci = -0.75 + (column - 15.0) * pixel, 0.0 - (row - 10.0) * pixel
            assert steps[row, column] == by_hand(cr, ci, 200), (row, column)


def test_points_taken_for_inside_at_once_are_inside() -> None:
    # exact arithmetic for a point just inside the cardioid's tip and one just outside
    import numpy as np

    points = np.array([0.2499, 0.2501, -0.75, -1.2499, -1.2501, 0.0])
    inside = mandelbrot._inside(points, np.zeros(6))
    assert inside.tolist() == [True, False, False, True, False, True]
    assert Fraction(1, 4) > Fraction(0.2499)


def test_area() -> None:
    outcome, _, _ = fold(Mandelbrot.create({"width": 600, "height": 500, "steps": 500}), 90)
    assert outcome.details["area"] == pytest.approx(AREA, rel=0.01)


def test_the_table_counts_every_pixel() -> None:
    outcome, _, _ = fold(Mandelbrot.create({"width": 64, "height": 48, "steps": 90}))
    rows = [line.split("\t") for line in outcome.value.splitlines()]
    assert sum(int(row[2]) for row in rows) == 64 * 48
    assert rows[-1][0] == "inside"
    assert [row[0] for row in rows[:-1]] == ["1", "2", "4", "8", "16", "32", "64"]
    assert rows[-2][1] == "90"


def test_the_picture() -> None:
    job = Mandelbrot.create({"width": 30, "height": 20, "steps": 50})
    outcome, _, _ = fold(job)
    data = outcome.native
    steps = np.frombuffer(b"".join(job.map(0, 20).bodies), dtype="<u2").reshape(20, 30)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (30, 20, 8, 3, 0, 0, 0)
    pixels = zlib.decompress(chunks[b"IDAT"])
    assert len(pixels) == 20 * 31
    for row in range(20):
        assert pixels[31 * row] == 0
        for column in range(30):
            assert (pixels[31 * row + 1 + column] == 0) == (steps[row, column] == 0)
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert chunks[b"PLTE"][:3] == b"\0\0\0"
    assert len(chunks[b"PLTE"]) == 768


def test_a_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="a picture of 2 x 3 was given 5 pixels"):
        png.encode(2, 3, b"12345", [(0, 0, 0)])


@pytest.mark.parametrize("raw", [{"width": 0}, {"steps": 70_000}, {"wide": 0}, {"width": 65_535, "height": 65_535}])
def test_bad_parameters(raw: dict[str, object]) -> None:
    with pytest.raises(BadParameter):
        Mandelbrot.create(raw)
