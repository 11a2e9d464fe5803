"""The shared steps of fit and predict."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import EarlyStopping

from matmosaic.estimators._checks import check_guard, check_parameters
from matmosaic.estimators._environment import device_memory, resolve_device, seeded
from matmosaic.estimators._rows import OnError, Rows, fingerprints, predict_rows, read_rows
from matmosaic.exceptions import (
    DivergedFitWarning,
    InterruptedFitWarning,
    InvalidParameterError,
)
from matmosaic.learning import (
    ManyProperties,
    MixtureModel,
    OneProperty,
    PropertyScales,
    RegressionModel,
    TableDataset,
    TargetScale,
    check_sample_weight,
    make_net,
)
from matmosaic.learning.memory import keep_freed_memory
from matmosaic.modules.fingerprints import Field

if TYPE_CHECKING:
    from skorch import NeuralNet

Model: TypeAlias = "RegressionModel | MixtureModel"
# A GraphTable or an ExpertTable: what the model's own ``make_table`` returns.
Table: TypeAlias = Any
Task: TypeAlias = "OneProperty | ManyProperties"

HISTORY = ("epoch", "train_loss", "valid_loss", "valid_mae", "dur")


class Labelled(NamedTuple):
    """Graphs with labels and weights."""

    table: Table
    y: np.ndarray
    weight: np.ndarray | None
    rows: Rows | None = None


class GraphRegressor(RegressorMixin, BaseEstimator, ABC):
    """Base of the estimators: structures in, one property or several out.

    Subclasses have the parameters used below in their constructor, and write :meth:`_model`,
    :meth:`_learn` and :meth:`_backbone_learning_rate`.
    """

    net_: NeuralNet
    scale_: TargetScale | PropertyScales
    _task: Task = OneProperty()

    @abstractmethod
    def _model(self) -> Model:
        """Return a fresh model, with what is trained chosen."""

    @abstractmethod
    def _learn(self, model: Model, train: TableDataset, validation: TableDataset | None) -> None:
        """Train the model, with :meth:`_train`, on what its trunks gave."""

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> GraphRegressor:
        """Learn a property of structures, or several if the estimator can.

        Parameters
        ----------
        X : structures or GraphTable, length n_structures
            List, tuple, Series, one-column DataFrame or object array of structures: pymatgen
            ``Structure`` or ``Molecule``, ASE ``Atoms``, monty dicts, CIF or POSCAR paths or text.
        y : array-like of shape (n_structures,)
            Labels, in any unit; predictions are in the same. For several properties, of shape
            (n_structures, n_properties), with NaN where a label is missing; a DataFrame names them.
        sample_weight : array-like of shape (n_structures,), optional
            Weights of the rows in the loss and in the validation error; a weight of 0 leaves its row out.
        X_val, y_val : structures and labels, optional
            Validation set; a random ``validation_fraction`` of the rows when not given.

        Returns
        -------
        self
            Fitted.

        Raises
        ------
        InvalidStructuresError, InvalidTargetsError, InvalidParameterError
            If structures, labels or parameters cannot be used; the message names rows.
        """
        parameters = self.get_params(deep=False)
        check_parameters(parameters)
        check_guard(parameters, validated=X_val is not None or self.validation_fraction > 0)
        device = resolve_device(self.device)
        # If this fit fails half-way, the last one's network must not be left beside this one's scale.
        if hasattr(self, "net_"):
            del self.net_
        self._task = self._task_of(y)
        with seeded(self.random_state, device) as rng, device_memory(self.batch_size):
            model = self._model().to(device)
            # Labels are checked before the costlier graphs are built.
            rows, y, weight = self._read(X, y, sample_weight)
            given = Labelled(self._table(rows, model), y, weight, rows)
            train, validation = self._divide(given, X_val, y_val, model, rng)
            self.scale_ = self._scale(y[train], None if weight is None else weight[train])
            self._learn(model, *self._datasets(model, given, train, validation, device))
        self.n_train_ = len(train)
        self._fingerprints = self._seen(given, validation)
        return self

    def predict(self, X: Any, *, on_error: OnError = "raise") -> Any:
        """Predict the property of structures, or the properties.

        Parameters
        ----------
        X : structures or GraphTable, length n_structures
            As in :meth:`fit`.
        on_error : {"raise", "nan"}, default="raise"
            What becomes of rows that cannot be used (disordered, unreadable, with unknown elements): an
            error that names them, or NaN in their places and a warning.

        Returns
        -------
        ndarray of float64, shape (n_structures,)
            In the unit of the labels. Of several properties, of shape (n_structures, n_properties), or a
            DataFrame if the labels were one.
        """
        check_is_fitted(self, "net_")
        predictions = predict_rows(
            X, self._predict, on_error=on_error, elements=self._elements, shape=self._task.shape
        )
        return self._task.named(predictions, X.index if isinstance(X, pd.Series | pd.DataFrame) else None)

    def _predict(self, X: Any) -> np.ndarray:
        model = self.net_.module_
        device = next(model.parameters()).device
        with device_memory(self.batch_size):
            table = self._table(X, model).to(device)
            scaled = model.predict(table, batch_size=self.batch_size)
        return self.scale_.unscale(self._task.outputs(scaled))

    def _elements(self) -> frozenset[int] | None:
        """Return the atomic numbers that what predicts knows; None for all."""
        return self.net_.module_.elements()

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that ``X`` is no numeric array."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags

    def _table(self, X: Any, model: Model) -> Table:
        return model.make_table(X, compress=self.compress, n_jobs=self.n_jobs, memory=self.memory)

    def _task_of(self, y: Any) -> Task:
        """Return what the labels ask for."""
        return OneProperty()

    def _scale(self, y: np.ndarray, weight: np.ndarray | None) -> TargetScale | PropertyScales:
        """Return the scale on which labels are learnt, from those of the training rows."""
        return self._task.scale(y, weight)

    def _read(
        self, X: Any, y: Any, weight: Any, *, name: str = "y", constant: bool = False
    ) -> tuple[Rows, np.ndarray, np.ndarray | None]:
        """Return structures, labels and weights, checked; the subclass may leave rows out."""
        rows = read_rows(X)
        y = self._task.read(y, len(rows), name=name, constant=constant)
        return rows, y, check_sample_weight(weight, len(rows))

    def _divide(
        self, given: Labelled, X_val: Any, y_val: Any, model: Model, rng: np.random.RandomState
    ) -> tuple[np.ndarray, Labelled | np.ndarray | None]:
        """Return the training rows, and the validation set: other rows, a set of its own, or None."""
        if (X_val is None) != (y_val is None):
            raise InvalidParameterError("'X_val' and 'y_val' must be given together. Got only one of them.")
        used = np.arange(len(given.y)) if given.weight is None else np.flatnonzero(given.weight)
        fraction = self.validation_fraction if X_val is None else 0
        held = self._task.hold_out(given.y, used, fraction, rng)
        if X_val is not None:
            rows, y_val, _ = self._read(X_val, y_val, None, name="y_val", constant=True)
            return used, Labelled(self._table(rows, model), y_val, None, rows)
        return np.setdiff1d(used, held), held if len(held) else None

    def _seen(self, given: Labelled, validation: Labelled | np.ndarray | None) -> Field:
        """Return one-way hashes of the structures that were used here, or to train what was started from."""
        rows: Any = given.rows
        if given.weight is not None and isinstance(rows, list):
            rows = [rows[row] for row in np.flatnonzero(given.weight)]
        others: list[Any] = [validation.rows] if isinstance(validation, Labelled) else []
        start = getattr(self, "module_card_", None)
        sources = getattr(self, "module_cards_", []) if start is None else [start]
        return fingerprints(rows, *others, sources=sources)

    def _datasets(
        self,
        model: Model,
        given: Labelled,
        train: np.ndarray,
        validation: Labelled | np.ndarray | None,
        device: str,
    ) -> tuple[TableDataset, TableDataset | None]:
        """Run the frozen trunk once per structure, and pair its outputs with scaled labels."""

        def dataset(part: Labelled, rows: np.ndarray) -> TableDataset:
            weight = None if part.weight is None else part.weight[rows]
            return TableDataset(part.table, self.scale_.scale(part.y[rows]), weight, rows=rows)

        def through_trunk(part: Labelled) -> Labelled:
            return part._replace(table=model.run_trunk(part.table.to(device), batch_size=self.batch_size))

        given = through_trunk(given)
        if isinstance(validation, Labelled):
            other = through_trunk(validation)
            return dataset(given, train), dataset(other, np.arange(len(other.y)))
        return dataset(given, train), None if validation is None else dataset(given, validation)

    def _train(self, model: Model, train: TableDataset, validation: TableDataset | None) -> None:
        """Train a model and keep its net, its history and its best epoch."""
        keep_freed_memory()
        self.net_ = self._net(model, validation, self._probabilities(train))
        if self.max_epochs:
            self.net_.partial_fit(train)
        # It holds the validation graphs, which a fitted estimator does not need.
        self.net_.train_split = None
        self._read_history()

    def _probabilities(self, rows: TableDataset) -> np.ndarray | None:
        """Return sampling probabilities of training rows; None for equal ones."""
        labels = torch.where(rows.weights > 0, rows.labels, torch.nan)
        return self._task.probabilities(labels.cpu().numpy(), balanced=self.weighted_sampling)

    def _loss(self) -> dict[str, Any]:
        """Return the net's options about the loss."""
        return {"loss": self.loss}

    def _net(
        self,
        model: Model,
        validation: TableDataset | None = None,
        probabilities: np.ndarray | None = None,
        **changed: Any,
    ) -> NeuralNet:
        """Return an initialised net over a model; ``changed`` are options in place of parameters."""
        names = ("max_epochs", "patience", "batch_size", "learning_rate", "callbacks", "verbose")
        options = {name: getattr(self, name) for name in names} | self._loss() | changed
        return make_net(
            model,
            validation,
            scale=self.scale_,
            names=self._task.names,
            backbone_learning_rate=self._backbone_learning_rate(),
            probabilities=probabilities,
            device=resolve_device(self.device),
            **options,
        ).initialize()

    @abstractmethod
    def _backbone_learning_rate(self) -> float:
        """Return the learning rate of the backbone's trained layers."""

    def _read_history(self) -> None:
        """Keep the finished epochs as a table; warn if there are fewer than was asked for."""
        epochs = [epoch for epoch in self.net_.history.to_list() if HISTORY[-1] in epoch]
        every = [*HISTORY, *(f"valid_mae {name}" for name in self._task.names or ())]
        names = [name for name in every if not epochs or name in epochs[0]]
        # An interrupt may fall between two callbacks that write to the same epoch.
        rows = [[epoch.get(name, np.nan) for name in names] for epoch in epochs]
        self.history_ = pd.DataFrame(rows, columns=names)
        callbacks = dict(self.net_.callbacks_)
        stopping = callbacks.get("early_stopping")
        self.best_epoch_ = int(stopping.best_epoch_) if stopping is not None and len(epochs) else len(epochs)
        # Ours, or one among the user's callbacks.
        stopped = self._warn_if_diverged() or any(
            isinstance(one, EarlyStopping) and one.misses_ >= one.patience for one in callbacks.values()
        )
        if len(epochs) < self.max_epochs and not stopped:
            warnings.warn(
                f"fit was interrupted after {len(epochs)} of {self.max_epochs} epochs; the estimator holds "
                "what was learnt until then. Fit again to learn to the end.",
                InterruptedFitWarning,
                stacklevel=5,
            )

    def _warn_if_diverged(self) -> bool:
        diverged = np.flatnonzero(~np.isfinite(self.history_["train_loss"].to_numpy(dtype=float)))
        if len(diverged):
            warnings.warn(
                f"The training loss is not finite in epoch {diverged[0] + 1}, where training stopped. Lower "
                f"'learning_rate' (now {self.learning_rate:g}) or 'backbone_learning_rate', and look for "
                "outliers in 'y'.",
                DivergedFitWarning,
                stacklevel=6,
            )
        return len(diverged) > 0
