"""Rows of X and y, the same for every estimator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias

import numpy as np

from matmosaic.exceptions import InvalidParameterError, UnusableRowsWarning
from matmosaic.graphs import GraphTable
from matmosaic.modules import ModuleCard, TrainingFingerprints
from matmosaic.modules.fingerprints import Field
from matmosaic.structures import as_structures, structure_arrays, usable_structures

__all__ = ["OnError", "Rows", "fingerprints", "predict_rows", "read_rows"]

# Structures that were read once, or a table of their graphs.
Rows: TypeAlias = "GraphTable | list[Any]"
OnError: TypeAlias = Literal["raise", "nan"]

ROWS_NAMED = 10


def read_rows(X: Any) -> Rows:
    """Return a table as it is, and anything else as checked structures, which are read once."""
    return X if isinstance(X, GraphTable) else as_structures(X)


def fingerprints(*parts: Rows, sources: Iterable[Any] = ()) -> Field:
    """Return one-way hashes of all structures that training has seen, as on the card of a module.

    Parameters
    ----------
    *parts : list of structures or GraphTable
        What was trained on and what chose the best epoch. A table holds no structures, and so none are known.
    sources : iterable of ModuleCard, or of cards of featurizers
        Of the modules that training started from, which have seen structures before. Featurizers have not.

    Returns
    -------
    dict or list of str
        As of :meth:`TrainingFingerprints.to_field`; not complete if those of a part or a source are unknown.
    """
    own = [None if isinstance(rows, GraphTable) else TrainingFingerprints.of(rows) for rows in parts]
    before = [TrainingFingerprints.on(card) for card in sources if isinstance(card, ModuleCard)]
    return TrainingFingerprints.joined([*own, *before]).to_field()


def predict_rows(
    X: Any,
    predict: Callable[[Any], np.ndarray],
    *,
    on_error: OnError,
    elements: Callable[[], frozenset[int] | None],
    shape: tuple[int, ...] = (),
) -> np.ndarray:
    """Predict all rows, or those that can be used.

    Parameters
    ----------
    X : structures or GraphTable, length n_structures
        As ``fit`` takes them.
    predict : callable
        Returns predictions (n, *shape) of structures, or of a table.
    on_error : {"raise", "nan"}
        What becomes of rows that cannot be used: an error, or NaN and a warning.
    elements : callable
        Returns the atomic numbers that can be predicted; None for all.
    shape : tuple of int, default=()
        Of what is predicted for one structure.

    Returns
    -------
    ndarray of float64, shape (n_structures, *shape)
        Predictions.
    """
    if on_error not in ("raise", "nan"):
        raise InvalidParameterError(f"'on_error' must be 'raise' or 'nan'. Got {on_error!r}.")
    if on_error == "raise" or isinstance(X, GraphTable):
        return predict(X)
    structures, rows = usable_structures(X)
    known = elements()
    if known is not None:
        usable = [known.issuperset(structure_arrays(one).numbers) for one in structures]
        structures = [one for one, good in zip(structures, usable, strict=True) if good]
        rows = rows[np.array(usable, dtype=bool)]
    predictions = np.full((len(X), *shape), np.nan)
    if structures:
        predictions[rows] = predict(structures)
    _warn_of(np.flatnonzero(np.isnan(predictions).reshape(len(X), -1).any(axis=1)), len(X))
    return predictions


def _warn_of(bad: np.ndarray, n_rows: int) -> None:
    """Warn of rows without a prediction, at the line that called ``predict``."""
    if len(bad):
        named = ", ".join(f"X[{row}]" for row in bad[:ROWS_NAMED])
        warnings.warn(
            f"{len(bad)} of {n_rows} rows cannot be used and are NaN: {named}"
            f"{', ...' if len(bad) > ROWS_NAMED else ''}; on_error='raise' says why.",
            UnusableRowsWarning,
            stacklevel=4,
        )
