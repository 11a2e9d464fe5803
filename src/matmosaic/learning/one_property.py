"""The task of most estimators: learn one property. Of several, see :mod:`matmosaic.learning.multitask`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from matmosaic.backbones import MLP
from matmosaic.exceptions import InvalidTargetsError
from matmosaic.learning.sampling import balancing_probabilities
from matmosaic.learning.targets import MIN_TRAINING_ROWS, TargetScale, check_targets


@dataclass(frozen=True)
class OneProperty:
    """The task of predicting one property.

    Parameters
    ----------
    name : str or None, default=None
        What the labels are called, where they say so.
    """

    name: str | None = None
    #: Shape of what is predicted for one structure.
    shape: ClassVar[tuple[int, ...]] = ()

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the properties where there are several."""
        return None

    def read(self, y: Any, n_structures: int, *, name: str = "y", constant: bool = False) -> np.ndarray:
        """Return labels as floats (n_structures,), or say what is wrong with them; see `check_targets`."""
        return check_targets(y, n_structures, name=name, constant=constant)

    def scale(self, y: np.ndarray, weight: np.ndarray | None) -> TargetScale:
        """Return the scale of the training labels."""
        return TargetScale.of(y, weight)

    def of_card(self, outputs: Sequence[Mapping[str, Any]]) -> TargetScale:
        """Return the scale of the one property that a card describes in ``outputs``."""
        return TargetScale.from_card(outputs[0]["target_transform"])

    def join(self, heads: Sequence[MLP]) -> MLP:
        """Return the one head."""
        return heads[0]

    def named(self, predictions: np.ndarray, index: Any = None) -> np.ndarray:
        """Return predictions (n_structures,) as they are: one property needs no name."""
        return predictions

    def outputs(self, predicted: Tensor) -> np.ndarray:
        """Return scaled predictions (n_structures,) of what a head gave, (n_structures, 1)."""
        return predicted[:, 0].cpu().numpy().astype(float)

    def hold_out(
        self, y: np.ndarray, rows: np.ndarray, fraction: float, rng: np.random.RandomState
    ) -> np.ndarray:
        """Return the rows, in order, that are held out for validation.

        Parameters
        ----------
        y : ndarray of shape (n_structures,)
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
            If too few would be left to train on.
        """
        n_held = math.ceil(fraction * len(rows))
        if len(rows) - n_held < MIN_TRAINING_ROWS:
            raise InvalidTargetsError(
                f"'X' has {len(rows)} rows{' of weight > 0' if len(rows) < len(y) else ''}, and "
                f"validation_fraction={fraction} takes {n_held} of them; at least {MIN_TRAINING_ROWS} must "
                "be left to train on. Give more rows, or a smaller fraction."
            )
        return np.sort(rows[rng.permutation(len(rows))][:n_held]) if n_held else rows[:0]

    def probabilities(self, labels: np.ndarray, *, balanced: bool) -> np.ndarray | None:
        """Return sampling probabilities of training rows, None for equal ones.

        Parameters
        ----------
        labels : ndarray of shape (n_rows, 1)
            Scaled labels.
        balanced : bool
            Whether bins of the labels have equal chances.
        """
        return balancing_probabilities(labels[:, 0]) if balanced else None
