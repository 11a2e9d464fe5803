"""How a composed module weighs the modules that it is the mean of."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from matmosaic.inspection._module_weights import ModuleWeightsDisplay


class CompositionWeightsDisplay(ModuleWeightsDisplay):
    """How a composed module weighs the modules that it is the mean of.

    Make one with `from_estimator` or `from_results`; `plot` draws it, `summary` returns its numbers.
    matplotlib, which the extra ``plot`` brings, is imported when something is drawn; no window is opened.

    Parameters
    ----------
    weights : DataFrame of shape (n_rows, n_modules)
        Weights, without unit: one row per fit (a seed or a fold) or per task, one column per module,
        0 where a module has no part in the mean. Each row sums to 1. The name of the index says what a row
        is; without one it is a ``fit``.

    Attributes
    ----------
    weights : DataFrame of shape (n_rows, n_modules)
        The weights as floats.
    ax_ : matplotlib Axes
        What `plot` drew on.
    figure_ : matplotlib Figure
        The figure that holds it.

    Raises
    ------
    InvalidParameterError
        If the weights are no table of finite numbers >= 0, or a row does not sum to 1.

    See Also
    --------
    GateScoresDisplay : The gate of MoERegressor.

    Notes
    -----
    `from_estimator` takes `ComposedRegressor`, `from_results` reads the column ``weights``.

    References
    ----------
    Wang et al., MoMa, arXiv:2502.15483 (2025), Fig. 7.

    Examples
    --------
    >>> import pandas as pd
    >>> weights = pd.DataFrame({"eform": [0.6, 0.8], "gap": [0.4, 0.2], "volume": [0.0, 0.0]})
    >>> CompositionWeightsDisplay(weights).summary()["active_share"].to_dict()
    {'eform': 1.0, 'gap': 1.0, 'volume': 0.0}
    """

    quantity: ClassVar[str] = "weight"
    attribute: ClassVar[str] = "weights_"
    estimator: ClassVar[str] = "ComposedRegressor"
    column: ClassVar[str] = "weights"

    def __init__(self, weights: pd.DataFrame) -> None:
        super().__init__(weights)
        self.weights = self._weights
