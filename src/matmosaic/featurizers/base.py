"""The contract of featurizers: the file to read before writing one."""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from matmosaic.exceptions import UndefinedFeaturesWarning
from matmosaic.structures import as_structures

logger = logging.getLogger(__name__)

# They say where and how features are computed, not which.
NOT_IN_IDENTITY = frozenset({"batch_size", "memory", "n_jobs", "verbose"})


class Featurizer(TransformerMixin, BaseEstimator, ABC):
    """Describe each structure by numbers, without learning from data.

    Authors write :meth:`featurize` and :meth:`get_feature_names_out`; the rest makes the result a
    scikit-learn transformer, so ``make_pipeline(featurizer, SimpleImputer(), SVR())`` works.
    """

    contract: ClassVar[int] = 1
    """Version of this contract that the class was written against."""
    version: ClassVar[str] = "1"
    """Changed by the author whenever the features of a structure change."""

    @abstractmethod
    def featurize(self, structure: Any) -> np.ndarray:
        """Return the features of one structure, shape (n_features,)."""

    @abstractmethod
    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features, with units, shape (n_features,)."""

    def fit(self, X: Any, y: Any = None) -> Featurizer:
        """Do nothing: a featurizer learns nothing from data."""
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of structures, shape (n_structures, n_features)."""
        structures = as_structures(X)
        width = len(self.get_feature_names_out())
        features = np.full((len(structures), width), np.nan)
        for row, structure in enumerate(structures):
            try:
                features[row] = self.featurize(structure)
            except Exception as error:
                logger.info("X[%d]: %s", row, error)
        if np.isnan(features).any():
            warnings.warn(f"{type(self).__name__}: undefined", UndefinedFeaturesWarning, stacklevel=2)
        return features

    def identity(self) -> str:
        """Return a text that two featurizers share if they give every structure the same features."""
        parameters = {
            name: value
            for name, value in sorted(self.get_params(deep=False).items())
            if name not in NOT_IN_IDENTITY
        }
        return f"{type(self).__module__}.{type(self).__qualname__} {self.version} {parameters}"

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that ``X`` is no numeric array and that nothing is fitted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = True
        tags.no_validation = True
        tags.requires_fit = False
        return tags
