"""What was learnt, how well, from what, and what was seen before; drawing needs ``matmosaic[plot]``."""

from matmosaic.inspection.audit import LeakageAudit, audit_overlap
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
    "LeakageAudit",
    "LearningCurveDisplay",
    "NegativeTransferDisplay",
    "ParityDisplay",
    "audit_overlap",
]
