"""Displays of what was learnt, how well, and from what; drawing needs the extra ``matmosaic[plot]``."""

from matmosaic.inspection.composition import CompositionWeightsDisplay
from matmosaic.inspection.elements import ErrorByElementDisplay
from matmosaic.inspection.gates import GateScoresDisplay
from matmosaic.inspection.history import HistoryDisplay
from matmosaic.inspection.learning_curve import LearningCurveDisplay
from matmosaic.inspection.negative_transfer import NegativeTransferDisplay
from matmosaic.inspection.parity import ParityDisplay

__all__ = [
    "CompositionWeightsDisplay",
    "ErrorByElementDisplay",
    "GateScoresDisplay",
    "HistoryDisplay",
    "LearningCurveDisplay",
    "NegativeTransferDisplay",
    "ParityDisplay",
]
