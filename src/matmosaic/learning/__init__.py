"""Learning: models, targets and the skorch net that trains them."""

from matmosaic.learning.dataset import TableDataset
from matmosaic.learning.derived import DerivedFeature
from matmosaic.learning.mixture import MixtureModel
from matmosaic.learning.model import RegressionModel, predict_rows
from matmosaic.learning.multitask import ManyProperties, PropertyScales
from matmosaic.learning.net import make_net
from matmosaic.learning.one_property import OneProperty
from matmosaic.learning.targets import TargetScale, check_sample_weight, check_targets

__all__ = [
    "DerivedFeature",
    "ManyProperties",
    "MixtureModel",
    "OneProperty",
    "PropertyScales",
    "RegressionModel",
    "TableDataset",
    "TargetScale",
    "check_sample_weight",
    "check_targets",
    "make_net",
    "predict_rows",
]
