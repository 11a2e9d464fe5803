"""Splits of rows: random folds, or those of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from matmosaic.cli._scoring import Split
from matmosaic.exceptions import DataFileError, InvalidParameterError, suggest

EXPECTED = 'expected a JSON list such as [{"train": [0, 1], "val": [2], "test": [3]}], "val" optional'
PARTS = ("train", "val", "test")


def k_folds(n_rows: int, n_folds: int, *, seed: int) -> list[Split]:
    """Divide rows at random; each is tested on once.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    n_folds : int
        Number of folds.
    seed : int
        Of the division.

    Returns
    -------
    list of Split
        One per fold.

    Raises
    ------
    InvalidParameterError
        If there are fewer rows than folds.
    """
    if n_rows < n_folds:
        raise InvalidParameterError(
            f"--cv {n_folds} needs at least {n_folds} rows with a label. Got {n_rows}."
        )
    order = np.random.default_rng(seed).permutation(n_rows)
    tests = [np.sort(part) for part in np.array_split(order, n_folds)]
    return [Split(np.setdiff1d(order, test), test) for test in tests]


def read_splits(path: str, rows: np.ndarray, *, dropped: list[int]) -> list[Split]:
    """Read the splits of a file.

    Parameters
    ----------
    path : str
        JSON file.
    rows : ndarray of int, shape (n_rows,)
        Row of the data that each labelled structure is.
    dropped : list of int
        Rows of the data that were left out; they are left out of the splits, too.

    Returns
    -------
    list of Split
        Positions in ``rows``.

    Raises
    ------
    DataFileError
        If the file is unreadable or malformed, names a row that does not exist, or tests on rows
        that it trains on.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataFileError(f"{path}: cannot be read as JSON ({error}); {EXPECTED}.") from error
    if not isinstance(content, list) or not content:
        raise DataFileError(f"{path}: {EXPECTED}. Got {_kind(content)}.")
    place = {int(row): position for position, row in enumerate(rows)}
    known = {*place, *dropped}
    return [_split(part, place, known, f"{path}: split {number}") for number, part in enumerate(content)]


def _kind(content: Any) -> str:
    keys = f" with the keys {list(content)[:5]}" if isinstance(content, dict) else ""
    return f"{'an empty ' if content == [] else ''}{type(content).__name__}{keys}"


def _split(part: Any, place: dict[int, int], known: set[int], where: str) -> Split:
    if not isinstance(part, dict) or not {"train", "test"} <= set(part):
        raise DataFileError(f"{where}: {EXPECTED}. Got {_kind(part)}.")
    for name in part:
        if name not in PARTS:
            raise DataFileError(f"{where}: {suggest(name, PARTS, what='part')}")
    numbers = {name: _numbers(part[name], known, f"{where}, {name!r}") for name in PARTS if name in part}
    _check_disjoint(numbers, where)
    found = {
        name: np.array([place[row] for row in rows if row in place], dtype=int)
        for name, rows in numbers.items()
    }
    for name, positions in found.items():
        if not len(positions):
            raise DataFileError(f"{where}: {name!r} has no rows with a label.")
    return Split(**found)


def _numbers(rows: Any, known: set[int], where: str) -> list[int]:
    if not isinstance(rows, list) or not all(isinstance(row, int) for row in rows):
        raise DataFileError(f"{where}: expected a list of row numbers.")
    wrong = [row for row in rows if row not in known]
    if wrong:
        raise DataFileError(
            f"{where} names row {wrong[0]}, but the data has {len(known)} rows, counted from 0 "
            f"({len(wrong)} such rows)."
        )
    return rows


def _check_disjoint(numbers: dict[str, list[int]], where: str) -> None:
    used = set(numbers["train"]) | set(numbers.get("val", []))
    shared = sorted(used.intersection(numbers["test"]))
    if shared:
        raise DataFileError(
            f"{where} tests on rows that it trains or validates on: {shared[:10]} ({len(shared)} rows). "
            "Leave them out of one of the two."
        )
