"""Numpy's arrays and scalars as extensions of msgpack, and back: what a dtype is, a shape, an order, and the bytes.

The memory of a large array is copied once on its way into a body, and once on its way out of it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

ARRAY, SCALAR = 7, 8
"""Codes of extensions."""
EXTENSION, BINARY = b"\xc9", b"\xc6"
"""The first bytes of msgpack's extensions and bytes of more than 65 535 bytes; the size follows in 4 bytes."""
LARGE_BYTES = 1 << 16
MOST_BYTES = 1 << 32
_FOUR = b"\x94"
"""The head of msgpack's array of four members."""

_ENCODER = msgspec.msgpack.Encoder()
_MEMBERS = msgspec.msgpack.Decoder(tuple[Any, Any, Any, memoryview])
_TWO = msgspec.msgpack.Decoder(tuple[Any, bytes])


def packed_by_numpy(value: Any, kind: type) -> Any:
    """Numpy's own arrays and scalars, of all types except Python objects."""
    import numpy as np  # there already: the value is of it

    dtype = value.dtype
    if dtype.hasobject or not (kind is np.ndarray or isinstance(value, np.generic)):
        what = f"an array of {dtype}" if kind is np.ndarray else f"a {kind.__module__}.{kind.__name__}"
        raise TypeError(f"{what} cannot travel")
    described = _described(dtype)
    if dtype.names is not None and ((again := _dtype_of(described)) != dtype or again.type is not dtype.type):
        raise TypeError(f"an array of {dtype} cannot travel: its fields have titles, or its elements are records")
    if kind is not np.ndarray:
        body = value.tobytes() if dtype.itemsize else b""  # of an empty text numpy gives the bytes of one character
        return msgspec.msgpack.Ext(SCALAR, _ENCODER.encode([described, body]))
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    parts = [described, list(value.shape), order, value.tobytes(order)]
    return msgspec.msgpack.Ext(ARRAY, _ENCODER.encode(parts))


def _described(dtype: Any) -> Any:
    """A dtype as plain data, from which numpy makes an equal one. Raises TypeError for one that has more to it."""
    if dtype.metadata:
        raise TypeError(f"an array of {dtype} with metadata cannot travel")
    if dtype.names is None and dtype.subdtype is None:
        if dtype.isbuiltin != 1 and _dtype_of(dtype.str).type is not dtype.type:  # another library's: a name of bytes
            raise TypeError(f"an array of {dtype} cannot travel")
        return dtype.str
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_described(base), list(shape)]
    fields = [[name, _described(dtype.fields[name][0]), dtype.fields[name][1]] for name in dtype.names]
    return {"fields": fields, "size": dtype.itemsize, "aligned": dtype.isalignedstruct}


def pieces_of(value: Any) -> Sequence[bytes | memoryview]:
    """The packing of a large array, with its own memory as the last piece; nothing for any other value."""
    numpy = sys.modules.get("numpy")
    if numpy is None or type(value) is not numpy.ndarray:
        return ()
    flags, dtype, size = value.flags, value.dtype, value.nbytes
    contiguous = flags.c_contiguous or flags.f_contiguous
    if not contiguous or not LARGE_BYTES <= size < MOST_BYTES or dtype.names is not None or dtype.hasobject:
        return ()
    order = "C" if flags.c_contiguous else "F"
    head = _FOUR + b"".join(map(_ENCODER.encode, (_described(dtype), list(value.shape), order)))
    whole = len(head) + 5 + size
    if whole >= MOST_BYTES:
        return ()
    head = EXTENSION + whole.to_bytes(4, "big") + bytes([ARRAY]) + head + BINARY + size.to_bytes(4, "big")
    return head, memoryview(value.ravel(order).view("u1"))


def _dtype_of(found: Any) -> Any:
    import numpy as np  # 0.1 s, and only for such values

    if isinstance(found, str):
        dtype = np.dtype(found)
    elif isinstance(found, list):
        dtype = np.dtype((_dtype_of(found[0]), tuple(found[1])))
    else:
        names, formats, offsets = zip(*found["fields"], strict=True) if found["fields"] else ((), (), ())
        layout: Any = {"names": list(names), "formats": [_dtype_of(each) for each in formats], "offsets": list(offsets)}
        dtype = np.dtype(layout | {"itemsize": found["size"]}, align=found["aligned"])
    if dtype.hasobject:
        raise ValueError("an array of Python objects cannot travel")
    return dtype


def read_array(data: memoryview) -> Any:
    """The array of these bytes. Raises ValueError, and what numpy or msgspec raises."""
    import numpy as np  # 0.1 s, and only for such values

    described, shape, order, body = _MEMBERS.decode(data)
    dtype = _dtype_of(described)
    if dtype.itemsize * math.prod(shape) != len(body) or min(shape, default=0) < 0:
        raise ValueError(f"{len(body)} bytes are not an array of {shape} {dtype}")
    return np.ndarray(tuple(shape), dtype, bytearray(body), order=order)  # a copy, so that the array is writable


def read_scalar(data: memoryview) -> Any:
    """As ``read_array``, for a scalar."""
    import numpy as np  # 0.1 s, and only for such values

    described, body = _TWO.decode(data)
    dtype = _dtype_of(described)
    if dtype.itemsize != len(body):
        raise ValueError(f"{len(body)} bytes are not one {dtype}")
    return np.frombuffer(body, dtype)[0] if body else np.zeros((), dtype)[()]
