"""Labels of several properties: what is accepted, how they are scaled, divided and drawn."""

import numpy as np
import pandas as pd
import pytest
import torch

from matmosaic.backbones import MLP, PropertyHeads
from matmosaic.exceptions import InvalidTargetsError, UnknownNameError
from matmosaic.learning import ManyProperties, PropertyScales, TargetScale
from matmosaic.learning.multitask import is_table, label_errors

NAN = np.nan
Y = np.array([[1.0, NAN], [2.0, 10.0], [NAN, 30.0], [4.0, NAN]])
TASK = ManyProperties(("a", "b"))


def frame(values=Y, columns=("a", "b")):
    return pd.DataFrame(values, columns=list(columns))


# --- labels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        np.asarray,
        np.ndarray.tolist,
        lambda y: y.astype(object),
        lambda y: [[None if np.isnan(one) else one for one in row] for row in y],
        torch.tensor,
        frame,
        lambda y: frame(y).astype("Float64"),
        lambda y: frame(y)[["b", "a"]],
        lambda y: frame(y).assign(more=1.0),
    ],
    ids=["array", "list", "object", "None", "tensor", "frame", "nullable", "order", "more columns"],
)
def test_labels_become_floats(form):
    values = TASK.read(form(Y), 4)
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, Y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.where([[0], [0], [1], [0]], NAN, Y), r"'y' has rows without any label: y\[2\] \(1 rows\). Drop"),
        (np.where([0, 1], NAN, Y)[[0, 1, 3, 3]], "Property 'b' has no label in 'y': all are missing"),
        (np.where([0, 1], 7.0, Y), "Property 'b' is constant in 'y': all 4 labels are 7"),
        (np.where(Y == 30, np.inf, Y), r"NaN where a label is missing. Got inf in row 2 of 'b' \(1 labels\)"),
        (Y[:3], "'X' and 'y' must have the same length. Got 4 structures and 3 labels"),
        (Y[:, :1], r"a column for each of the 2 properties \['a', 'b'\]. Got shape \(4, 1\)"),
        (Y[:, 0], r"Got shape \(4,\)"),
        (np.full((4, 2), "high"), "'y' must hold numbers"),
    ],
    ids=["empty row", "empty column", "constant", "infinite", "length", "columns", "1-d", "text"],
)
def test_labels_that_cannot_be_learnt_from(y, message):
    with pytest.raises(InvalidTargetsError, match=message):
        TASK.read(y, 4)


def test_many_empty_rows_are_counted():
    with pytest.raises(InvalidTargetsError, match=r"y\[9\], ... \(20 rows\)"):
        TASK.read(np.full((20, 2), NAN), 20)


def test_validation_labels_may_be_constant_and_are_named():
    assert TASK.read(np.ones((2, 2)), 2, name="y_val", constant=True).shape == (2, 2)
    with pytest.raises(InvalidTargetsError, match=r"Property 'a' has no label in 'y_val'"):
        TASK.read([[NAN, 1.0], [NAN, 2.0]], 2, name="y_val")


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (Y, True),
        (Y.tolist(), True),
        (frame(), True),
        (Y[:, 0], False),
        (pd.Series([1.0, None]), False),
        ([np.array(1.0), np.array(2.0)], False),
        (torch.ones(3), False),
        (["wide", "narrow"], False),
        ([], False),
        (None, False),
    ],
)
def test_tables_have_rows_and_columns(y, expected):
    assert is_table(y) is expected


@pytest.mark.parametrize(
    "form", [list, lambda rows: pd.Series(rows), lambda rows: np.array(rows, dtype=object)]
)
def test_rows_that_differ_in_length_are_named(form):
    with pytest.raises(InvalidTargetsError, match=r"y\[1\] holds 1, y\[0\] holds 2. Put NaN"):
        is_table(form([[1.0, 2.0], [3.0], [4.0, 5.0]]))
    with pytest.raises(InvalidTargetsError, match=r"y\[0\] holds 1, y\[1\] holds 2"):
        is_table(form([1.0, (3.0, 4.0)]))


# --- names -------------------------------------------------------------------------------------------


def test_names_are_those_of_the_columns():
    assert ManyProperties.of(frame()) == ManyProperties(("a", "b"), as_frame=True)
    assert ManyProperties.of(frame(columns=[1, ("x", "y")])).names == ("1", "('x', 'y')")
    assert ManyProperties.of(Y, sampling="uniform") == ManyProperties(("y0", "y1"), sampling="uniform")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (frame(columns=["a", "a"]), r"a name of its own. Got several columns \['a'\]; rename them"),
        (frame(columns=[1, "1"]), r"Got several columns \['1'\]"),
        (frame(columns=["a", ""]), r"must name each property, but columns \[1\] have none"),
        (frame(columns=[None, "b"]), r"columns \[0\] have none"),
        (frame(columns=["a", NAN]), r"columns \[1\] have none"),
        (frame()[[]], "there are no columns"),
        (np.empty((4, 0)), "'y' has no columns"),
    ],
)
def test_names_that_clash_or_are_missing(y, message):
    with pytest.raises(InvalidTargetsError, match=message):
        ManyProperties.of(y)


def test_missing_property_is_named():
    with pytest.raises(UnknownNameError, match="'y_val' lacks the property 'b': .* Did you mean 'bb'"):
        TASK.read(frame(columns=["a", "bb"]), 4, name="y_val")


def test_predictions_are_named_as_the_labels_were():
    assert TASK.named(Y) is Y
    named = ManyProperties.of(frame()).named(Y, index=pd.Index([3, 5, 7, 9]))
    pd.testing.assert_frame_equal(named, frame().set_axis([3, 5, 7, 9]))


# --- scales and heads --------------------------------------------------------------------------------


def test_each_property_is_scaled_by_its_own_labels():
    scale = TASK.scale(Y, None)
    assert scale.scales == (TargetScale.of(Y[[0, 1, 3], 0]), TargetScale.of(Y[[1, 2], 1]))
    scaled = scale.scale(Y)
    np.testing.assert_allclose(np.nanmean(scaled, axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.nanstd(scaled, axis=0), 1)
    np.testing.assert_allclose(scale.unscale(scaled), Y)
    stds = [[one.std for one in scale.scales]]
    np.testing.assert_allclose(scale.errors(scaled, scaled - 1), np.where(np.isnan(Y), NAN, stds))


def test_weights_enter_each_scale():
    scale = TASK.scale(Y, np.array([1.0, 3.0, 1.0, 1.0]))
    assert scale.scales[1] == TargetScale.of(np.array([10.0, 10, 10, 30]))


def test_scales_are_read_off_a_card():
    outputs = [{"target_transform": scale.to_card()} for scale in TASK.scale(Y, None).scales]
    assert TASK.of_card(outputs) == TASK.scale(Y, None)


def test_heads_are_joined():
    heads = [MLP(3), MLP(3)]
    assert isinstance(TASK.join(heads), PropertyHeads)
    assert TASK.outputs(TASK.join(heads)(torch.ones(5, 3)).detach()).shape == (5, 2)


# --- validation rows ---------------------------------------------------------------------------------


def sparse(counts, n_rows=200, seed=0):
    """Labels of which each property has so many, in random rows."""
    rng = np.random.default_rng(seed)
    labels = np.full((n_rows, len(counts)), NAN)
    for column, count in enumerate(counts):
        labels[rng.permutation(n_rows)[:count], column] = rng.normal(size=count)
    return labels


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("counts", [(200, 100, 4), (12, 12, 12), (150,), (3, 3, 200)])
def test_each_property_has_its_share_of_validation_rows(counts, seed):
    labels = sparse(counts)
    rows = np.flatnonzero(~np.isnan(labels).all(axis=1))
    task = ManyProperties(tuple("abc"[: len(counts)]))
    held = task.hold_out(labels, rows, 0.15, np.random.RandomState(seed))
    assert set(held) <= set(rows)
    assert (np.diff(held) > 0).all()
    n_held = (~np.isnan(labels[held])).sum(axis=0)
    rarest = int(np.argmin(counts))
    assert n_held[rarest] == np.ceil(0.15 * counts[rarest])
    assert (n_held >= 1).all()
    assert len(held) <= 0.15 * len(rows) + len(counts)


def test_one_column_is_divided_as_one_property():
    from matmosaic.learning import OneProperty

    y, rows = np.arange(30.0), np.arange(3, 30)
    one = OneProperty().hold_out(y, rows, 0.2, np.random.RandomState(3))
    many = ManyProperties(("a",)).hold_out(y[:, None], rows, 0.2, np.random.RandomState(3))
    np.testing.assert_array_equal(one, many)


def test_nothing_is_held_out_on_request():
    assert len(TASK.hold_out(sparse((9, 9)), np.arange(200), 0, np.random.RandomState(0))) == 0


@pytest.mark.parametrize(
    ("count", "fraction", "message"),
    [
        (2, 0.15, "'b' has 2 labels, and validation_fraction=0.15 takes 1 of them; at least 1 .* 2 be left"),
        (1, 0, "'b' has 1 labels, and validation_fraction=0 takes 0 of them"),
        (0, 0, "'b' has 0 labels"),
        (10, 0.9, "'b' has 10 labels, and validation_fraction=0.9 takes 9 of them"),
    ],
)
def test_property_with_too_few_labels_is_named(count, fraction, message):
    with pytest.raises(InvalidTargetsError, match=message):
        TASK.hold_out(sparse((100, count)), np.arange(200), fraction, np.random.RandomState(0))


def test_no_property_is_left_without_validation_labels():
    """The second property has rows of its own and one that the first may put on either side."""
    labels = np.full((7, 2), NAN)
    labels[:5, 0], labels[4:, 1] = np.arange(5), np.arange(3)
    counts = []
    for seed in range(20):
        try:
            held = TASK.hold_out(labels, np.arange(7), 0.15, np.random.RandomState(seed))
            counts.append((~np.isnan(labels[held])).sum(axis=0))
        except InvalidTargetsError as error:
            assert "labels, and validation_fraction=0.15 takes" in str(error)
    assert len(counts) > 10
    assert np.min(counts) == 1


# --- sampling ----------------------------------------------------------------------------------------


def test_labels_are_drawn_once_an_epoch_by_default():
    assert TASK.probabilities(Y, balanced=False) is None


def test_uniform_sampling_draws_each_property_alike():
    labels = np.full((12, 2), NAN)
    labels[:10, 0], labels[9:, 1] = 0.0, 1.0  # row 9 has both
    p = ManyProperties(("a", "b"), sampling="uniform").probabilities(labels, balanced=False)
    np.testing.assert_allclose(p, [*[0.05] * 9, 0.05 + 1 / 6, 1 / 6, 1 / 6])


@pytest.mark.parametrize(("sampling", "share"), [("proportional", 0.8), ("uniform", 0.5)])
def test_balanced_sampling_draws_bins_of_each_property_alike(sampling, share):
    labels = np.full((10, 2), NAN)
    labels[:8, 0], labels[8:, 1] = [0.0] * 7 + [1.0], [0.0, 1.0]
    p = ManyProperties(("a", "b"), sampling=sampling).probabilities(labels, balanced=True)
    np.testing.assert_allclose(p, [*[share / 14] * 7, share / 2, (1 - share) / 2, (1 - share) / 2])


# --- errors ------------------------------------------------------------------------------------------


def test_errors_are_of_the_labels_that_are_there():
    labels, predicted = np.array([1.0, NAN, 3.0, 5.0]), np.array([1.0, 9.0, 4.0, 4.0])
    assert label_errors(labels, predicted, None) == (3, pytest.approx(2 / 3), pytest.approx(0.75))
    assert label_errors(labels, predicted, np.array([1.0, 1, 0, 3])) == (2, 0.75, pytest.approx(0.75))


@pytest.mark.parametrize(("labels", "error"), [([NAN, NAN], NAN), ([NAN, 2.0], 1.0)])
def test_r2_of_fewer_than_two_labels_is_nan(labels, error):
    count, mae, r2 = label_errors(np.array(labels), np.ones(2), None)
    assert count == np.count_nonzero(~np.isnan(labels))
    np.testing.assert_equal([mae, r2], [error, NAN])


def test_scales_of_another_number_of_columns_are_refused():
    with pytest.raises(ValueError, match="zip"):
        PropertyScales((TargetScale(0.0, 1.0),)).scale(Y)
