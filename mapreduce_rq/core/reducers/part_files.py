"""Writes a part of a result by key as the content of a file: one JSON object on each line, or Parquet with pyarrow.

Each row has a ``key`` and a ``value``, or a ``key`` and the columns by their names. Types that JSON lacks are written
as text (dates as ISO 8601, bytes as base64), nan and infinities as null, and a tuple as an array.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import msgspec

from mapreduce_rq.core.written import built_in, untorn, written
from mapreduce_rq.errors import BadParameter

FORMS = ("jsonl", "parquet")
"""The forms in which a part can be written; they are also the suffixes of the files' names."""


def check_form(form: str, columns: Sequence[str]) -> None:
    """Raise BadParameter for an unknown form, or one that cannot hold these columns."""
    if form not in FORMS:
        raise BadParameter(f"form is {form!r}, and must be one of {', '.join(FORMS)}")
    if form == "parquet" and find_spec("pyarrow") is None:
        raise BadParameter("form: Parquet is written by pyarrow, which is not installed: pip install pyarrow")
    if "key" in columns:
        raise BadParameter("a column is called key, as the keys are in files of parts: give it another name")


def written_part(rows: Sequence[tuple[Any, Any]], columns: Sequence[str], form: str) -> bytes:
    """The content of a file for these pairs of keys and results. Raises BadParameter for a value that does not fit."""
    return _parquet(rows, columns) if form == "parquet" else _json_lines(rows, columns)


def _json_lines(rows: Sequence[tuple[Any, Any]], columns: Sequence[str]) -> bytes:
    named: list[dict[str, Any]]
    if columns:
        named = [{"key": key, **value} for key, value in rows]
    else:
        named = [{"key": key, "value": value} for key, value in rows]
    try:
        try:
            return _JSON.encode_lines(named)
        except UnicodeEncodeError:
            return _JSON.encode_lines(untorn(named))
    except (TypeError, ValueError, OverflowError) as error:
        raise BadParameter(f"a result cannot be written as JSON: {error}") from None


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
    file = io.BytesIO()
    try:
        parquet.write_table(arrow.table(table), file)
    except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise BadParameter(f"the results cannot be written as Parquet, whose columns have one type: {error}") from None
    return file.getvalue()


def of_one_schema(contents: Sequence[Any]) -> Iterator[Any]:
    """The contents of Parquet files of one result, each with the types that hold the columns of all.

    A part without rows has no types, and a part with integers alone has other types than one with floats. But readers
    of the folder use the types of the first file for all. Raises BadParameter for types that fit into no common column.
    """
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    try:
        schemas = [parquet.read_schema(arrow.BufferReader(content)) for content in contents]
        whole = arrow.unify_schemas(schemas, promote_options="permissive")
        for content, schema in zip(contents, schemas, strict=True):
            if schema.equals(whole):
                yield content
                continue
            file = io.BytesIO()
            parquet.write_table(parquet.read_table(arrow.BufferReader(content)).cast(whole), file)
            yield file.getbuffer()
    except (arrow.ArrowException, TypeError, ValueError) as error:
        raise BadParameter(f"the results cannot be written as Parquet, whose columns have one type: {error}") from None
