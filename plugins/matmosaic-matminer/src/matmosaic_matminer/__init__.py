"""Descriptors of matminer as featurizers of matmosaic."""

from __future__ import annotations

from matmosaic_matminer.featurizer import MatminerFeaturizer

__all__ = [
    "MatminerFeaturizer",
    "matminer_bonds",
    "matminer_composition",
    "matminer_fast",
    "matminer_full",
    "matminer_layers",
    "matminer_structure",
    "matminer_symmetry",
]


def matminer_bonds() -> MatminerFeaturizer:
    """Return ``featurizer:matminer-bonds``: strengths and frequencies of bonds."""
    return MatminerFeaturizer("bonds")


def matminer_composition() -> MatminerFeaturizer:
    """Return ``featurizer:matminer-composition``: descriptors of the composition."""
    return MatminerFeaturizer("composition")


def matminer_fast() -> MatminerFeaturizer:
    """Return ``featurizer:matminer-fast``: descriptors of composition and structure that are quick."""
    return MatminerFeaturizer("fast")


def matminer_full() -> MatminerFeaturizer:
    """Return ``featurizer:matminer-full``: all descriptors."""
    return MatminerFeaturizer("full")


def matminer_layers() -> MatminerFeaturizer:
    """Return ``featurizer:matminer-layers``: shape and surfaces of layers."""
    return MatminerFeaturizer("layers")


def matminer_structure() -> MatminerFeaturizer:
    """Return ``featurizer:matminer-structure``: descriptors of the structure that are quick."""
    return MatminerFeaturizer("structure")


def matminer_symmetry() -> MatminerFeaturizer:
    """Return ``featurizer:matminer-symmetry``: descriptors of the symmetry."""
    return MatminerFeaturizer("symmetry")
