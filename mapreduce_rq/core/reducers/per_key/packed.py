"""The parts of a column's message: rows of plain numbers, and bodies of many values. Reading checks each of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mapreduce_rq.core.bodies import PlainCodec, ValueCodec
from mapreduce_rq.core.plain_values import Unfit
from mapreduce_rq.core.reducers.keys import Key


def row_of(packed: Any, number: int, *kinds: type) -> list[Any]:
    """``packed`` as a list. Raises ValueError for anything else, for another length, or for other types."""
    if type(packed) is not list or len(packed) != number or not set(map(type, packed)) <= set(kinds):
        raise ValueError(f"there should be {number} of {' or '.join(kind.__name__ for kind in kinds)}")
    return packed


def those_there(keys: Sequence[Key], values: Sequence[Any]) -> Iterable[tuple[Key, Any]]:
    """The keys with their values, without those whose value is None."""
    pairs = zip(keys, values, strict=True)
    return ((key, value) for key, value in pairs if value is not None) if None in values else pairs


def body_of(codec: ValueCodec, values: Sequence[Any]) -> bytes:
    """The values as one body. Raises ValueError for a value that cannot be sent."""
    try:
        return codec.encode(values)
    except Unfit as unfit:
        name = type(values[unfit.index]).__name__
        raise ValueError(f"a {name} cannot travel ({unfit}); what travels is {codec.takes}: {codec.remedy}") from None


def canonical_body(codec: ValueCodec, values: Sequence[Any]) -> bytes:
    """As ``body_of``, and the same for equal values, except for values that can only be pickled."""
    try:
        return PlainCodec().encode(values)
    except Unfit:
        return body_of(codec, values)


def values_of(codec: ValueCodec, packed: Any, number: int) -> list[Any]:
    """``number`` values from one body. Raises ValueError for other bytes."""
    if type(packed) is not bytes:
        raise ValueError("no body of values")
    values = codec.decode(packed)
    if len(values) != number:
        raise ValueError(f"{len(values)} values where there should be {number}")
    return values
