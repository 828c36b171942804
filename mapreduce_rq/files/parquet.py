"""Parquet files, read by pyarrow if it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, BinaryIO

from mapreduce_rq.errors import BadParameter

BATCH = 4096
"""Rows read at a time."""


def opened(file: BinaryIO) -> Any:
    """The file, opened by pyarrow. Raises BadParameter without pyarrow, OSError if it is not a Parquet file or has two
    columns of one name, one of which a dictionary would lose.
    """
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        raise BadParameter("files: Parquet is read by pyarrow, which is not installed: pip install pyarrow") from None
    try:
        found = parquet.ParquetFile(file, page_checksum_verification=True)
        names = found.schema_arrow.names
    except Exception as error:  # of pyarrow's own family
        raise OSError(f"is not a Parquet file: {error}") from None
    if len(set(names)) < len(names):
        raise OSError(f"it names a column twice: {', '.join(names)}")
    return found


def rows(file: Any, group: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of a row group as dictionaries, at most BATCH at a time. Raises OSError for a damaged file."""
    try:
        for batch in file.iter_batches(batch_size=BATCH, row_groups=[group]):
            yield _in_microseconds(batch).to_pylist()
    except Exception as error:  # of pyarrow's own family
        raise OSError(f"cannot be read: {error}") from None


def _in_microseconds(batch: Any) -> Any:
    """The batch with times as Python has them, in microseconds.

    Of nanoseconds pyarrow would make other objects where pandas is installed; of a time of day it would drop them. If a
    column has more than whole microseconds, it stays as it is, and pyarrow needs pandas for it. Raises ValueError for a
    time of day, which pandas has no type for either.
    """
    arrow = import_module("pyarrow")
    columns = list(batch.columns)
    for at, column in enumerate(columns):
        kind = _as_python_has_it(arrow, column.type)
        if kind is column.type:
            continue
        try:
            columns[at] = column.cast(kind)
        except arrow.ArrowInvalid:
            if "time64[ns]" in str(column.type):
                name = batch.schema.names[at]
                raise ValueError(f"the column {name} has nanoseconds, which Python's times do not have") from None
    return arrow.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _as_python_has_it(arrow: Any, kind: Any) -> Any:
    """The type with microseconds in the place of nanoseconds; the same object if it has none."""
    types = arrow.types
    if types.is_timestamp(kind) and kind.unit == "ns":
        return arrow.timestamp("us", tz=kind.tz)
    if types.is_duration(kind) and kind.unit == "ns":
        return arrow.duration("us")
    if types.is_time64(kind) and kind.unit == "ns":
        return arrow.time64("us")
    if types.is_list(kind) or types.is_large_list(kind):
        inner = _as_python_has_it(arrow, kind.value_type)
        make = arrow.list_ if types.is_list(kind) else arrow.large_list
        return kind if inner is kind.value_type else make(kind.value_field.with_type(inner))
    if types.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        inside = [_as_python_has_it(arrow, field.type) for field in fields]
        if all(inner is field.type for inner, field in zip(inside, fields, strict=True)):
            return kind
        return arrow.struct([field.with_type(inner) for inner, field in zip(inside, fields, strict=True)])
    return kind
