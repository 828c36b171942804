"""Parquet files, read by pyarrow if it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, BinaryIO

from mapreduce_rq.errors import BadParameter

BATCH = 4096
"""Rows read at a time."""


def opened(file: BinaryIO) -> Any:
    """The file, opened by pyarrow. Raises BadParameter without pyarrow, OSError if it is not a Parquet file."""
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        raise BadParameter("files: Parquet is read by pyarrow, which is not installed: pip install pyarrow") from None
    try:
        return parquet.ParquetFile(file)
    except Exception as error:  # of pyarrow's own family
        raise OSError(f"is not a Parquet file: {error}") from None


def rows(file: Any, group: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of a row group as dictionaries, at most BATCH at a time. Raises OSError for a damaged file."""
    try:
        for batch in file.iter_batches(batch_size=BATCH, row_groups=[group]):
            yield batch.to_pylist()
    except Exception as error:  # of pyarrow's own family
        raise OSError(f"cannot be read: {error}") from None
