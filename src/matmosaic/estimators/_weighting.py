"""How much each module of a composition counts, by what its features say of the labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matmosaic.exceptions import NegativeTransferWarning
from matmosaic.learning import TableDataset
from matmosaic.learning.composition import leave_one_out_mean, rmse, sparse_weights
from matmosaic.learning.proxy import knn_proxy


@dataclass(frozen=True)
class Proxies:
    """What the nearest neighbours in the features of each module predict, each row left out once."""

    predictions: np.ndarray
    """Of shape (n_modules, n_rows), on the scale that is learnt."""
    labels: np.ndarray
    """Of shape (n_rows,), on the same."""
    weight: np.ndarray
    """Weights of the rows."""

    @classmethod
    def of(
        cls,
        features: Sequence[Tensor],
        rows: TableDataset,
        *,
        names: Sequence[str],
        n_neighbors: int,
        temperature: float,
    ) -> Proxies:
        """Predict the labels of training rows from the features of each module.

        Parameters
        ----------
        features : sequence of Tensor of shape (n_rows, width)
            Frozen features of each module.
        rows : TableDataset
            With the labels and weights.
        names : sequence of str
            What the modules are called in messages.
        n_neighbors, temperature
            As for :func:`~matmosaic.learning.proxy.knn_proxy`.
        """
        labels, weight = rows.targets.double().cpu().numpy().T
        options = {"n_neighbors": n_neighbors, "temperature": temperature, "weight": weight}
        predictions = [
            knn_proxy(values.cpu().numpy(), labels, name=f"features of module {name!r}", **options)
            for values, name in zip(features, names, strict=True)
        ]
        return cls(np.array(predictions), labels, weight)

    def weights(self, weighting: str, *, max_modules: int | None, min_weight: float) -> np.ndarray:
        """Return the weight of each module (n_modules,); see ComposedRegressor."""
        n_modules = len(self.predictions)
        if weighting == "all-average":
            return np.full(n_modules, 1 / n_modules)
        weights = sparse_weights(
            self.predictions,
            self.labels,
            weight=self.weight,
            max_modules=max_modules,
            min_weight=min_weight,
        )
        if weighting == "optimised":
            return weights
        chosen = np.flatnonzero(weights)
        if weighting == "random":
            chosen = torch.randperm(n_modules)[: len(chosen)].numpy()
        return np.bincount(chosen, minlength=n_modules) / len(chosen)

    def errors(self) -> np.ndarray:
        """Return the root mean squared error of each module (n_modules,)."""
        return np.array([rmse(one, self.labels, self.weight) for one in self.predictions])

    def error(self, weights: np.ndarray) -> float:
        """Return the root mean squared error of the weighted mean of the modules."""
        return rmse(weights @ self.predictions, self.labels, self.weight)

    def mean_error(self) -> float:
        """Return the root mean squared error of the mean of the other rows' labels."""
        return rmse(leave_one_out_mean(self.labels, self.weight), self.labels, self.weight)


def warn_of_no_use(errors: np.ndarray, mean_error: float, names: Sequence[str]) -> None:
    """Warn if no module's neighbours predict better than the mean of the labels.

    Parameters
    ----------
    errors : ndarray of shape (n_modules,)
        Proxy errors, in the unit of the labels.
    mean_error : float
        That of the mean, in the same unit.
    names : sequence of str
        Of the modules.
    """
    best = int(np.argmin(errors))
    if errors[best] < mean_error:
        return
    warnings.warn(
        f"In the features of none of the {len(names)} modules do the nearest neighbours predict 'y' better "
        f"than its mean does: the mean has an error of {mean_error:.4g}, the best module, {names[best]!r}, "
        f"one of {errors[best]:.4g}, and the worst one of {errors.max():.4g} (root mean square, unit of y). "
        "Their weights are chance; use other modules, or compare with TransferRegressor(module=None).",
        NegativeTransferWarning,
        stacklevel=4,  # The call of fit.
    )
