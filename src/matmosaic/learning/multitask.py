"""The task of learning several properties at once, with labels that may be missing.

Devi, Butler, Gopalakrishnan, npj Comput. Mater. (2024), DOI 10.1038/s41524-024-01486-1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import r2_score
from torch import Tensor

from matmosaic.backbones import MLP, PropertyHeads
from matmosaic.exceptions import InvalidTargetsError, UnknownNameError, suggest
from matmosaic.learning.sampling import balancing_probabilities
from matmosaic.learning.targets import (
    MIN_TRAINING_ROWS,
    ROWS_NAMED,
    TargetScale,
    as_numbers,
    check_length,
)

__all__ = ["ManyProperties", "PropertyScales"]


@dataclass(frozen=True)
class PropertyScales:
    """A scale for each property.

    Parameters
    ----------
    scales : sequence of TargetScale
        One per property.
    """

    scales: tuple[TargetScale, ...]

    def scale(self, y: np.ndarray) -> np.ndarray:
        """Map labels (n_rows, n_properties) to the scales that are learnt; NaN stays NaN."""
        return self._each(TargetScale.scale, y)

    def unscale(self, scaled: np.ndarray) -> np.ndarray:
        """Map what was predicted back to the units of the labels."""
        return self._each(TargetScale.unscale, scaled)

    def errors(self, predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the absolute errors of scaled predictions in the units of the labels."""
        return self._each(TargetScale.errors, predicted, labels)

    def _each(self, function: Any, *columns: np.ndarray) -> np.ndarray:
        parts = zip(self.scales, *(one.T for one in columns), strict=True)
        return np.stack([function(*part) for part in parts], axis=1)


@dataclass(frozen=True)
class ManyProperties:
    """The task of predicting several properties, of which each row has a label for one or more.

    Parameters
    ----------
    names : sequence of str
        Of the properties, all different.
    as_frame : bool, default=False
        Whether predictions are named, as the labels were.
    sampling : {"proportional", "uniform"}, default="proportional"
        Whether each label is drawn as often as any other, or each property.
    """

    names: tuple[str, ...]
    as_frame: bool = False
    sampling: Literal["proportional", "uniform"] = "proportional"

    @classmethod
    def of(cls, Y: Any, **options: Any) -> ManyProperties:
        """Return the task that labels (n_structures, n_properties) set, named as a DataFrame names them."""
        if isinstance(Y, pd.DataFrame):
            return cls(_column_names(Y), as_frame=True, **options)
        n_properties = _shape(Y)[1]
        if n_properties == 0:
            raise InvalidTargetsError("'y' has no columns; give one per property.")
        return cls(tuple(f"y{column}" for column in range(n_properties)), **options)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what is predicted for one structure."""
        return (len(self.names),)

    def values(self, Y: Any, *, name: str = "y") -> np.ndarray:
        """Return labels as floats (n_rows, n_properties), NaN where missing, in the order of the names."""
        if isinstance(Y, pd.DataFrame):
            Y = self._columns(Y, name)
        values = as_numbers(Y, name)
        if values.shape != (len(values), len(self.names)):
            raise InvalidTargetsError(
                f"'{name}' must have a column for each of the {len(self.names)} properties "
                f"{list(self.names)}. Got shape {values.shape}."
            )
        infinite = np.argwhere(np.isinf(values))
        if len(infinite):
            row, column = infinite[0]
            raise InvalidTargetsError(
                f"'{name}' must be finite, or NaN where a label is missing. Got {values[row, column]} in row "
                f"{row} of {self.names[column]!r} ({len(infinite)} labels). Drop them, or fill them in."
            )
        return values

    def _columns(self, Y: pd.DataFrame, name: str) -> np.ndarray:
        """Return the columns of the properties, in their order; whatever pandas takes for missing is NaN."""
        columns = dict(zip(_column_names(Y, name), range(Y.shape[1]), strict=True))
        for one in self.names:
            if one not in columns:
                raise UnknownNameError(
                    f"'{name}' lacks the property {one!r}: {suggest(one, columns, what='column')}"
                )
        chosen = Y.iloc[:, [columns[one] for one in self.names]]
        return chosen.to_numpy(dtype=object, na_value=np.nan)

    def read(self, Y: Any, n_structures: int, *, name: str = "y", constant: bool = False) -> np.ndarray:
        """Return labels as :meth:`values` does, or say what is wrong with them.

        Parameters
        ----------
        Y : array-like of shape (n_structures, n_properties)
            Labels; NaN where one is missing.
        n_structures : int
            Number of structures they belong to.
        name : str, default="y"
            Name of the parameter in messages.
        constant : bool, default=False
            Whether all labels of a property may be equal.

        Returns
        -------
        ndarray of float64, shape (n_structures, n_properties)
            The labels.

        Raises
        ------
        InvalidTargetsError
            If labels are no numbers, infinite or constant, not a row per structure and a column per property,
            or if a row or column has none.
        """
        values = self.values(Y, name=name)
        check_length(values, n_structures, name)
        empty = np.flatnonzero(np.isnan(values).all(axis=1))
        if len(empty):
            named = ", ".join(f"{name}[{row}]" for row in empty[:ROWS_NAMED])
            raise InvalidTargetsError(
                f"'{name}' has rows without any label: {named}{', ...' if len(empty) > ROWS_NAMED else ''} "
                f"({len(empty)} rows). Drop these structures."
            )
        for column, one in zip(values.T, self.names, strict=True):
            _check_column(column[~np.isnan(column)], one, name, constant=constant)
        return values

    def scale(self, y: np.ndarray, weight: np.ndarray | None) -> PropertyScales:
        """Return the scales of the training labels (n_rows, n_properties), each of those that are there."""
        weight = np.ones(len(y)) if weight is None else weight
        columns = [(column, ~np.isnan(column)) for column in y.T]
        return PropertyScales(tuple(TargetScale.of(one[there], weight[there]) for one, there in columns))

    def of_card(self, outputs: Sequence[Mapping[str, Any]]) -> PropertyScales:
        """Return the scales of the properties that a card describes in ``outputs``."""
        return PropertyScales(tuple(TargetScale.from_card(one["target_transform"]) for one in outputs))

    def join(self, heads: Sequence[MLP]) -> PropertyHeads:
        """Return the heads of all properties as one."""
        return PropertyHeads(heads)

    def outputs(self, predicted: Tensor) -> np.ndarray:
        """Return scaled predictions (n_structures, n_properties) of what the heads gave."""
        return predicted.cpu().numpy().astype(float)

    def hold_out(
        self, y: np.ndarray, rows: np.ndarray, fraction: float, rng: np.random.RandomState
    ) -> np.ndarray:
        """Return the rows, in order, that are held out: of each property, the rarest first, its share.

        Parameters
        ----------
        y : ndarray of shape (n_structures, n_properties)
            Labels.
        rows : ndarray of int
            Rows that may be used.
        fraction : float
            Share of them that is held out.
        rng : RandomState
            Draws them.

        Raises
        ------
        InvalidTargetsError
            If a property has too few labels, to train on or to validate with.
        """
        there = ~np.isnan(y)
        counts = there[rows].sum(axis=0)
        self._check_counts(counts, np.ceil(fraction * counts), fraction)
        left, held = rows[rng.permutation(len(rows))], [rows[:0]]
        for column in np.argsort(counts, kind="stable"):
            own = left[there[left, column]]
            held.append(own[: math.ceil(fraction * len(own))])
            left = left[~there[left, column]]
        chosen = np.sort(np.concatenate(held))
        self._check_counts(counts, there[chosen].sum(axis=0), fraction)
        return chosen

    def _check_counts(self, counts: np.ndarray, held: np.ndarray, fraction: float) -> None:
        """Raise InvalidTargetsError for a property with too few labels on either side of a division."""
        short = (counts - held < MIN_TRAINING_ROWS) | ((held < 1) & (fraction > 0))
        for column in np.flatnonzero(short)[:1]:
            raise InvalidTargetsError(
                f"Property {self.names[column]!r} has {counts[column]} labels, and "
                f"validation_fraction={fraction} takes {int(held[column])} of them; at least 1 must be taken "
                f"and {MIN_TRAINING_ROWS} be left to train on. Give more labels, leave out the property, or "
                "give a validation set with 'X_val' and 'y_val'."
            )

    def probabilities(self, labels: np.ndarray, *, balanced: bool) -> np.ndarray | None:
        r"""Return sampling probabilities of training rows, None for equal ones.

        A property is drawn and then one of the rows that have it,
        :math:`p_i = \sum_j q_j\, p(i \mid j)`; all labels of the row are learnt from.

        Parameters
        ----------
        labels : ndarray of shape (n_rows, n_properties)
            Scaled labels, NaN where missing.
        balanced : bool
            Whether bins of the property's labels, rather than its rows, have equal chances.
        """
        if self.sampling == "proportional" and not balanced:
            return None  # Each label once an epoch.
        there = ~np.isnan(labels)
        chances = there.astype(float)
        if balanced:
            for column in range(labels.shape[1]):
                rows = there[:, column]
                chances[rows, column] = balancing_probabilities(labels[rows, column])
        share = np.ones(len(self.names)) if self.sampling == "uniform" else there.sum(axis=0)
        return chances / chances.sum(axis=0) @ (share / share.sum())

    def named(self, predictions: np.ndarray, index: Any = None) -> np.ndarray | pd.DataFrame:
        """Return predictions (n_structures, n_properties), as a DataFrame if labels were one."""
        return pd.DataFrame(predictions, index, list(self.names)) if self.as_frame else predictions


def _column_names(Y: pd.DataFrame, name: str = "y") -> tuple[str, ...]:
    """Return the names of the columns as text, which tells them apart."""
    missing = [place for place, one in enumerate(Y.columns) if one == "" or pd.isna(one) is True]
    if missing or Y.shape[1] == 0:
        places = f"columns {missing} have none" if missing else "there are no columns"
        raise InvalidTargetsError(f"'{name}' must name each property, but {places}. Set '{name}.columns'.")
    names = tuple(map(str, Y.columns))
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise InvalidTargetsError(
            f"'{name}' must give each property a name of its own. Got several columns {twice}; rename them."
        )
    return names


def _check_column(labels: np.ndarray, prop: str, name: str, *, constant: bool) -> None:
    """Raise InvalidTargetsError if the labels of a property that are there cannot be learnt from."""
    if len(labels) == 0:
        raise InvalidTargetsError(
            f"Property {prop!r} has no label in '{name}': all are missing. Leave it out, or check the column."
        )
    if not constant and len(labels) > 1 and np.ptp(labels) == 0:
        raise InvalidTargetsError(
            f"Property {prop!r} is constant in '{name}': all {len(labels)} labels are {labels[0]:g}. There "
            "is nothing to learn; leave it out, or check that the right column was read."
        )


def is_table(y: Any) -> bool:
    """Return whether labels have rows and columns, or raise InvalidTargetsError for rows of other lengths."""
    n_dimensions = len(_shape(y))
    if n_dimensions == 1:
        _refuse_ragged(np.asarray(y, dtype=object))
    return n_dimensions == 2


def _refuse_ragged(y: np.ndarray) -> None:
    """Raise InvalidTargetsError if there are rows of several labels in what is no table."""
    kinds = list | tuple | np.ndarray | pd.Series
    lengths = [len(row) if isinstance(row, kinds) and getattr(row, "ndim", True) else 1 for row in y]
    longest = int(np.argmax(lengths)) if lengths else 0
    other = next((row for row, length in enumerate(lengths) if length != lengths[longest]), None)
    if other is not None:
        raise InvalidTargetsError(
            f"'y' must have a column for each property, and its rows differ in length: y[{other}] holds "
            f"{lengths[other]}, y[{longest}] holds {lengths[longest]}. Put NaN where a label is missing."
        )


def _shape(y: Any) -> tuple[int, ...]:
    """Return the shape of labels; rows of different lengths have none, and are one dimension."""
    return tuple(y.shape) if hasattr(y, "shape") else np.asarray(y, dtype=object).shape


def label_errors(
    labels: np.ndarray, predicted: np.ndarray, weight: np.ndarray | None
) -> tuple[int, float, float]:
    """Return the number of labels that are there, their mean absolute error, and R2.

    Parameters
    ----------
    labels, predicted : ndarray of shape (n_rows,)
        Of one property; labels are NaN where missing.
    weight : ndarray of shape (n_rows,) or None
        Weights of the rows.
    """
    there = ~np.isnan(labels) if weight is None else ~np.isnan(labels) & (weight > 0)
    labels, predicted = labels[there], predicted[there]
    if len(labels) == 0:
        return 0, np.nan, np.nan
    weight = None if weight is None else weight[there]
    error = float(np.average(np.abs(labels - predicted), weights=weight))
    r2 = r2_score(labels, predicted, sample_weight=weight) if len(labels) > 1 else np.nan
    return len(labels), error, r2
