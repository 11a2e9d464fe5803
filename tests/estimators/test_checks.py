"""Parameters: what is refused, and how the message reads."""

import numpy as np
import pytest
from sklearn.base import clone

from matmosaic import ComposedRegressor, GraphSettings, MPTRegressor, ProbeRegressor, TransferRegressor
from matmosaic.estimators._checks import CONSTRAINTS, check_parameters
from matmosaic.estimators.moe import MoERegressor
from matmosaic.exceptions import InvalidParameterError

REFUSED = [
    ("backbone", 3, "the name of a backbone"),
    ("backbone_options", 3, "a dict of the backbone's arguments, or None"),
    ("graph_settings", {"cutoff": 5.0}, "a GraphSettings, or None"),
    ("unfrozen", None, "'head', 'last', 'all' or a sequence of names of layer groups"),
    ("unfrozen", [1], "'head', 'last', 'all' or a sequence of names of layer groups"),
    ("head_widths", 32, "a sequence of ints >= 1"),
    ("head_widths", "32", "a sequence of ints >= 1"),
    ("head_widths", (32, 0), "a sequence of ints >= 1"),
    ("head_widths", (2.5,), "a sequence of ints >= 1"),
    ("max_epochs", -1, "an int >= 0"),
    ("max_epochs", 2.0, "an int >= 0"),
    ("max_epochs", True, "an int >= 0"),
    ("patience", 0, "an int >= 1, or None"),
    ("batch_size", 0, "an int >= 1"),
    ("batch_size", None, "an int >= 1"),
    ("learning_rate", 0, "a finite number > 0"),
    ("learning_rate", float("nan"), "a finite number > 0"),
    ("learning_rate", float("inf"), "a finite number > 0"),
    ("learning_rate", "fast", "a finite number > 0"),
    ("backbone_learning_rate", -1e-3, "a finite number > 0, or None"),
    ("validation_fraction", 1.0, "a number in [0, 1)"),
    ("validation_fraction", -0.1, "a number in [0, 1)"),
    ("validation_fraction", None, "a number in [0, 1)"),
    ("weighted_sampling", 1, "True or False"),
    ("compress", "yes", "True or False"),
    ("device", None, "'auto', 'cpu', 'cuda', 'mps' or another device of torch"),
    ("n_jobs", 0, "an int other than 0, or None"),
    ("n_jobs", "all", "an int other than 0, or None"),
    ("callbacks", 3, "a list of skorch callbacks, or None"),
    ("n_active", 0, "an int >= 1, or None for all modules"),
    ("n_active", 2.0, "an int >= 1, or None for all modules"),
    ("aggregation", None, "one of 'add', 'concat', 'ensemble'"),
    ("gate_penalty", -0.1, "a finite number >= 0"),
    ("gate_penalty", float("inf"), "a finite number >= 0"),
    ("width", 0, "an int >= 1, or None"),
    ("standardize", "yes", "True or False"),
    ("guard", True, "one of 'none', 'report', 'fallback'"),
    ("guard_scratch", None, "True or False"),
    ("trunk_memory", -1, "a number of bytes, an int >= 0"),
    ("trunk_memory", "2GB", "a number of bytes, an int >= 0"),
]
MISSPELT = [
    ("head", "inherited", "Did you mean 'inherit'? Valid: 'inherit', 'new'."),
    ("loss", "mae", "Did you mean 'mse'? Valid: 'l1', 'mse'."),
    ("reduction", "mean", "Valid: 'present', 'reference'."),
    ("sampling", "uniforme", "Did you mean 'uniform'? Valid: 'proportional', 'uniform'."),
    ("aggregation", "concta", "Did you mean 'concat'? Valid: 'add', 'concat', 'ensemble'."),
    ("aggregation", "mean", "Valid: 'add', 'concat', 'ensemble'."),
    ("gate_init", "prxy", "Did you mean 'proxy'? Valid: 'proxy', 'uniform', 'warmup'."),
    ("guard", "fallbak", "Did you mean 'fallback'? Valid: 'fallback', 'none', 'report'."),
]

ACCEPTED = [
    ("graph_settings", GraphSettings(cutoff=5.0)),
    ("unfrozen", ("conv_1", "last")),
    ("head_widths", ()),
    ("head_widths", np.array([8, 4])),
    ("max_epochs", np.int64(3)),
    ("learning_rate", np.float32(0.1)),
    ("learning_rate", 1),
    ("patience", None),
    ("validation_fraction", 0),
    ("compress", np.bool_(False)),
    ("n_jobs", -1),
    ("n_active", np.int64(2)),
    ("gate_init", [1.0, 2.0]),
    ("gate_init", np.ones(3)),
    ("gate_penalty", 0),
    ("width", None),
    ("trunk_memory", 0),
]


ESTIMATORS = (
    TransferRegressor(),
    MPTRegressor(),
    MoERegressor("bundled:*"),
    ComposedRegressor(),
    ProbeRegressor(),
)


def made_with(name, value):
    """Return an estimator that has the parameter; the constructors only assign."""
    found = next(one for one in ESTIMATORS if name in one.get_params())
    return clone(found).set_params(**{name: value})


@pytest.mark.parametrize(("name", "value", "expected"), REFUSED)
def test_wrong_values_are_refused_in_fit_with_what_was_expected(name, value, expected, labelled):
    estimator = made_with(name, value)
    with pytest.raises(InvalidParameterError) as caught:
        estimator.fit(*labelled)
    assert str(caught.value) == f"'{name}' must be {expected}. Got {value!r}."


@pytest.mark.parametrize(("name", "value", "advice"), MISSPELT)
def test_misspelt_choices_get_a_guess(name, value, advice, labelled):
    with pytest.raises(InvalidParameterError) as caught:
        made_with(name, value).fit(*labelled)
    assert str(caught.value) == f"Unknown value of '{name}' '{value}'. {advice}"


@pytest.mark.parametrize(("name", "value"), ACCEPTED)
def test_values_are_accepted_as_numpy_makes_them_too(name, value):
    check_parameters({name: value})


def test_each_constrained_name_is_a_parameter_whose_default_is_accepted():
    defaults = [one.get_params() for one in ESTIMATORS]
    assert CONSTRAINTS.keys() <= set().union(*defaults)
    for one in defaults:
        # A probe's reduction is another parameter of that name, and it checks it itself.
        check_parameters(one, skip=["reduction"] if "sources" in one else [])
