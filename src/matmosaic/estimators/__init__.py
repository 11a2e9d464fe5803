"""Estimators: ``fit(structures, y)`` and ``predict(structures)``, one file per method."""

from matmosaic.estimators.composed import ComposedRegressor
from matmosaic.estimators.moe import MoERegressor
from matmosaic.estimators.mpt import MPTRegressor
from matmosaic.estimators.persistence import load_estimator
from matmosaic.estimators.probe import ProbeRegressor
from matmosaic.estimators.transfer import TransferRegressor

__all__ = [
    "ComposedRegressor",
    "MPTRegressor",
    "MoERegressor",
    "ProbeRegressor",
    "TransferRegressor",
    "load_estimator",
]
