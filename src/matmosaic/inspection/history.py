"""How the losses went in training, and which epoch was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from matmosaic.exceptions import InvalidParameterError
from matmosaic.inspection._checks import check_name
from matmosaic.inspection._drawing import ink, legend_beside, new_axes, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Solid and dashed, so that the two differ in black and white.
_LOSSES = {"train_loss": ("training", "-"), "valid_loss": ("validation", "--")}
# Columns that are no errors.
_OTHERS = ("epoch", "dur", "train_loss", "valid_loss")


class HistoryDisplay:
    """How the losses went in training, and which epoch was kept.

    Make one with `from_estimator`; `plot` draws it. matplotlib, which the extra ``plot`` brings, is imported
    when something is drawn; no window is opened.

    Parameters
    ----------
    history : DataFrame of shape (n_epochs, n_columns)
        A row per epoch: ``train_loss`` and, with validation, ``valid_loss`` (of scaled labels, without unit)
        and ``valid_mae`` (unit of the labels).
    best_epoch : int, optional
        Epoch whose weights were kept, counted from 1.

    Attributes
    ----------
    history : DataFrame of shape (n_epochs, n_columns)
        As given.
    best_epoch : int or None
        As given.
    ax_ : matplotlib Axes
        What `plot` drew on.
    figure_ : matplotlib Figure
        The figure that holds it.

    Raises
    ------
    InvalidParameterError
        If the history is no table with a training loss, or no epoch was finished.

    Examples
    --------
    >>> import pandas as pd
    >>> history = pd.DataFrame({"train_loss": [1.0, 0.5], "valid_loss": [1.1, 0.8], "valid_mae": [0.4, 0.3]})
    >>> HistoryDisplay(history, best_epoch=2).errors
    ['valid_mae']
    """

    ax_: Axes
    figure_: Figure | SubFigure

    def __init__(self, history: pd.DataFrame, *, best_epoch: int | None = None) -> None:
        if not isinstance(history, pd.DataFrame) or "train_loss" not in history:
            got = list(history) if isinstance(history, pd.DataFrame) else type(history).__name__
            raise InvalidParameterError(f"'history' must be a DataFrame with 'train_loss'. Got {got}.")
        if history.empty:
            raise InvalidParameterError("'history' must hold at least one epoch; no epoch was finished.")
        self.history = history
        self.best_epoch = best_epoch

    @classmethod
    def from_estimator(cls, estimator: Any) -> Self:
        """Show how a network was trained.

        Parameters
        ----------
        estimator : TransferRegressor, MoERegressor, MPTRegressor, ComposedRegressor or Pipeline
            Fitted, or a Pipeline that ends in one of these.

        Returns
        -------
        HistoryDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        InvalidParameterError
            If it trains no network.
        """
        last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
        if not isinstance(last, type) and hasattr(last, "fit"):
            check_is_fitted(last)
        if not isinstance(getattr(last, "history_", None), pd.DataFrame):
            raise InvalidParameterError(
                "'estimator' must be a fitted estimator that trains a network, such as TransferRegressor. "
                f"Got {last!r}, which has no 'history_'."
            )
        return cls(last.history_, best_epoch=last.best_epoch_)

    @property
    def errors(self) -> list[str]:
        """Columns of the history that `plot` can draw in place of the losses."""
        return [name for name in self.history if name not in _OTHERS]

    def plot(self, ax: Axes | None = None, *, metric: str = "loss", unit: str | None = None) -> Self:
        """Draw the losses, or an error of the validation rows, over the epochs.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw. By default on a new figure.
        metric : str, default="loss"
            ``"loss"`` draws the losses of training and validation rows. Otherwise one of `errors`, such as
            ``"valid_mae"`` or, of several properties, ``"valid_mae NAME"``.
        unit : str, optional
            Unit of that error; losses have none.

        Returns
        -------
        HistoryDisplay
            Itself, with `ax_` and `figure_`.

        Raises
        ------
        UnknownNameError
            If the history has no such error.
        ImportError
            If matplotlib is not installed; the extra ``plot`` brings it.
        """
        check_name(metric, ["loss", *self.errors], what="metric of this history")
        self.ax_ = new_axes((7.0, 3.8)) if ax is None else ax
        epochs = np.arange(1, len(self.history) + 1)
        lines = _LOSSES if metric == "loss" else {metric: ("validation", "--")}
        for name, (label, style) in lines.items():
            if name in self.history:
                colour = "C0" if label == "training" else "C1"
                values = self.history[name].to_numpy(dtype=float)
                self.ax_.plot(epochs, values, color=colour, linestyle=style, label=label)
        if self.best_epoch:
            self._mark_best(metric if metric != "loss" else "valid_loss")
        label = "Loss (of scaled labels)" if metric == "loss" else with_unit(_words(metric), unit)
        self.ax_.set(xlabel="Epoch", ylabel=label)
        self.ax_.locator_params(axis="x", integer=True)
        legend_beside(self.ax_)
        self.figure_ = self.ax_.figure
        return self

    def _mark_best(self, column: str) -> None:
        """Mark the epoch that was kept: by a line, and by a star on the curve that chose it."""
        best = int(self.best_epoch or 0)
        label = f"kept: epoch {best}"
        self.ax_.axvline(best, color=ink(self.ax_), linestyle=":", linewidth=1, label=label)
        if column in self.history and best <= len(self.history):
            value = float(self.history[column].iloc[best - 1])
            self.ax_.plot(best, value, marker="*", markersize=11, color=ink(self.ax_), linestyle="none")


def _words(metric: str) -> str:
    """Return the label of an error, such as "Validation MAE of gap" for ``valid_mae gap``."""
    kind, _, of = metric.partition(" ")
    words = "Validation MAE" if kind == "valid_mae" else kind
    return f"{words} of {of}" if of else words
