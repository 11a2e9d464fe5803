"""Readers of files that hold a whole table: JSON, JSON lines, parquet and extended XYZ."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from matmosaic.datasets._records import STRUCTURE, Record
from matmosaic.exceptions import DataFileError

_OPENERS: dict[str, Callable[..., IO[Any]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
PACKED = frozenset(_OPENERS)
_PANDAS_INDEX = "__index_level_0__"


def open_text(path: Path) -> IO[str]:
    """Open a text file, packed or not, for reading."""
    opener = _OPENERS.get(path.suffix.lower(), open)
    return opener(path, "rt", encoding="utf-8-sig")


# --- JSON --------------------------------------------------------------------------------------------


def read_json(path: Path) -> list[Record]:
    """Read a matminer table, a list of records, or one structure."""
    with open_text(path) as file:
        content = _parse(file.read())
    match content:
        case {"columns": list(), "data": list()}:
            return _split_table(content)
        case list() if all(isinstance(row, dict) for row in content):
            return [Record(f"row {number}", row) for number, row in enumerate(content)]
        case {"sites": _} | {"frac_coords": _}:
            return [Record("the structure", content)]
    raise DataFileError(
        'is JSON of an unknown layout; expected a matminer table {"index", "columns", "data"} or a list of '
        "objects, one per structure."
    )


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataFileError(
            f"line {error.lineno}, column {error.colno} is no JSON ({error.msg}); expected one JSON "
            "document. A file of one object per line is called .jsonl."
        ) from error


def _split_table(table: dict[str, Any]) -> list[Record]:
    columns, data = table["columns"], table["data"]
    index = table.get("index") or range(len(data))
    if len(index) != len(data):
        raise DataFileError(f"names {len(index)} rows in 'index' and holds {len(data)} in 'data'.")
    if len(set(columns)) < len(columns):
        raise DataFileError(f"has columns of the same name: {columns}; rename them.")
    for number, row in enumerate(data):
        if len(row) != len(columns):
            raise DataFileError(f"row {number} has {len(row)} values; expected {len(columns)}: {columns}.")
    return [
        Record(
            f"row {number}" if key == number else f"row {number} ({key!r})",
            dict(zip(columns, row, strict=True)),
            key,
        )
        for number, (key, row) in enumerate(zip(index, data, strict=True))
    ]


def read_json_lines(path: Path) -> Iterator[Record]:
    """Read one JSON object per line; blank lines do not count."""
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield Record(f"line {number}", _parse_line(line, number))


def _parse_line(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataFileError(f"line {number} is no JSON ({error.msg}, column {error.colno}).") from error
    if not isinstance(row, dict):
        raise DataFileError(f"line {number} is a JSON {type(row).__name__}; expected an object of columns.")
    return row


# --- parquet -----------------------------------------------------------------------------------------


def read_parquet(path: Path) -> Iterator[Record]:
    """Read a parquet file whose structure column holds JSON text or nested values."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise DataFileError(
            'is parquet, which needs pyarrow; install it with: pip install "matmosaic[parquet]"'
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(batch_size=1024) for row in batch.to_pylist())
            for number, row in enumerate(rows):
                key = row.pop(_PANDAS_INDEX, None)
                yield Record(f"row {number}", row, key)
    except pyarrow.ArrowException as error:
        raise DataFileError(f"cannot be read as parquet ({error}).") from error


# --- extended XYZ ------------------------------------------------------------------------------------


def read_extxyz(path: Path) -> Iterator[Record]:
    """Read the frames of an extended XYZ file; what their comment lines hold becomes columns."""
    try:
        from ase.io import iread
    except ImportError as error:
        raise DataFileError(
            'is XYZ, which needs ASE; install it with: pip install "matmosaic[ase]"'
        ) from error
    number = 0
    try:
        for number, atoms in enumerate(iread(path, index=":", format="extxyz"), start=1):
            yield Record(f"frame {number}", {**_frame_values(atoms), STRUCTURE: atoms})
    except (ValueError, LookupError, TypeError, OSError, RuntimeError, AssertionError) as error:
        raise DataFileError(
            f"frame {number + 1} cannot be read as extended XYZ ({type(error).__name__}: {error})."
        ) from error


def _frame_values(atoms: Any) -> dict[str, Any]:
    # ASE moves keys that it knows as results, such as `energy`, from the comment line to a calculator.
    results = atoms.calc.results if atoms.calc is not None else {}
    scalars = {name: value for name, value in results.items() if getattr(value, "ndim", 0) == 0}
    return {**scalars, **atoms.info}
