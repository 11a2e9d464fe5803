"""Backbones: graph networks as chains of named stages."""

from matmosaic.backbones.adapters import AdaptedBackbone, Adapter, insert_adapters
from matmosaic.backbones.base import Backbone, drop, replace
from matmosaic.backbones.freezing import trunk_depth, unfreeze
from matmosaic.backbones.heads import PropertyHeads
from matmosaic.backbones.layers import MLP, GaussianExpansion, WeightedBatchNorm, weighted_mean, weighted_sum
from matmosaic.backbones.trunk import make_table, structure_features, trunk_table

__all__ = [
    "MLP",
    "AdaptedBackbone",
    "Adapter",
    "Backbone",
    "GaussianExpansion",
    "PropertyHeads",
    "WeightedBatchNorm",
    "drop",
    "insert_adapters",
    "make_table",
    "replace",
    "structure_features",
    "trunk_depth",
    "trunk_table",
    "unfreeze",
    "weighted_mean",
    "weighted_sum",
]
