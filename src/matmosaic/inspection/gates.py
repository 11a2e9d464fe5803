"""How a mixture of experts weighs its modules."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from matmosaic.inspection._module_weights import ModuleWeightsDisplay


class GateScoresDisplay(ModuleWeightsDisplay):
    """How a mixture of experts weighs its modules.

    Make one with `from_estimator` or `from_results`; `plot` draws it, `summary` returns its numbers.
    matplotlib, which the extra ``plot`` brings, is imported when something is drawn; no window is opened.

    Parameters
    ----------
    scores : DataFrame of shape (n_rows, n_modules)
        Gate scores, without unit: one row per fit (a seed or a fold) or per task, one column per module,
        0 where a module is inactive. Each row sums to 1. The name of the index says what a row is; without
        one it is a ``fit``.

    Attributes
    ----------
    scores : DataFrame of shape (n_rows, n_modules)
        The scores as floats.
    ax_ : matplotlib Axes
        What `plot` drew on.
    figure_ : matplotlib Figure
        The figure that holds it.

    Raises
    ------
    InvalidParameterError
        If the scores are no table of finite numbers >= 0, or a row does not sum to 1.

    See Also
    --------
    CompositionWeightsDisplay : The weights of ComposedRegressor.

    Notes
    -----
    `from_estimator` takes `MoERegressor`, `from_results` reads the column ``gate_scores``.

    References
    ----------
    Chang, Wang, Ertekin, npj Computational Materials 8, 242 (2022), Fig. 4, doi:10.1038/s41524-022-00929-x.

    Examples
    --------
    >>> import pandas as pd
    >>> scores = pd.DataFrame({"eform": [0.7, 0.8], "gap": [0.3, 0.2]}, index=["seed 0", "seed 1"])
    >>> GateScoresDisplay(scores).summary()[["mean", "min", "max", "active_share"]]
            mean  min  max  active_share
    module
    eform   0.75  0.7  0.8           1.0
    gap     0.25  0.2  0.3           1.0
    """

    quantity: ClassVar[str] = "gate score"
    attribute: ClassVar[str] = "gate_scores_"
    estimator: ClassVar[str] = "MoERegressor"
    column: ClassVar[str] = "gate_scores"

    def __init__(self, scores: pd.DataFrame) -> None:
        super().__init__(scores)
        self.scores = self._weights
