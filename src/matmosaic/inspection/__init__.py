"""Displays that show what a fitted estimator has learnt; they need the extra ``matmosaic[plot]``."""

from matmosaic.inspection.gates import GateScoresDisplay

__all__ = ["GateScoresDisplay"]
