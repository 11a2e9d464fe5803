"""A featurizer as an expert of a mixture: features that are there already, beside networks."""

from __future__ import annotations

import logging
import warnings
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from matmosaic.backbones import Backbone, replace
from matmosaic.exceptions import ConstantFeaturesWarning, UndefinedFeaturesWarning
from matmosaic.featurizers import Featurizer
from matmosaic.graphs import GraphSettings, GraphTable
from matmosaic.learning.columns import SMALLEST_SPREAD, moments

__all__ = ["FeatureExpert", "features_of", "without_graphs"]

logger = logging.getLogger(__name__)

ROWS_NAMED = 10
# Standard deviations: a test row far outside of what was learnt from must not drive a linear map to infinity.
LARGEST = 10.0


class FeatureExpert(Backbone):
    """A featurizer in the place of a backbone: it reads no graph, and nothing of it is trained.

    What the featurizer gives is ``graph.u`` from the start. The one stage imputes and standardises it by
    numbers that :meth:`fit` reads off training rows; until then it leaves numbers as they are.

    Parameters
    ----------
    featurizer : Featurizer
        Whose features may hold NaN.
    """

    def __init__(self, featurizer: Featurizer) -> None:
        super().__init__()
        self.featurizer = featurizer
        self.n_features = len(featurizer.get_feature_names_out())
        self.graph_settings = GraphSettings()  # every backbone has some; these are not used
        self.stages = nn.ModuleDict({"standardise": Standardise(self.n_features)})
        self.eval()

    def options(self) -> dict[str, Any]:
        """Return nothing: an expert is made of its featurizer."""
        return {}

    def cuts(self) -> tuple[int, ...]:
        """Return no cut: the stage gets its numbers after the trunks were run."""
        return ()

    def raw_features(self, structures: Any) -> Tensor:
        """Return what the featurizer gives for structures (n_structures, n_features), NaN where undefined.

        Warns
        -----
        UndefinedFeaturesWarning
            If there are structures of which it knows nothing.
        """
        values = features_of(self.featurizer, structures)
        # What single precision cannot hold becomes infinite, which counts as undefined.
        return torch.as_tensor(values, dtype=torch.get_default_dtype())

    def features(self, structures: Any) -> np.ndarray:
        """Return imputed and standardised features (n_structures, n_features), dimensionless."""
        return self._stage().apply_to(self.raw_features(structures)).cpu().numpy()

    def fit(self, raw: Tensor, weight: Tensor) -> None:
        """Read mean and spread of the columns off features (n_rows, n_features) of weighted rows.

        Warns
        -----
        ConstantFeaturesWarning
            If no column varies.
        """
        self._stage().fit(raw, weight)
        if not self._stage().factor.any():
            warnings.warn(
                f"No feature of {type(self.featurizer).__name__} differs between the {len(raw)} training "
                "rows: it tells nothing of them. Use another featurizer, or leave it out.",
                ConstantFeaturesWarning,
                stacklevel=2,
            )

    def _stage(self) -> Standardise:
        return cast("Standardise", self.stages["standardise"])


def features_of(featurizer: Featurizer, structures: Any) -> np.ndarray:
    """Return features for an estimator that fills gaps: it need not tell of these, but of rows without any.

    Parameters
    ----------
    featurizer : Featurizer
        Computes them.
    structures : sequence of structures
        Rows.

    Returns
    -------
    ndarray of float64, shape (n_structures, n_features)
        Each in its unit, NaN or infinite where undefined.

    Warns
    -----
    UndefinedFeaturesWarning
        If there are structures of which it knows nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedFeaturesWarning)
        values = np.asarray(featurizer.transform(structures), dtype=float)
    _tell(featurizer, ~np.isfinite(values))
    return values


def _tell(featurizer: Featurizer, undefined: np.ndarray) -> None:
    """Write to the log where features are undefined, and warn of rows that have none."""
    who = type(featurizer).__name__
    logger.info(
        "%s: features of %d of %d rows are undefined", who, undefined.any(axis=1).sum(), len(undefined)
    )
    rows = np.flatnonzero(undefined.all(axis=1))
    if len(rows):
        named = ", ".join(f"X[{row}]" for row in rows[:ROWS_NAMED])
        warnings.warn(
            f"{who} describes {len(rows)} of {len(undefined)} rows not at all: {named}"
            f"{', ...' if len(rows) > ROWS_NAMED else ''}. To it they are as the mean of the training rows. "
            f"{' '.join(repr(featurizer).split())}.transform(X) says why.",
            UndefinedFeaturesWarning,
            stacklevel=4,
        )


class Standardise(nn.Module):
    """Shift and scale columns by numbers of training rows, and put the mean where a number is missing.

    Parameters
    ----------
    n_features : int
        Number of columns.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("factor", torch.ones(n_features))

    @torch.no_grad()
    def fit(self, values: Tensor, weight: Tensor) -> None:
        """Take weighted mean and spread of what is there in each column; drop columns that say nothing."""
        numbers = values.cpu().double().numpy()
        mean, spread = moments(numbers, weight.cpu().double().numpy())
        varies = spread > SMALLEST_SPREAD * np.abs(mean)
        self.mean.copy_(torch.as_tensor(mean))
        self.factor.copy_(torch.as_tensor(np.where(varies, 1.0 / np.where(varies, spread, 1.0), 0.0)))

    def apply_to(self, values: Tensor) -> Tensor:
        """Map columns (n_rows, n_features), which may hold NaN or infinity, to finite ones."""
        scaled = (values.to(self.mean.device) - self.mean) * self.factor
        return torch.where(values.isfinite(), scaled, 0.0).clamp(-LARGEST, LARGEST)

    def forward(self, graph: Data) -> Data:
        """Replace ``u`` (n_structures, n_features)."""
        return replace(graph, u=self.apply_to(graph.u))


def without_graphs(n_structures: int) -> GraphTable:
    """Return a table of structures that have no atoms, beside which finished features can lie.

    Parameters
    ----------
    n_structures : int
        Its length.
    """
    nothing = torch.zeros(n_structures + 1, dtype=torch.long)
    return GraphTable({"atom": nothing, "bond": nothing}, {}, settings=GraphSettings(), compressed=False)
