"""The numeric libraries of a process: versions, and a hash of functions whose last bit differs between machines.

``+ - * /``, ``sqrt`` and comparisons are the same everywhere (IEEE 754). The exponential, the logarithm, powers and the
like are not: they depend on the C library and, in numpy, on the CPU's vector units. A kernel that uses them says so
(``kernel(libm=True)``), and its job then runs only on workers with the submitter's hash.
"""

from __future__ import annotations

import hashlib
import math
import platform
import struct
from functools import cache

_POINTS = [0.1 * k + 1e-9 * k * k for k in range(1, 200)]


@cache
def identity() -> str:
    """Interpreter, numpy and machine, for people; numpy is not imported for it."""
    from importlib.metadata import PackageNotFoundError, version  # 40 ms, only when it is asked for

    try:
        numpy = version("numpy")
    except PackageNotFoundError:
        numpy = "none"
    return f"{platform.python_implementation()} {platform.python_version()}, numpy {numpy}, {platform.machine()}"


@cache
def numerics() -> str:
    """A hash of the bits that libm and numpy compute on this machine."""
    import numpy as np  # heavy, and only jobs that declare libm need it

    functions = (math.exp, math.log, math.log1p, math.sin, math.cos, math.tanh, math.gamma)
    scalars = [function(x) for function in functions for x in _POINTS] + [x**1.7 for x in _POINTS]
    points = np.array(_POINTS)
    vectors = [np.exp(points), np.log(points), np.log1p(points), np.sin(points), np.cos(points), np.tanh(points)]
    product = (points + 1j * points[::-1]) * (points[::-1] - 1j * points)
    made = hashlib.blake2b(struct.pack(f"<{len(scalars)}d", *scalars), digest_size=8)
    for vector in [*vectors, points**1.7, product]:
        made.update(vector.tobytes())
    return made.hexdigest()
