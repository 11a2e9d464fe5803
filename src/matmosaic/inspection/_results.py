"""What displays share in reading results: tables, benchmark files, documents of ``matmosaic evaluate``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from matmosaic.exceptions import (
    DataFileError,
    InvalidParameterError,
    UnknownNameError,
    UnusableRowsWarning,
    suggest,
)

Results: TypeAlias = pd.DataFrame | Mapping[str, Any] | str | Path | Sequence[Any]

# Names that results of other kinds have for the same.
_ALIASES = {"target": "task", "trial": "seed", "size": "labels", "n_train": "labels"}
ERRORS = {
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
    "valid_mae": "Mean absolute error of validation",
    "r2": "R²",
}
_UNITLESS = {"r2"}


def read_results(results: Results) -> pd.DataFrame:
    """Return results as a table of one row per run.

    Parameters
    ----------
    results : DataFrame, path, mapping or sequence of these
        A table; a file of JSON lines or of one JSON document; a document that ``matmosaic evaluate --json``
        or a benchmark printed; or several of these.

    Returns
    -------
    DataFrame
        Columns are those of the results, with the names ``task``, ``method``, ``seed`` and ``labels``
        (number of training labels) where these were called otherwise. Folds of ``matmosaic evaluate`` count
        as seeds, and a method of one module is named with it.

    Raises
    ------
    DataFileError
        If a file is missing or malformed, or there is no result in it.
    """
    table = pd.concat([_one(part) for part in _parts(results)], ignore_index=True)
    if table.empty:
        raise DataFileError("Results must hold at least one run. Got none.")
    for name, usual in _ALIASES.items():
        if name in table and usual not in table:
            table = table.rename(columns={name: usual})
    return table


def _parts(results: Any) -> list[Any]:
    parts = [results] if isinstance(results, pd.DataFrame | Mapping | str | Path) else list(results)
    if not parts:
        raise DataFileError("Results must hold at least one run. Got none.")
    return parts


def _one(part: Any) -> pd.DataFrame:
    match part:
        case pd.DataFrame():
            return part
        case Mapping():
            return pd.DataFrame(list(_runs(part)))
        case str() | Path():
            return pd.DataFrame([run for document in _documents(Path(part)) for run in _runs(document)])
    raise InvalidParameterError(
        "'results' must be a DataFrame, a path, a document of `matmosaic evaluate --json`, or several of "
        f"these. Got {type(part).__name__}."
    )


def _documents(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file, which is one JSON document or one per line."""
    if not path.is_file():
        raise DataFileError(f"{path}: does not exist; expected JSON lines of benchmark results.")
    text = path.read_text(encoding="utf-8")
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        whole = None
    if isinstance(whole, dict):
        return [whole]
    lines = enumerate(text.splitlines(), 1)
    return [_parse(line, f"{path}: line {n}") for n, line in lines if line.strip()]


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataFileError(f"{where} is no JSON ({error.msg}, column {error.colno}).") from error
    if not isinstance(row, dict):
        raise DataFileError(f"{where} is no JSON object. Got {type(row).__name__}.")
    return row


def _runs(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the runs of a document, which is a run itself, or has a row per run or per method with folds."""
    if not isinstance(document.get("rows"), list):
        yield dict(document)
        return
    shared = {name: document[name] for name in ("target", "task", "unit") if name in document}
    for row in document["rows"]:
        if not isinstance(row.get("folds"), list):
            yield {**shared, **row}
            continue
        method = " ".join(filter(None, [row["method"], row.get("module")]))
        sizes = [fold["n_train"] for fold in row["folds"] if "n_train" in fold]
        # Folds of one cross-validation differ by a row or two, and belong to one point of a learning curve.
        labels = {"labels": round(sum(sizes) / len(sizes))} if sizes else {}
        for seed, fold in enumerate(row["folds"]):
            yield {**shared, "method": method, "seed": seed, **fold, **labels}


# --- checking ----------------------------------------------------------------------------------------


def require(table: pd.DataFrame, *columns: str) -> None:
    """Refuse results that lack a column."""
    for column in columns:
        if column not in table:
            raise DataFileError(
                f"Results must have a column {column!r}. {suggest(column, map(str, table), what='column')}"
            )


def finite(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows that have a value of the metric; say how many have none."""
    if metric not in table:
        numbers = table.select_dtypes("number").columns
        raise UnknownNameError(suggest(metric, map(str, numbers), what="column of errors"))
    values = pd.to_numeric(table[metric], errors="coerce")
    kept = table.assign(**{metric: values})[np.isfinite(values)]
    if kept.empty:
        raise DataFileError(f"Results hold no finite {metric!r} in any of their {len(table)} rows.")
    if len(kept) < len(table):
        lost = table[~np.isfinite(values)].iloc[0]
        warnings.warn(
            f"{len(table) - len(kept)} of {len(table)} results have no finite {metric!r} and are left out; "
            f"the first is of {lost['method']!r}, seed {lost['seed']}.",
            UnusableRowsWarning,
            stacklevel=4,
        )
    return kept


def of_methods(table: pd.DataFrame, methods: Sequence[str] | None) -> pd.DataFrame:
    """Return the rows of these methods, in their order."""
    present = list(dict.fromkeys(table["method"]))
    chosen = present if methods is None else list(methods)
    for method in chosen:
        if method not in present:
            raise UnknownNameError(suggest(str(method), map(str, present), what="method"))
    if not chosen:
        raise InvalidParameterError(f"'methods' must name at least one of {present}.")
    return pd.concat([table[table["method"] == method] for method in chosen])


def of_one_task(table: pd.DataFrame, task: str | None) -> pd.DataFrame:
    """Return the rows of one task; results of several cannot share an axis."""
    if "task" not in table:
        return table
    tasks = list(dict.fromkeys(table["task"]))
    if task is None and len(tasks) > 1:
        raise InvalidParameterError(f"'task' must choose one of {tasks}; their errors differ in meaning.")
    if task is not None and task not in tasks:
        raise UnknownNameError(suggest(str(task), map(str, tasks), what="task"))
    return table if task is None else table[table["task"] == task]


def unit_of(table: pd.DataFrame, unit: str | None) -> str | None:
    """Return the unit that was given, or the one that all results state."""
    if unit is not None or "unit" not in table:
        return unit
    units = list(dict.fromkeys(table["unit"].dropna()))
    if len(units) > 1:
        raise InvalidParameterError(
            f"'results' of one task must have one unit. Got {units}; convert them, or choose rows."
        )
    return str(units[0]) if units else None


def once(table: pd.DataFrame, *key: str) -> None:
    """Refuse results in which a run occurs twice, and say what may tell the two apart."""
    twice = table.duplicated(list(key), keep=False)
    if not twice.any():
        return
    first = table[twice].iloc[0]
    same = table[(table[list(key)] == first[list(key)]).all(axis=1)]
    differ = [name for name in same if name not in ERRORS and same[name].astype(str).nunique() > 1]
    run = ", ".join(f"{name} {first[name]}" for name in key)
    raise InvalidParameterError(
        f"'results' must hold each run once. {run} comes {len(same)} times"
        + (f", with different {', '.join(map(repr, differ))}" if differ else "")
        + "; select the rows that belong together."
    )


def error_label(metric: str, unit: str | None) -> str:
    """Return the label of an axis of errors."""
    shown = None if metric in _UNITLESS else unit
    return f"{ERRORS.get(metric, metric)} ({shown})" if shown else ERRORS.get(metric, metric)
