"""The skorch net that trains a model: optimiser, schedule, early stopping, errors by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from skorch.helper import predefined_split
from skorch.utils import noop
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, WeightedRandomSampler

from matmosaic.learning.dataset import TableDataset
from matmosaic.learning.mixture import MixtureModel
from matmosaic.learning.model import RegressionModel


class WeightedMSELoss(nn.Module):
    """Weighted mean squared error; targets come with their weights as a second column."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare predictions (n_rows, 1) with targets and weights (n_rows, 2)."""
        label, weight = target.split(1, dim=1)
        # A batch whose weights are all 0 has nothing to teach, which is not NaN.
        total = weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
        return (weight * (prediction - label) ** 2).sum() / total


class ValidationError(Callback):
    """Record the weighted mean absolute error on the validation rows as ``valid_mae``.

    Parameters
    ----------
    std : float
        Scale of the targets, so that the error is in their unit.
    """

    def __init__(self, std: float) -> None:
        self.std = std

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget the last epoch."""
        self.error_ = 0.0
        self.weight_ = 0.0

    def on_batch_end(
        self, net: NeuralNet, batch: Any = None, training: bool = False, y_pred: Any = None, **kwargs: Any
    ) -> None:
        """Add up a validation batch."""
        if not training:
            label, weight = batch[1].split(1, dim=1)
            self.error_ += float((weight * (y_pred - label).abs()).sum())
            self.weight_ += float(weight.sum())

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Write the epoch's error to the history."""
        error = self.error_ / self.weight_ if self.weight_ else float("nan")
        net.history.record("valid_mae", self.std * error)


class StopWhenDiverged(Callback):
    """End training after an epoch whose loss is not finite: later ones cannot mend it."""

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Stop as skorch's own early stopping does."""
        if not np.isfinite(net.history[-1, "train_loss"]):
            raise KeyboardInterrupt


class Net(NeuralNet):
    """A net whose model adds a penalty to the loss, and whose frozen parameters no optimiser sees."""

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        """Call the model with a batch as it is: it lies on the model's device already."""
        return self.module_(x)

    def get_loss(self, y_pred: Tensor, y_true: Tensor, X: Any = None, training: bool = False) -> Tensor:
        """Return the loss of a batch, in training with the model's penalty."""
        loss = super().get_loss(y_pred, y_true, X=X, training=training)
        return loss + self.module_.penalty() if training else loss

    def get_all_learnable_params(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the names and parameters that are trained."""
        named = super().get_all_learnable_params()
        return ((name, parameter) for name, parameter in named if parameter.requires_grad)


def make_net(
    model: RegressionModel | MixtureModel,
    validation: TableDataset | None,
    *,
    target_std: float,
    max_epochs: int,
    patience: int | None,
    batch_size: int,
    learning_rate: float,
    backbone_learning_rate: float,
    probabilities: np.ndarray | None = None,
    callbacks: Sequence[Any] | None = None,
    device: str = "cpu",
    verbose: int = 0,
) -> NeuralNet:
    """Return a net that is ready for ``fit(dataset, None)``.

    Parameters
    ----------
    model : RegressionModel or MixtureModel
        Trained in place.
    validation : TableDataset or None
        Watched for early stopping; the epoch that is best on it is restored.
    target_std : float
        Unit of the scaled targets.
    max_epochs : int
        Length of the cosine schedule, and the most epochs.
    patience : int or None
        Epochs without a better validation error before training stops; None never stops.
    batch_size : int
        Structures per step; the last, smaller batch is kept.
    learning_rate, backbone_learning_rate : float
        Of Adam, at the start of the schedule, for the head and for the backbone.
    probabilities : ndarray of shape (n_rows,), optional
        Sampling probabilities of the training rows; shuffled without replacement when None.
    callbacks : sequence of skorch callbacks, optional
        Added to the net's own.
    device : str, default="cpu"
        Where the model and the tables are.
    verbose : int, default=0
        0 prints nothing.

    Returns
    -------
    skorch.NeuralNet
        Not yet initialised.
    """
    own: list[Any] = [("schedule", LRScheduler(CosineAnnealingLR, T_max=max(max_epochs, 1)))]
    if validation is not None:
        own.append(("validation_error", ValidationError(target_std)))
        own.append(("early_stopping", _early_stopping(max_epochs if patience is None else patience)))
    # Last, when the others have written what they know of the epoch.
    last = [("divergence", StopWhenDiverged())]
    return Net(
        model,
        criterion=WeightedMSELoss,
        optimizer=torch.optim.Adam,
        optimizer__param_groups=[(model.pretrained, {"lr": backbone_learning_rate})],
        # One kernel for all parameters: they are small and many. Not written for every device.
        optimizer__fused=torch.device(device).type in ("cpu", "cuda"),
        lr=learning_rate,
        max_epochs=max_epochs,
        batch_size=batch_size,
        iterator_train=DataLoader,
        iterator_train__collate_fn=TableDataset.collate,
        iterator_valid__collate_fn=TableDataset.collate,
        **_order(probabilities),
        train_split=None if validation is None else predefined_split(validation),
        callbacks=own + list(callbacks or []) + last,
        device=device,
        verbose=verbose,
    )


def _early_stopping(patience: int) -> EarlyStopping:
    # skorch restores the whole module (backbone and head) of the best epoch, stopped early or not.
    return EarlyStopping(
        "valid_mae", patience=max(patience, 1), threshold=0.0, threshold_mode="abs", load_best=True, sink=noop
    )


def _order(probabilities: np.ndarray | None) -> dict[str, Any]:
    if probabilities is None:
        return {"iterator_train__shuffle": True}
    sampler = WeightedRandomSampler(probabilities.tolist(), num_samples=len(probabilities))
    return {"iterator_train__sampler": sampler}
