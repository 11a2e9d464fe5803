"""What a module computes for structures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from matmosaic.exceptions import ModuleFormatError
from matmosaic.modules import _golden
from matmosaic.modules.card import ModuleCard
from matmosaic.modules.transforms import all_to_unit

if TYPE_CHECKING:
    from matmosaic.backbones import MLP, Backbone, PropertyHeads


class Outputs(ABC):
    """Features and predictions of a module, from the networks that it builds."""

    @property
    @abstractmethod
    def card(self) -> ModuleCard:
        """What the weights are."""

    @abstractmethod
    def build_backbone(self) -> Backbone:
        """Return a new backbone with the module's weights."""

    @abstractmethod
    def build_head(self) -> MLP | PropertyHeads | None:
        """Return a new head with the module's weights, or None."""

    def features(self, X: Any, *, n_jobs: int | None = None, memory: Any = None) -> NDArray[np.floating]:
        """Return the features E(x) of structures.

        Parameters
        ----------
        X : structures or GraphTable, length n_structures
            Anything that :func:`~matmosaic.structures.as_structures` takes.
        n_jobs : int, optional
            Processes that build graphs.
        memory : None, str, path-like or joblib.Memory, optional
            Where graphs are kept beside this process.

        Returns
        -------
        ndarray of shape (n_structures, n_features)
            Dimensionless.
        """
        from matmosaic.backbones import structure_features

        return structure_features(self.build_backbone(), X, n_jobs=n_jobs, memory=memory).numpy()

    def predict(self, X: Any, *, n_jobs: int | None = None, memory: Any = None) -> NDArray[np.float64]:
        """Predict the module's own target with its own head, without any training.

        Parameters
        ----------
        X : structures or GraphTable, length n_structures
            Anything that :func:`~matmosaic.structures.as_structures` takes.
        n_jobs : int, optional
            Processes that build graphs.
        memory : None, str, path-like or joblib.Memory, optional
            Where graphs are kept beside this process.

        Returns
        -------
        ndarray of shape (n_structures,)
            Predictions in the unit of the card; (n_structures, n_properties) if there are several.

        Raises
        ------
        ModuleFormatError
            If the module has no head.
        """
        self._own_head()  # An error before the costlier features.
        return self.predict_from(self.features(X, n_jobs=n_jobs, memory=memory))

    def predict_from(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Predict the module's own target from features that :meth:`features` gave.

        Parameters
        ----------
        features : ndarray of shape (n_structures, n_features)
            Dimensionless.

        Returns
        -------
        ndarray of shape (n_structures,)
            As :meth:`predict` returns them.

        Raises
        ------
        ModuleFormatError
            If the module has no head.
        """
        import torch

        head = self._own_head()
        with torch.no_grad():
            outputs = head(torch.from_numpy(features)).numpy()
        targets = all_to_unit(outputs, [one["target_transform"] for one in self.card.outputs])
        return targets if self.card.properties or targets.shape[1] > 1 else targets[:, 0]

    def _own_head(self) -> MLP | PropertyHeads:
        head = self.build_head()
        if head is None:
            raise ModuleFormatError(
                f"Module {self.card.name!r} has no head; fit one on its features instead."
            )
        return head

    def _golden_outputs(self, crystals: list[dict[str, Any]]) -> list[dict[str, Any]]:
        features = self.features(crystals)
        predictions: list[Any] = [None] * len(crystals)
        if self.card.head is not None and self.card.head.get("n_out", 1) == 1:
            predictions = self.predict_from(features).tolist()
        return [_golden.record(*row) for row in zip(crystals, features, predictions, strict=True)]
