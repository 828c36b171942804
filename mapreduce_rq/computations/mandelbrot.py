"""The Mandelbrot set: rows, joined in their order to a picture, and how many points escape after how many steps.

The kernel uses real arithmetic only. numpy's complex product differs in the last bit between machines, and one bit can
decide whether a point escapes.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, ClassVar

import msgspec

from mapreduce_rq.computations import png
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.sequence import BYTES, Concat, Stretch
from mapreduce_rq.core.text import plural
from mapreduce_rq.errors import BadParameter

MAX_PIXELS = 400_000_000

POINTS = 1 << 15
"""Points iterated at a time: their arrays stay in the second-level cache."""

STEPS = 16
"""Steps between two checks which points have escaped."""


class MandelbrotParams(Params, frozen=True, kw_only=True):
    """Which part of the plane, in how many pixels and steps."""

    width: Annotated[int, msgspec.Meta(description="pixels", ge=1, le=65_535)] = 960
    height: Annotated[int, msgspec.Meta(description="pixels", ge=1, le=65_535)] = 640
    steps: Annotated[int, msgspec.Meta(description="steps after which a point is inside", ge=1, le=65_534)] = 1000
    re: Annotated[float, msgspec.Meta(description="real part of the centre", ge=-4, le=4)] = -0.75
    im: Annotated[float, msgspec.Meta(description="imaginary part of the centre", ge=-4, le=4)] = 0.0
    wide: Annotated[float, msgspec.Meta(description="width of the part shown", gt=0, le=16)] = 3.0


class Mandelbrot(Computation[Stretch]):
    """The Mandelbrot set as a picture, and after how many steps its points escape.

    A term is a row of pixels; a row inside the set costs a hundred times a row outside. The value is a table of steps
    (from, to, points; the last line has the points that did not escape). It is exact for the points of the grid, so
    there is no bound. The picture is a PNG: ``--out FILE`` writes it, and the Python API returns its bytes.
    """

    name: ClassVar[str] = "mandelbrot"
    summary: ClassVar[str] = "a picture of the Mandelbrot set, and its escape times"
    Params = MandelbrotParams
    seconds_per_term: ClassVar[float | None] = 5e-3

    def __init__(self, params: MandelbrotParams) -> None:
        super().__init__(params)
        if params.width * params.height > MAX_PIXELS:
            raise BadParameter(
                f"mandelbrot: {params.width} x {params.height} are more than {MAX_PIXELS} pixels: ask for fewer"
            )
        self.reducer = Concat()
        self.total: int | None = params.height

    def map(self, lo: int, hi: int) -> Stretch:
        import numpy as np  # heavy, hence here

        rows = max(1, POINTS // self.params.width)
        with np.errstate(over="ignore", invalid="ignore"):  # escaped points are iterated on until the next check
            parts = [self._rows(start, min(start + rows, hi)) for start in range(lo, hi, rows)]
        return Stretch(lo, hi, hi - lo, BYTES, (b"".join(parts),))

    def _rows(self, lo: int, hi: int) -> bytes:
        """The number of steps after which each pixel's point escapes (0: never), as little-endian words of 16 bits."""
        import numpy as np  # map has imported it

        params = self.params
        pixel = params.wide / params.width
        x = params.re + (np.arange(params.width) - (params.width - 1) / 2) * pixel
        y = params.im - (np.arange(lo, hi) - (params.height - 1) / 2) * pixel
        cr, ci = np.tile(x, hi - lo), np.repeat(y, params.width)
        found = np.zeros(cr.size, dtype="<u2")
        at = np.arange(cr.size)
        kept = ~_inside(cr, ci)
        at, cr, ci = at[kept], cr[kept], ci[kept]
        zr, zi = cr.copy(), ci.copy()
        step = 1
        while at.size and step <= params.steps:
            escaped = np.zeros(at.size, dtype="<u2")
            for now in range(step, min(step + STEPS, params.steps + 1)):
                rr, ii = zr * zr, zi * zi
                escaped[(rr + ii > 4.0) & (escaped == 0)] = now
                zi = 2.0 * (zr * zi) + ci
                zr = rr - ii + cr
            found[at] = escaped
            kept = escaped == 0
            at, cr, ci, zr, zi = at[kept], cr[kept], ci[kept], zr[kept], zi[kept]
            step += STEPS
        return found.tobytes()

    def finish(self, partial: Stretch, terms: int) -> Outcome:
        import numpy as np  # heavy, hence here

        params = self.params
        pixels = b"".join(partial.bodies)
        steps = np.frombuffer(pixels, dtype="<u2")
        counts = np.bincount(steps, minlength=params.steps + 1).tolist()
        lines, low = [], 1
        while low <= params.steps:  # powers of two
            high = min(2 * low - 1, params.steps)
            lines.append(f"{low}\t{high}\t{sum(counts[low : high + 1])}")
            low = 2 * low
        lines.append(f"inside\t\t{counts[0]}")
        notes = []
        if terms < params.height:
            notes.append(f"ended early: {terms} of {plural(params.height, 'row')}")
        return Outcome(
            value="\n".join(lines),
            number=None,
            bound="0",
            bound_kind="exact",
            native=png.encode(params.width, terms, shades(steps), PALETTE) if terms else b"",
            details={
                "inside": counts[0],
                "area": counts[0] * (params.wide / params.width) ** 2,
                "pixels_blake2b": hashlib.blake2b(pixels, digest_size=16).hexdigest(),
            },
            notes=tuple(notes),
        )


def _inside(cr: Any, ci: Any) -> Any:
    """Which points lie in the main cardioid or the disc left of it, where no point escapes."""
    across = ci * ci
    q = (cr - 0.25) * (cr - 0.25) + across
    return (q * (q + (cr - 0.25)) < 0.2499999999 * across) | ((cr + 1) * (cr + 1) + across < 0.0624999999)


def shades(steps: Any) -> bytes:
    """Palette indices of escape times: 0 inside, else by the times' logarithm, sixteen shades to a doubling."""
    import numpy as np  # finish has imported it

    table = np.zeros(65_536, dtype=np.uint8)
    for exponent in range(16):
        for part in range(16):
            low, high = ((1 << exponent) * (16 + more) // 16 for more in (part, part + 1))
            table[low:high] = max(1, min(255, 16 * exponent + part))
    return bytes(table[steps].tobytes())


PALETTE = [(0, 0, 0)] + [
    (min(255, 3 * shade), min(255, max(0, 3 * shade - 160)), min(255, 90 + max(0, shade - 90)))
    for shade in range(1, 256)
]
