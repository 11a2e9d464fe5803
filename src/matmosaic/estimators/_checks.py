"""One table of what each parameter of the estimators must be."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from matmosaic.exceptions import InvalidParameterError
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


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, str) and value in names, f"one of {', '.join(map(repr, names))}"


CHOICES = {
    "aggregation": ("add", "concat", "ensemble"),
    "gate_init": ("proxy", "warmup", "uniform"),
    "guard": ("none", "report", "fallback"),
}
GATE_INITS = CHOICES["gate_init"]

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
    "n_active": (lambda value: value is None or _is_int(value, 1), "an int >= 1, or None for all modules"),
    "aggregation": _one_of(*CHOICES["aggregation"]),
    "gate_init": (
        lambda value: not isinstance(value, str) or value in GATE_INITS,
        f"one of {', '.join(map(repr, GATE_INITS))}, or a score for each module",
    ),
    "gate_penalty": (lambda value: _is_number(value) and 0 <= value < math.inf, "a finite number >= 0"),
    "width": (lambda value: value is None or _is_int(value, 1), "an int >= 1, or None"),
    "standardize": (_is_bool, "True or False"),
    "guard": _one_of(*CHOICES["guard"]),
    "guard_scratch": (_is_bool, "True or False"),
    "trunk_memory": (lambda value: _is_int(value, 0), "a number of bytes, an int >= 0"),
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


def check_parameters(parameters: dict[str, Any]) -> None:
    """Raise InvalidParameterError for the first parameter that breaks its constraint."""
    for name, value in parameters.items():
        holds, text = CONSTRAINTS.get(name, (None, ""))
        if holds is not None and not holds(value):
            raise InvalidParameterError(f"'{name}' must be {text}. Got {value!r}.{_guess(name, value)}")


def _guess(name: str, value: Any) -> str:
    """Return a question if a misspelt choice is like a valid one."""
    close = difflib.get_close_matches(str(value), CHOICES.get(name, ()), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
