"""Estimators: ``fit(structures, y)`` and ``predict(structures)``, one file per method."""

from matmosaic.estimators.persistence import load_estimator
from matmosaic.estimators.transfer import TransferRegressor

__all__ = ["TransferRegressor", "load_estimator"]
