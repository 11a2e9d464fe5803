"""Checks that authors of plugins run on what they wrote: the contracts as code."""

from matmosaic._testing_backbone import check_backbone
from matmosaic._testing_featurizer import check_featurizer
from matmosaic._testing_store import check_store

__all__ = ["check_backbone", "check_featurizer", "check_store"]
