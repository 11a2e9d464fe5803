"""Featurizers: structures to feature vectors for any scikit-learn model."""

from matmosaic.featurizers.base import Featurizer
from matmosaic.featurizers.module import ModuleFeaturizer
from matmosaic.featurizers.notes import explain_gap
from matmosaic.featurizers.references import featurizer_reference, load_featurizer, resolve_sources

__all__ = [
    "Featurizer",
    "ModuleFeaturizer",
    "explain_gap",
    "featurizer_reference",
    "load_featurizer",
    "resolve_sources",
]
