"""One table of what each parameter of the estimators must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from matmosaic.exceptions import InvalidParameterError, suggest
from matmosaic.graphs import GraphSettings


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _is_int(value: Any, low: float) -> bool:
    return isinstance(value, int | np.integer) and not _is_bool(value) and bool(value >= low)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not _is_bool(value)


def _is_rate(value: Any) -> bool:
    return _is_number(value) and 0 < value < math.inf


def _is_sequence_of(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and all(map(holds, value))


def _is_options(value: Any) -> bool:
    return value is None or isinstance(value, Mapping)


CHOICES = {
    "head": ("new", "inherit"),
    "loss": ("mse", "l1"),
    "exclude_by": ("structure", "crystal", "composition"),
    "reduction": ("present", "reference"),
    "sampling": ("proportional", "uniform"),
    "aggregation": ("add", "concat", "ensemble"),
    "gate_init": ("proxy", "warmup", "uniform"),
    "guard": ("none", "report", "fallback"),
    "weighting": ("optimised", "selected-average", "all-average", "random"),
    "combine": ("parameters", "features"),
}


def _is_choice(name: str, value: Any) -> bool:
    return isinstance(value, str) and value in CHOICES[name]


def _one_of(name: str) -> tuple[Callable[[Any], bool], str]:
    return partial(_is_choice, name), f"one of {', '.join(map(repr, CHOICES[name]))}"


CONSTRAINTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "backbone": (lambda value: isinstance(value, str), "the name of a backbone"),
    "backbone_options": (_is_options, "a dict of the backbone's arguments, or None"),
    "graph_settings": (
        lambda value: value is None or isinstance(value, GraphSettings),
        "a GraphSettings, or None",
    ),
    "unfrozen": (
        lambda value: isinstance(value, str) or _is_sequence_of(value, lambda one: isinstance(one, str)),
        "'head', 'last', 'all' or a sequence of names of layer groups",
    ),
    "head_widths": (
        lambda value: _is_sequence_of(value, lambda one: _is_int(one, 1)),
        "a sequence of ints >= 1",
    ),
    "head": _one_of("head"),
    "loss": _one_of("loss"),
    "exclude_by": _one_of("exclude_by"),
    "reduction": _one_of("reduction"),
    "sampling": _one_of("sampling"),
    "n_active": (lambda value: value is None or _is_int(value, 1), "an int >= 1, or None for all modules"),
    "aggregation": _one_of("aggregation"),
    "gate_init": (
        lambda value: not isinstance(value, str) or _is_choice("gate_init", value),
        f"{_one_of('gate_init')[1]}, or a score for each module",
    ),
    "gate_penalty": (lambda value: _is_number(value) and 0 <= value < math.inf, "a finite number >= 0"),
    "width": (lambda value: value is None or _is_int(value, 1), "an int >= 1, or None"),
    "standardize": (_is_bool, "True or False"),
    "features": (_is_bool, "True or False"),
    "predictions": (_is_bool, "True or False"),
    "n_features": (lambda value: value is None or _is_int(value, 1), "an int >= 1, or None"),
    "guard": _one_of("guard"),
    "guard_scratch": (_is_bool, "True or False"),
    "trunk_memory": (lambda value: _is_int(value, 0), "a number of bytes, an int >= 0"),
    "weighting": _one_of("weighting"),
    "combine": _one_of("combine"),
    "max_modules": (lambda value: value is None or _is_int(value, 1), "an int >= 1, or None for any number"),
    "min_weight": (lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "n_neighbors": (lambda value: _is_int(value, 1), "an int >= 1"),
    "temperature": (_is_rate, "a finite number > 0"),
    "max_epochs": (lambda value: _is_int(value, 0), "an int >= 0"),
    "patience": (lambda value: value is None or _is_int(value, 1), "an int >= 1, or None"),
    "batch_size": (lambda value: _is_int(value, 1), "an int >= 1"),
    "learning_rate": (_is_rate, "a finite number > 0"),
    "backbone_learning_rate": (
        lambda value: value is None or _is_rate(value),
        "a finite number > 0, or None",
    ),
    "validation_fraction": (lambda value: _is_number(value) and 0 <= value < 1, "a number in [0, 1)"),
    "weighted_sampling": (_is_bool, "True or False"),
    "compress": (_is_bool, "True or False"),
    "device": (
        lambda value: isinstance(value, str),
        "'auto', 'cpu', 'cuda', 'mps' or another device of torch",
    ),
    "n_jobs": (
        lambda value: value is None or (_is_int(value, -math.inf) and value != 0),
        "an int other than 0, or None",
    ),
    "callbacks": (
        lambda value: value is None or isinstance(value, list | tuple),
        "a list of skorch callbacks, or None",
    ),
}


def check_parameters(parameters: Mapping[str, Any], *, skip: Collection[str] = ()) -> None:
    """Raise InvalidParameterError for the first parameter, but those to skip, that breaks its constraint."""
    for name, value in parameters.items():
        holds, text = CONSTRAINTS.get(name, (None, ""))
        if name in skip or holds is None or holds(value):
            continue
        if isinstance(value, str) and name in CHOICES:
            raise InvalidParameterError(suggest(value, CHOICES[name], what=f"value of '{name}'"))
        raise InvalidParameterError(f"'{name}' must be {text}. Got {value!r}.")


def check_guard(parameters: Mapping[str, Any], *, validated: bool) -> None:
    """Raise InvalidParameterError if an estimator with a guard has no rows to compare on."""
    guard = parameters.get("guard", "none")
    if guard != "none" and not validated:
        raise InvalidParameterError(
            f"guard={guard!r} compares on validation rows, but there are none. Set 'validation_fraction' "
            "> 0, or give 'X_val' and 'y_val'."
        )
