"""One table of what each parameter of the estimators must be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any

from matmosaic.exceptions import InvalidParameterError


def _is_int(value: Any, low: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and value >= low


def _is_rate(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value > 0


def _is_widths(value: Any) -> bool:
    return (
        isinstance(value, Iterable) and not isinstance(value, str) and all(_is_int(one, 1) for one in value)
    )


CONSTRAINTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "head_widths": (_is_widths, "a sequence of ints >= 1"),
    "max_epochs": (lambda value: _is_int(value, 0), "an int >= 0"),
    "patience": (lambda value: value is None or _is_int(value, 1), "an int >= 1, or None"),
    "batch_size": (lambda value: _is_int(value, 1), "an int >= 1"),
    "learning_rate": (_is_rate, "a number > 0"),
    "backbone_learning_rate": (lambda value: value is None or _is_rate(value), "a number > 0, or None"),
    "validation_fraction": (lambda value: isinstance(value, Real) and 0 <= value < 1, "a number in [0, 1)"),
    "weighted_sampling": (lambda value: isinstance(value, bool), "True or False"),
    "compress": (lambda value: isinstance(value, bool), "True or False"),
}


def check_parameters(parameters: dict[str, Any]) -> None:
    """Raise InvalidParameterError for the first parameter that breaks its constraint."""
    for name, value in parameters.items():
        holds, text = CONSTRAINTS.get(name, (None, ""))
        if holds is not None and not holds(value):
            raise InvalidParameterError(f"'{name}' must be {text}. Got {value!r}.")
