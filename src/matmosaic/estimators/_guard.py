"""How a mixture compares with simple answers on the validation rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from matmosaic.estimators._featurizers import FeaturizerSource, Source
from matmosaic.estimators.transfer import TransferRegressor
from matmosaic.exceptions import NegativeTransferWarning
from matmosaic.graphs import GraphSettings
from matmosaic.learning import TableDataset, TargetScale
from matmosaic.learning.baselines import LinearBaseline, fit_baselines
from matmosaic.modules import ModuleCard

MIXTURE = "mixture"


class Answer(Protocol):
    """Something that predicts."""

    def predict(self, X: Any) -> np.ndarray:
        """Return predictions (n_structures,) in the unit of the labels."""

    def _elements(self) -> frozenset[int] | None:
        """Return the atomic numbers that it knows; None for all."""


class FrozenOutputs(NamedTuple):
    """What modules give for structures before any training."""

    features: np.ndarray
    """Shape (n_structures, total width): of all modules side by side, dimensionless."""
    predictions: np.ndarray
    """Shape (n_structures, n_modules), each in its module's unit; NaN where there is no such head."""

    @classmethod
    def of(cls, modules: Sequence[Source], features: Sequence[np.ndarray]) -> FrozenOutputs:
        """Return the outputs for the features (n_structures, width) of each module."""
        predictions = [_own(module, some) for module, some in zip(modules, features, strict=True)]
        return cls(np.concatenate(features, axis=1), np.stack(predictions, axis=1))


def _own(module: Source, features: np.ndarray) -> np.ndarray:
    if isinstance(module, FeaturizerSource):
        return np.full(len(features), np.nan)
    head = module.card.head
    if head is None or module.card.properties or head.get("n_out", 1) != 1:
        return np.full(len(features), np.nan)
    return module.predict_from(features)


@dataclass(frozen=True)
class LinearAnswer:
    """A simple answer together with the modules that it reads."""

    baseline: LinearBaseline
    """Linear in the modules' frozen outputs."""
    modules: Sequence[Source]
    """All modules and featurizers of the mixture, as they were before training."""
    n_jobs: int | None = None
    """Processes that build graphs."""
    memory: Any = None
    """Where graphs are kept beside this process."""

    def predict(self, X: Any) -> np.ndarray:
        """Return predictions (n_structures,) in the unit of the labels."""
        features = [module.features(X, n_jobs=self.n_jobs, memory=self.memory) for module in self.modules]
        return self.baseline.predict(*FrozenOutputs.of(self.modules, features))

    def without_unread(self) -> LinearAnswer:
        """Return the same answer over the modules that its coefficients use; over one if they use none."""
        widths = [module.build_backbone().n_features for module in self.modules]
        parts = np.split(self.baseline.feature_coef, np.cumsum(widths)[:-1])
        own = self.baseline.prediction_coef
        # One is kept in any case, to check and count structures.
        read = [place for place, some in enumerate(parts) if own[place] or some.any()] or [0]
        baseline = replace(
            self.baseline,
            feature_coef=np.concatenate([parts[place] for place in read]),
            prediction_coef=own[read],
        )
        return replace(self, baseline=baseline, modules=[self.modules[place] for place in read])

    def _elements(self) -> frozenset[int] | None:
        known = [module.build_backbone().elements() for module in self.modules]
        some = [one for one in known if one is not None]
        return frozenset.intersection(*some) if some else None


class Guard:
    """Simple answers that were fitted on the training rows, and their errors on the validation rows.

    Parameters
    ----------
    modules : sequence of PretrainedModule and FeaturizerSource
        Of the mixture.
    names : sequence of str
        Their names.
    train, validation : tuple of TableDataset and list of Tensor
        Rows with the frozen features (n_rows, width) of each module.
    scale : TargetScale
        Of the labels.
    """

    def __init__(
        self,
        modules: Sequence[Source],
        names: Sequence[str],
        train: tuple[TableDataset, Sequence[Tensor]],
        validation: tuple[TableDataset, Sequence[Tensor]],
        scale: TargetScale,
    ) -> None:
        self.modules = modules
        self.scale = scale
        self.y, self.weight = _labels(validation[0], scale)
        y, weight = _labels(train[0], scale)
        outputs = _outputs(modules, train[1])
        baselines = fit_baselines(*outputs, y, weight=weight, module_names=names)
        outputs = _outputs(modules, validation[1])
        self.answers: dict[str, Any] = {one.name: one for one in baselines}
        self.errors = {one.name: self._error(one.predict(*outputs)) for one in baselines}

    def add(self, name: str, outputs: Tensor, answer: Any = None) -> None:
        """Add an answer by its scaled predictions (n_rows, 1) for the validation rows."""
        self.answers[name] = answer
        self.errors[name] = self._error(self.scale.unscale(outputs[:, 0].double().cpu().numpy()))

    def _error(self, predictions: np.ndarray) -> float:
        return float(np.average(np.abs(predictions - self.y), weights=self.weight))

    def winner(self, *, n_jobs: int | None, memory: Any) -> tuple[str, Answer | None]:
        """Return the name of the best answer, and what predicts; None for the mixture."""
        name = self.table().index[0]
        answer = self.answers[name]
        if isinstance(answer, LinearBaseline):
            answer = LinearAnswer(answer, self.modules, n_jobs=n_jobs, memory=memory).without_unread()
        return name, answer

    def warn(self) -> None:
        """Warn if a simple answer is better than the mixture."""
        table = self.table()["valid_mae"]
        if table.index[0] != MIXTURE:
            warnings.warn(
                f"{table.index[0]!r} has a smaller validation error ({table.iloc[0]:.4g}) than the mixture "
                f"({table[MIXTURE]:.4g}). See 'guard_'; guard='fallback' predicts with the best answer.",
                NegativeTransferWarning,
                stacklevel=5,
            )

    def table(self) -> pd.DataFrame:
        """Return ``valid_mae`` of all answers, in the unit of y, indexed by ``answer``, best first."""
        index = pd.Index(self.errors, name="answer")
        frame = pd.DataFrame({"valid_mae": list(self.errors.values())}, index=index)
        return frame.sort_values("valid_mae", kind="stable")


def train_scratch(
    card: ModuleCard,
    parameters: Mapping[str, Any],
    train: TableDataset,
    validation: TableDataset,
    *,
    scale: TargetScale,
) -> TransferRegressor:
    """Train the network of a module from scratch.

    Parameters
    ----------
    card : ModuleCard
        Of the module.
    parameters : mapping
        Of the mixture.
    train, validation : TableDataset
        Rows of graphs on which no trunk was run.
    scale : TargetScale
        Of their labels.

    Returns
    -------
    TransferRegressor
        Fitted.
    """
    names = TransferRegressor().get_params(deep=False)
    shared = {name: value for name, value in parameters.items() if name in names}
    # Callbacks are there to watch the mixture.
    shared |= {"unfrozen": "all", "backbone_learning_rate": None, "random_state": None, "callbacks": None}
    scratch = TransferRegressor(
        **shared,
        backbone=card.backbone,
        backbone_options=card.backbone_options,
        graph_settings=GraphSettings.from_dict(card.graph),
    )
    scratch._fit_rows(train, validation, scale=scale)
    return scratch


def _outputs(modules: Sequence[Source], features: Sequence[Tensor]) -> FrozenOutputs:
    return FrozenOutputs.of(modules, [one.cpu().numpy() for one in features])


def _labels(rows: TableDataset, scale: TargetScale) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels, in the unit of y, and the weights of a dataset's rows."""
    labels, weight = rows.targets.double().cpu().numpy().T
    return scale.unscale(labels), weight
