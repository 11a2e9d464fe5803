"""What a probe asks of its rows, and of the regressor that it fits."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from matmosaic.exceptions import InvalidParameterError, InvalidTargetsError
from matmosaic.learning.targets import MIN_TRAINING_ROWS

__all__ = ["check_enough", "offers_std", "weights_of_fit"]


def check_enough(n_used: int, n_rows: int) -> None:
    """Raise InvalidTargetsError if too few rows have a weight above 0."""
    if n_used < MIN_TRAINING_ROWS:
        raise InvalidTargetsError(
            f"'X' has {n_used} row{'s' * (n_used != 1)}{' of weight > 0' if n_used < n_rows else ''}; at "
            f"least {MIN_TRAINING_ROWS} are needed to learn from."
        )


def weights_of_fit(regressor: Any, weight: NDArray[np.float64] | None) -> dict[str, Any]:
    """Return the argument of the regressor's ``fit`` that weighs rows: of a pipeline, that of its last step.

    Raises
    ------
    InvalidParameterError
        If there are weights, and the regressor takes none.
    """
    if weight is None:
        return {}
    name = _name_of_weights(regressor)
    if name is None:
        raise InvalidParameterError(
            f"'sample_weight' was given, but {type(_last(regressor)).__name__} takes none. Leave it out, or "
            "choose an 'estimator' that does, such as 'svr' or 'ridge'."
        )
    return {name: weight}


def _name_of_weights(regressor: Any) -> str | None:
    if not isinstance(regressor, Pipeline):
        return "sample_weight" if has_fit_parameter(regressor, "sample_weight") else None
    step, last = regressor.steps[-1]
    name = _name_of_weights(last)
    return None if name is None else f"{step}__{name}"


def offers_std(regressor: Any) -> bool:
    """Return whether the regressor predicts standard deviations, too."""
    return "return_std" in signature(_last(regressor).predict).parameters


def _last(regressor: Any) -> Any:
    return _last(regressor[-1]) if isinstance(regressor, Pipeline) else regressor
