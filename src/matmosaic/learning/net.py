"""The skorch net that trains a model: optimiser, schedule, early stopping, errors by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

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
from matmosaic.learning.multitask import PropertyScales
from matmosaic.learning.targets import TargetScale


class WeightedLoss(nn.Module):
    """Weighted mean of errors; targets come with their weights beside them.

    Parameters
    ----------
    error : {"mse", "l1"}, default="mse"
        Squares of differences, or their absolute values.
    reduction : {"present", "reference"}, default="present"
        What the sum of errors is divided by: the weights of the targets that are there, or as much as if
        none were missing, as Devi et al. do.
    """

    def __init__(
        self, error: Literal["mse", "l1"] = "mse", reduction: Literal["present", "reference"] = "present"
    ) -> None:
        super().__init__()
        self.error = error
        self.reduction = reduction

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare predictions (n_rows, n_targets) with targets and weights (n_rows, 2 * n_targets)."""
        label, weight = target.chunk(2, dim=1)
        difference = prediction - label
        errors = difference.square() if self.error == "mse" else difference.abs()
        # A row counts for all targets what it counts for those that it has.
        every = weight if self.reduction == "present" else weight.amax(dim=1, keepdim=True).expand_as(weight)
        # A batch whose weights are all 0 has nothing to teach, which is not NaN.
        return (weight * errors).sum() / every.sum().clamp(min=torch.finfo(weight.dtype).tiny)


class ValidationError(Callback):
    """Record the weighted mean absolute error on the validation rows as ``valid_mae``.

    It is in the unit of the target. Of several targets, each has its own ``valid_mae NAME`` in its unit, and
    ``valid_mae`` is the mean over all labels on the scales that are learnt.

    Parameters
    ----------
    scale : TargetScale or PropertyScales
        Of the targets.
    names : sequence of str, optional
        Of the targets where there are several.
    """

    def __init__(self, scale: TargetScale | PropertyScales, names: Sequence[str] | None = None) -> None:
        self.scale = scale
        self.names = names

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget the last epoch."""
        self.error_: Any = 0.0
        self.scaled_error_: Any = 0.0
        self.weight_: Any = 0.0

    def on_batch_end(
        self, net: NeuralNet, batch: Any = None, training: bool = False, y_pred: Any = None, **kwargs: Any
    ) -> None:
        """Add up a validation batch."""
        if training:
            return
        predicted, target = (one.cpu().numpy().astype(float) for one in (y_pred, batch[1]))
        label, weight = np.split(target, 2, axis=1)
        self.error_ += (weight * self.scale.errors(predicted, label)).sum(axis=0)
        self.scaled_error_ += (weight * np.abs(predicted - label)).sum(axis=0)
        self.weight_ += weight.sum(axis=0)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Write the epoch's errors to the history."""
        if self.names is None:
            net.history.record("valid_mae", _ratio(np.sum(self.error_), np.sum(self.weight_)))
            return
        net.history.record("valid_mae", _ratio(self.scaled_error_.sum(), self.weight_.sum()))
        for name, error, weight in zip(self.names, self.error_, self.weight_, strict=True):
            net.history.record(f"valid_mae {name}", _ratio(error, weight))


def _ratio(total: float, weight: float) -> float:
    return float(total / weight) if weight else float("nan")


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
    scale: TargetScale | PropertyScales,
    max_epochs: int,
    patience: int | None,
    batch_size: int,
    learning_rate: float,
    backbone_learning_rate: float,
    names: Sequence[str] | None = None,
    loss: Literal["mse", "l1"] = "mse",
    reduction: Literal["present", "reference"] = "present",
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
    scale : TargetScale or PropertyScales
        Of the targets.
    max_epochs : int
        Length of the cosine schedule, and the most epochs.
    patience : int or None
        Epochs without a better validation error before training stops; None never stops.
    batch_size : int
        Structures per step; the last, smaller batch is kept.
    learning_rate, backbone_learning_rate : float
        Of Adam, at the start of the schedule, for the head and for the backbone.
    names : sequence of str, optional
        Of the targets where there are several.
    loss : {"mse", "l1"}, default="mse"
        What is minimised: squared or absolute errors of the scaled targets.
    reduction : {"present", "reference"}, default="present"
        As for :class:`WeightedLoss`.
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
        own.append(("validation_error", ValidationError(scale, names)))
        own.append(("early_stopping", _early_stopping(max_epochs if patience is None else patience)))
    # Last, when the others have written what they know of the epoch.
    last = [("divergence", StopWhenDiverged())]
    return Net(
        model,
        criterion=WeightedLoss,
        criterion__error=loss,
        criterion__reduction=reduction,
        optimizer=torch.optim.Adam,
        optimizer__param_groups=[(model.pretrained, {"lr": backbone_learning_rate}), *model.options_by_name],
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
