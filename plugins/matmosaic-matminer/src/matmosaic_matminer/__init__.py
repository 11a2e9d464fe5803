"""Descriptors of matminer as featurizers of matmosaic."""

from __future__ import annotations

from matmosaic_matminer.featurizer import MatminerFeaturizer

__all__ = [
    "MatminerFeaturizer",
    "matminer_composition",
    "matminer_fast",
    "matminer_full",
    "matminer_structure",
]


def matminer_composition() -> MatminerFeaturizer:
    """Return ``featurizer:matminer-composition``: descriptors of the composition."""
    return MatminerFeaturizer("composition")


def matminer_fast() -> MatminerFeaturizer:
    """Return ``featurizer:matminer-fast``: descriptors of composition and structure that are quick."""
    return MatminerFeaturizer("fast")


def matminer_full() -> MatminerFeaturizer:
    """Return ``featurizer:matminer-full``: all descriptors."""
    return MatminerFeaturizer("full")


def matminer_structure() -> MatminerFeaturizer:
    """Return ``featurizer:matminer-structure``: descriptors of the structure that are quick."""
    return MatminerFeaturizer("structure")
