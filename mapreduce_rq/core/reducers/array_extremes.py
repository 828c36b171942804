"""The smallest or the largest values of arrays, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mapreduce_rq.core.reducers.arrays import ArrayPartial, array_with_nan, checked_shape

_WORDS = ("i8", "u8", "f8")
"""The types in which extremes are found: each holds the elements of its kind exactly."""

_TYPES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})


class _Packed(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    term: int
    shape: list[int]
    types: list[str]
    words: list[memoryview]


_decode = msgspec.msgpack.Decoder(_Packed).decode


class ArrayExtreme(ArrayPartial):
    """The extremes of arrays: one array for signed integers, one for unsigned words, one for floats.

    ``types``: the types of elements that were seen, in numpy's letters and bytes. ``words``: the extremes by type.
    """

    __slots__ = ("largest", "types", "words")

    def __init__(self, term: int, shape: tuple[int, ...], *, largest: bool) -> None:
        super().__init__(term, shape)
        self.largest = largest
        self.types: set[str] = set()
        self.words: dict[str, Any] = {}

    @classmethod
    def of(cls, lo: int, arrays: Sequence[Any], *, largest: bool) -> ArrayExtreme:
        """The extremes of arrays that are the terms from ``lo`` on. Raises BadValue for nan."""
        import numpy as np  # the caller has imported it

        found = cls(lo, arrays[0].shape, largest=largest)
        for array in arrays:
            kind = array.dtype.str[1:]
            found.types.add(kind)
            found._take(_word_of(kind), array.ravel())
        if "f8" in found.words and np.isnan(found.words["f8"]).any():
            for term, array in enumerate(arrays, lo):
                row = array.ravel()
                differs = row != row  # noqa: PLR0124  from itself, as nothing but nan does
                if differs.any():
                    raise array_with_nan(term, int(differs.argmax()), found.shape)
        return found

    def _take(self, word: str, row: Any) -> None:
        """Take the elements of one array into the extremes of this type."""
        known = self.words.get(word)
        if known is None:
            self.words[word] = row.astype(word)
            return
        if not known.flags.writeable:  # a view of the bytes that it came in
            known = self.words[word] = known.copy()
        _better(known, row, largest=self.largest, out=known)

    def empty(self) -> ArrayExtreme:
        return ArrayExtreme(self.term, self.shape, largest=self.largest)

    def absorb(self, other: ArrayExtreme) -> None:
        self.types |= other.types
        for word, row in other.words.items():
            self._take(word, row)

    def encoded(self) -> bytes:
        import numpy as np  # there already: the partial is of it

        rows = [self._row(word).astype(f"<{word}", copy=False).view(np.uint8) for word in _words_of(self.types)]
        words = [memoryview(row) for row in rows]
        return msgspec.msgpack.encode(_Packed(self.term, list(self.shape), sorted(self.types), words))

    def _row(self, word: str) -> Any:
        """The extremes of a type. A zero has no sign, because we do not know which zero came first."""
        row = self.words[word]
        return row + 0.0 if word == "f8" else row

    @classmethod
    def decoded(cls, data: memoryview, *, largest: bool) -> ArrayExtreme:
        """The extremes of these bytes. Raises ValueError."""
        import numpy as np  # 0.1 s, and only for arrays

        packed = _decode(data)
        kinds = set(packed.types)
        if packed.term < 0 or not kinds or not kinds <= _TYPES or sorted(kinds) != packed.types:
            raise ValueError(f"extremes of {len(packed.types)} types from term {packed.term} on")
        words = _words_of(kinds)
        if len(words) != len(packed.words) or any(len(each) % 8 for each in packed.words):
            raise ValueError(f"{len(packed.words)} extremes, and {len(words)} types for them")
        found = cls(packed.term, checked_shape(packed.shape, len(packed.words[0]) // 8), largest=largest)
        found.types = kinds
        for word, held in zip(words, packed.words, strict=True):
            row = np.frombuffer(held, f"<{word}")
            row.flags.writeable = False
            if row.size != found.size or (word == "f8" and np.isnan(row).any()):
                raise ValueError("extremes that are nan, or of another number of elements")
            held_by = np.result_type(*(kind for kind in kinds if _word_of(kind) == word))
            with np.errstate(over="ignore"):
                if not np.array_equal(row.astype(held_by), row):
                    raise ValueError(f"extremes that {held_by} does not have")
            found.words[word] = row
        return found

    def result(self) -> Any:
        """The extremes, in the type that numpy gives to all types that were seen.

        If signed and unsigned integers are mixed, the largest is unsigned and the smallest is signed. An integer among
        floats becomes the nearest double.
        """
        import numpy as np  # the caller has imported it

        made = np.result_type(*sorted(self.types))
        rows = {word: self._row(word) for word in _words_of(self.types)}
        if "f8" in rows:
            rows = {word: row.astype(np.float64) for word, row in rows.items()}
        elif len(rows) == 2 and self.largest:
            made = np.dtype(np.uint64)
            rows["i8"] = np.maximum(rows["i8"], 0).astype(np.uint64)
        elif len(rows) == 2:
            made = np.dtype(np.int64) if made.kind == "f" else made
            rows["u8"] = np.minimum(rows["u8"], np.uint64((1 << 63) - 1)).astype(np.int64)
        found, *others = rows.values()
        for other in others:
            found = _better(found, other, largest=self.largest)
        return found.astype(made).reshape(self.shape)


def _better(one: Any, other: Any, *, largest: bool, out: Any = None) -> Any:
    import numpy as np  # the caller has imported it

    return (np.maximum if largest else np.minimum)(one, other, out=out)


def _word_of(kind: str) -> str:
    """The type that holds all elements of this one."""
    return "f8" if kind[0] == "f" else "u8" if kind == "u8" else "i8"


def _words_of(kinds: set[str]) -> list[str]:
    """The types that hold all elements of these, in their order."""
    needed = set(map(_word_of, kinds))
    return [word for word in _WORDS if word in needed]
