import numpy as np
import pandas as pd
import pytest

from matmosaic.exceptions import InvalidTargetsError
from matmosaic.learning import TargetScale, check_sample_weight, check_targets


@pytest.mark.parametrize(
    "y",
    [
        [1, 2, 3],
        (1.0, 2.0, 3.0),
        np.array([1, 2, 3], dtype=np.int8),
        np.array([[1.0], [2.0], [3.0]]),
        pd.Series([1, 2, 3], index=[7, 8, 9]),
        pd.DataFrame({"a": [1, 2, 3]}),
        np.array([1, 2, 3], dtype=object),
    ],
    ids=["list", "tuple", "int8", "column", "Series", "DataFrame", "objects"],
)
def test_labels_become_floats(y):
    values = check_targets(y, 3)
    assert values.dtype == np.float64
    assert values.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        ([1.0, np.nan, np.inf], r"'y' must be finite. Got y\[1\]=nan, y\[2\]=inf \(2 rows\). Drop these"),
        ([1.0, None, 2.0], r"y\[1\]=nan"),
        ([2.5, 2.5, 2.5], r"'y' is constant: all 3 labels are 2.5. .*right column"),
        ([1.0, 2.0], "'X' and 'y' must have the same length. Got 3 structures and 2 labels"),
        (["a", "b", "c"], "'y' must hold numbers, one per structure"),
        (
            [[1, 2], [3, 4], [5, 6]],
            r"must be one-dimensional.*Got shape \(3, 2\); fit one estimator per property",
        ),
        (3.0, r"Got shape \(\)"),
        ([[1], [2, 3], [4]], "'y' must hold numbers"),
    ],
    ids=["None", "NaN", "missing", "constant", "length", "strings", "two columns", "scalar", "ragged"],
)
def test_labels_that_cannot_be_learnt_from(y, message):
    with pytest.raises(InvalidTargetsError, match=message):
        check_targets(y, 3)


def test_many_bad_labels_are_counted():
    with pytest.raises(InvalidTargetsError, match=r"y\[9\]=nan, ... \(20 rows\)"):
        check_targets(np.full(20, np.nan), 20)


def test_parameter_is_named():
    with pytest.raises(InvalidTargetsError, match=r"y_val\[0\]=nan"):
        check_targets([np.nan], 1, name="y_val")


def test_one_label_or_constant_ones_on_request():
    assert check_targets([1.0], 1).tolist() == [1.0]
    assert check_targets([2.0, 2.0], 2, constant=True).tolist() == [2.0, 2.0]


def test_input_is_not_changed():
    y = np.array([[1.0], [2.0]])
    check_targets(y, 2)[0] = 5
    assert y.shape == (2, 1)


def test_weights():
    assert check_sample_weight(None, 3) is None
    assert check_sample_weight([0, 1, 1], 3).tolist() == [0, 1, 1]
    for bad, message in {
        (1.0, -1.0, 1.0): ">= 0 that are not all zero",
        (0.0, 0.0, 0.0): ">= 0 that are not all zero",
        (1.0, np.nan, 1.0): r"sample_weight\[1\]=nan",
        (1.0, 1.0): "'X' and 'sample_weight' must have the same length",
    }.items():
        with pytest.raises(InvalidTargetsError, match=message):
            check_sample_weight(bad, 3)


def test_scale_has_zero_mean_and_unit_deviation(rng):
    y = rng.normal(5, 3, 100)
    scale = TargetScale.of(y)
    scaled = scale.scale(y)
    assert scaled.mean() == pytest.approx(0, abs=1e-12)
    assert scaled.std() == pytest.approx(1)
    np.testing.assert_allclose(scale.unscale(scaled), y)


def test_weighted_scale_is_that_of_repeated_rows(rng):
    y, weights = rng.normal(size=20), rng.integers(1, 4, 20)
    weighted, repeated = TargetScale.of(y, weights), TargetScale.of(np.repeat(y, weights))
    assert (weighted.mean, weighted.std) == pytest.approx((repeated.mean, repeated.std))
    assert TargetScale.of(y, np.arange(20) == 3) == TargetScale(y[3], 1.0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3, -7.7e-9], ids=str)
@pytest.mark.parametrize("n_rows", [1, 3, 70])
def test_scale_of_equal_labels_is_one(value, n_rows):
    """Although their mean may be off by rounding, and so their deviation above zero."""
    assert TargetScale.of(np.full(n_rows, value)).std == 1.0


def test_small_spread_about_a_large_mean_is_kept():
    assert TargetScale.of(np.array([1e6, 1e6 + 1e-3])).std == pytest.approx(5e-4, rel=1e-3)


@pytest.mark.parametrize("transform", ["identity", "log", "log10", "log1p"])
def test_scale_of_a_card(transform):
    scale = TargetScale.from_card({"name": transform, "mean": 0.5, "std": 2.0, "right_skewed": True})
    assert TargetScale.from_card(scale.to_card()) == scale
    y = np.array([0.1, np.nan, 7.0])
    scaled = scale.scale(y)
    np.testing.assert_allclose(scale.unscale(scaled), y)
    np.testing.assert_allclose(scale.errors(scaled, scale.scale(y[::-1])), abs(y - y[::-1]))


def test_labels_outside_of_the_transform_are_named():
    scale = TargetScale(0.0, 1.0, "log")
    with pytest.raises(InvalidTargetsError, match=r"learnt the log of its labels, and -2 has none"):
        scale.scale(np.array([1.0, np.nan, -2.0]))
