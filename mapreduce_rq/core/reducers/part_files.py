"""Writes a part of a result by key as the content of a file: one JSON object on each line, or Parquet with pyarrow.

Each row has a ``key`` and a ``value``, or a ``key`` and the columns by their names. Types that JSON lacks are written
as text (dates as ISO 8601, bytes as base64), nan and infinities as null, and a tuple as an array.

Two keys never have the same row: with a key of a type that JSON lacks, the row has ``key_type``, too. So the date and
the text 2020-01-01 are told apart. The keys of one result lie in many files, written by many processes, and none of
these sees all keys; so the mark depends on the key alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from math import isfinite
from types import NoneType
from typing import Any

import msgspec

from mapreduce_rq.core.written import built_in, is_torn, untorn, written
from mapreduce_rq.errors import BadParameter

FORMS = ("jsonl", "parquet")
"""The forms in which a part can be written; they are also the suffixes of the files' names."""
MARK = "key_type"
"""The field of a row in JSON that says what its key is."""


def check_form(form: str, columns: Sequence[str]) -> None:
    """Raise BadParameter for an unknown form, or one that cannot hold these columns."""
    if form not in FORMS:
        raise BadParameter(f"form is {form!r}, and must be one of {', '.join(FORMS)}")
    if form == "parquet" and find_spec("pyarrow") is None:
        raise BadParameter("form: Parquet is written by pyarrow, which is not installed: pip install pyarrow")
    for name in ("key", MARK):
        if name in columns:
            raise BadParameter(f"a column is called {name}, as the keys are in files of parts: give it another name")


def written_part(rows: Sequence[tuple[Any, Any]], columns: Sequence[str], form: str) -> bytes:
    """The content of a file for these pairs of keys and results. Raises BadParameter for a value that does not fit."""
    return _parquet(rows, columns) if form == "parquet" else _json_lines(rows, columns)


def _json_lines(rows: Sequence[tuple[Any, Any]], columns: Sequence[str]) -> bytes:
    values = [value if columns else {"value": value} for _, value in rows]
    keys = (
        [{"key": key} for key, _ in rows] if _is_plain([key for key, _ in rows]) else [_marked(key) for key, _ in rows]
    )
    named = [{**key, **value} for key, value in zip(keys, values, strict=True)]
    try:
        try:
            return _JSON.encode_lines(named)
        except UnicodeEncodeError:
            return _JSON.encode_lines(untorn(named))
    except (TypeError, ValueError, OverflowError) as error:
        raise BadParameter(f"a result cannot be written as JSON: {error}") from None


_PLAIN = frozenset({NoneType, bool, int})
_ESCAPE = "\\ud"
"""How the text begins with which half of a character is written."""


def _is_plain(keys: Sequence[Any]) -> bool:
    """Whether no key needs a mark: a quick look at what most keys are."""
    kinds = set(map(type, keys))
    if kinds == {float}:
        return all(map(isfinite, keys))
    return kinds <= _PLAIN or (kinds == {str} and _ESCAPE not in "\n".join(keys))


def _marked(key: Any) -> dict[str, Any]:
    """The fields of a row that say which key it has."""
    kind = _kind_of(key)
    return {"key": key} if kind is None else {"key": _shown(key), MARK: kind}


def _kind_of(key: Any) -> Any:
    """What a key is, if its JSON does not say it: the name of its type, or for a tuple the kinds of all members."""
    kind = type(key)
    if kind is tuple:
        kinds = [_kind_of(member) for member in key]
        return kinds if any(found is not None for found in kinds) else None
    if kind is str:  # one half of a character is written as this escape, and its text must differ from that
        return None if _ESCAPE not in key else f"str {key!a}" if is_torn(key) else "str"
    if kind in _PLAIN or (kind is float and isfinite(key)):
        return None
    return kind.__name__


def _shown(key: Any) -> Any:
    """A key as JSON has it. Infinities are text: as null, they would be one with None, and with each other."""
    if type(key) is tuple:
        return [_shown(member) for member in key]
    return str(key) if type(key) is float and not isfinite(key) else key


def _as_json(value: Any) -> Any:
    if hasattr(value, "tolist"):  # of numpy
        return built_in(value)
    return list(value) if isinstance(value, set | frozenset) else written(value)


_JSON = msgspec.json.Encoder(enc_hook=_as_json)


def _parquet(rows: Sequence[tuple[Any, Any]], columns: Sequence[str]) -> bytes:
    check_form("parquet", columns)
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    table: dict[str, list[Any]] = {"key": [key for key, _ in rows]}
    for column in columns or ("value",):
        table[column] = [value[column] if columns else value for _, value in rows]
    for column, values in table.items():
        if not _are_alike(values):
            raise BadParameter(f"{_ONE_TYPE}: {column} has {_kinds_in(values)}")
    file = io.BytesIO()
    try:
        parquet.write_table(arrow.table(table), file)
    except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise BadParameter(f"{_ONE_TYPE}: {error}") from None
    return file.getvalue()


_ONE_TYPE = "the results cannot be written as Parquet, whose columns have one type"
_WITH_INTEGERS = {"int", "float", "Decimal"}
"""Types of which a column has the values of integers, too; pyarrow refuses integers that would lose digits."""


def _are_alike(values: Iterable[Any]) -> bool:
    """Whether a column of Parquet holds these values as they are: pyarrow makes dates of numbers beside a date, a time
    of a date, and bytes of a text, and says nothing.
    """
    given = [value for value in values if value is not None]
    kinds = _plain_kinds(given)
    if not kinds:
        return True
    if kinds <= {list, tuple}:
        return _are_alike(chain.from_iterable(given))
    if all(issubclass(kind, dict) for kind in kinds):
        return all(_are_alike(one.get(name) for one in given) for name in set(chain.from_iterable(given)))
    if {(kind.__module__, kind.__name__) for kind in kinds} == {("datetime", "datetime")}:
        return len({value.utcoffset() is None for value in given}) == 1
    return len(kinds - {int}) <= 1 and (len(kinds) == 1 or {kind.__name__ for kind in kinds} <= _WITH_INTEGERS)


def _plain_kinds(values: list[Any]) -> set[type]:
    kinds = set(map(type, values))
    if len(kinds) < 2 or not any(kind.__module__ == "numpy" for kind in kinds):
        return kinds
    return {type(value.item()) if getattr(value, "shape", None) == () else type(value) for value in values}


def _kinds_in(values: Iterable[Any]) -> str:
    names = sorted({type(value).__name__ for value in values if value is not None})
    if len(names) > 1:
        return " and ".join(names)
    return "times with and without a zone" if names == ["datetime"] else f"a {names[0]} with members of several types"


def of_one_schema(contents: Sequence[Any]) -> Iterator[Any]:
    """The contents of Parquet files of one result, each with the types that hold the columns of all.

    A part without rows has no types, and a part with integers alone has other types than one with floats. But readers
    of the folder use the types of the first file for all. Raises BadParameter for types that fit into no common column.
    """
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    try:
        schemas = [parquet.read_schema(arrow.BufferReader(content)) for content in contents]
        whole = arrow.unify_schemas(schemas, promote_options="permissive")
        for column in whole.names:
            _check_one_kind(arrow, column, [schema.field(column).type for schema in schemas])
        for content, schema in zip(contents, schemas, strict=True):
            if schema.equals(whole):
                yield content
                continue
            file = io.BytesIO()
            parquet.write_table(parquet.read_table(arrow.BufferReader(content)).cast(whole), file)
            yield file.getbuffer()
    except (arrow.ArrowException, TypeError, ValueError) as error:
        raise BadParameter(f"{_ONE_TYPE}: {error}") from None


def _check_one_kind(arrow: Any, column: str, types: Iterable[Any]) -> None:
    """Raise BadParameter for types of parts of which pyarrow would make one, with other values."""
    leaves = set(chain.from_iterable(_leaves(arrow, one) for one in types))
    for one, other in (("binary", "string"), ("decimal", "floating")):
        if {one, other} <= leaves:
            raise BadParameter(f"{_ONE_TYPE}: {column} has {one} and {other} values")


def _leaves(arrow: Any, one: Any) -> Iterator[str]:
    if arrow.types.is_nested(one):
        for number in range(one.num_fields):
            yield from _leaves(arrow, one.field(number).type)
    else:
        is_ = arrow.types
        for name, test in (
            ("binary", is_.is_binary),
            ("binary", is_.is_large_binary),
            ("string", is_.is_string),
            ("string", is_.is_large_string),
            ("decimal", is_.is_decimal),
            ("floating", is_.is_floating),
        ):
            if test(one):
                yield name
