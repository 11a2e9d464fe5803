"""Several properties at once: what is learnt, reported, kept out, exported, and fine-tuned."""

import json
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from pymatgen.core import Lattice, Structure
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from matmosaic import GraphTable, MoERegressor, MPTRegressor, PretrainedModule, TransferRegressor
from matmosaic.estimators import load_estimator
from matmosaic.exceptions import (
    InvalidParameterError,
    InvalidTargetsError,
    ModuleFormatError,
    UnknownNameError,
    UnusableRowsWarning,
    UnusedHeadWarning,
)
from matmosaic.learning import OneProperty
from matmosaic.structures import structure_hash

UNITS = {"volume": "angstrom^3/atom", "density": "g/cm^3", "mass": "u/atom"}
NAMES = list(UNITS)


def losses(estimator):
    return estimator.history_.drop(columns="dur")


# --- the constructor ---------------------------------------------------------------------------------


def test_constructor_only_assigns():
    values = {name: object() for name in MPTRegressor().get_params()}
    estimator = MPTRegressor(**values)
    assert vars(estimator).keys() == values.keys()
    assert all(getattr(estimator, name) is value for name, value in values.items())


def test_parameters_are_those_of_transfer_and_four_more():
    own, other = MPTRegressor().get_params(), TransferRegressor().get_params()
    assert own.keys() - other.keys() == {"exclude", "exclude_by", "reduction", "sampling"}
    assert other.keys() <= own.keys()
    assert {name for name in other if own[name] != other[name]} == {"unfrozen", "head_widths", "loss"}


# --- fit and predict ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [pd.DataFrame, pd.DataFrame.to_numpy, lambda y: y.to_numpy().tolist()])
def test_every_property_is_predicted_for_every_row(form, make_mpt, table):
    X, Y = table
    fitted = make_mpt().fit(X, form(Y))
    predicted = fitted.predict(X)
    if isinstance(form(Y), pd.DataFrame):
        assert list(predicted) == fitted.properties_ == NAMES
        assert predicted.index.equals(pd.RangeIndex(40))
    else:
        assert (predicted.shape, predicted.dtype) == ((40, 3), np.float64)
        assert fitted.properties_ == ["y0", "y1", "y2"]
    assert np.isfinite(np.asarray(predicted)).all()


def test_predictions_have_the_rows_of_the_structures(make_mpt, table):
    X, Y = table
    rows = pd.Series(X[:5], index=list("abcde"))
    assert make_mpt().fit(X, Y).predict(rows).index.tolist() == list("abcde")


def test_properties_are_learnt(make_mpt, table):
    X, Y = table
    fitted = make_mpt(max_epochs=150, validation_fraction=0).fit(X, Y)
    scores = fitted.scores(X, Y)
    assert scores["n_labels"].tolist() == [40, 30, 30]
    assert (scores["r2"] > 0.95).all()
    assert fitted.score(X, Y) == scores["r2"].mean()


def test_missing_labels_teach_nothing(make_mpt, table, float64):
    """A property's labels in half of the rows: the others are as if they were not there."""
    X, Y = table
    one = Y[["volume"]]
    both = Y[["volume", "density"]].assign(density=np.where(np.arange(40) < 3, [1, 2, 3] + [0] * 37, np.nan))
    frozen = {"validation_fraction": 0, "max_epochs": 1, "learning_rate": 1e-3}
    fitted = make_mpt(**frozen).fit(X, both)
    changed = both.assign(density=both["density"] * 5 + 2)  # the same once scaled
    np.testing.assert_allclose(
        fitted.predict(X)["volume"], make_mpt(**frozen).fit(X, changed).predict(X)["volume"]
    )
    assert fitted.scale_.scales[0] == make_mpt(**frozen).fit(X, one).scale_.scales[0]


def test_units_of_the_labels_do_not_matter(make_mpt, table, float64):
    X, Y = table
    one = make_mpt().fit(X, Y).predict(X)
    other = make_mpt().fit(X, Y * [1e3, 1e-3, 1] + [5, 0, 0]).predict(X)
    np.testing.assert_allclose(other, one * [1e3, 1e-3, 1] + [5, 0, 0], rtol=1e-5)


def test_one_column_is_a_network_of_one_property(make_mpt, labelled, float64):
    X, y = labelled
    column = make_mpt(loss="mse").fit(X, y[:, None])
    own = {"backbone_options": {"width": 8, "n_convolutions": 2}, "head_widths": (8,), "max_epochs": 3}
    single = TransferRegressor(**own, random_state=0).fit(X, y)
    np.testing.assert_allclose(column.predict(X)[:, 0], single.predict(X), rtol=1e-8)
    assert column.predict(X).shape == (40, 1)


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("cgcnn", {"width": 4, "n_convolutions": 1}),
        ("alignn", {"width": 8, "n_alignn": 1, "n_gcn": 1}),
    ],
)
def test_any_backbone_is_pre_trained_and_fine_tuned(backbone, options, make_mpt, table):
    X, Y = table
    X, Y = X[:12], Y[:12]
    fitted = make_mpt(backbone=backbone, backbone_options=options, max_epochs=1).fit(X, Y)
    module = fitted.to_module(name="three", unit=UNITS)
    np.testing.assert_allclose(module.predict(X), fitted.predict(X), rtol=1e-5)
    tuned = TransferRegressor(module, head="inherit", max_epochs=0).fit(X, Y["volume"])
    np.testing.assert_array_equal(tuned.predict(X), module.predict(X)[:, 0])


def test_all_forms_of_structures_give_the_same_numbers(make_mpt, table):
    X, Y = table
    expected = make_mpt().fit(X, Y).predict(X)
    graphs = GraphTable.from_structures(X)
    pd.testing.assert_frame_equal(make_mpt().fit(graphs, Y).predict(graphs), expected)


def test_same_seed_gives_the_same_bits(make_mpt, table):
    X, Y = table
    first, second = (make_mpt(batch_size=8, sampling="uniform").fit(X, Y) for _ in range(2))
    pd.testing.assert_frame_equal(first.predict(X), second.predict(X))
    pd.testing.assert_frame_equal(losses(first), losses(second))


def test_unusable_rows_are_nan_in_every_property(make_mpt, table):
    X, Y = table
    fitted = make_mpt().fit(X, Y)
    with pytest.warns(UnusableRowsWarning, match=r"1 of 3 rows .*X\[1\]") as caught:
        predicted = fitted.predict([X[0], "no structure", X[1]], on_error="nan")
    assert caught[0].filename == __file__
    np.testing.assert_allclose(predicted.iloc[[0, 2]], fitted.predict(X[:2]), rtol=1e-5)
    assert predicted.iloc[1].isna().all()
    with pytest.warns(UnusableRowsWarning, match="1 of 1 rows"):
        assert fitted.predict(["no structure"], on_error="nan").isna().to_numpy().tolist() == [[True] * 3]


# --- loss, sampling, validation ------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "power"), [("l1", 1), ("mse", 2)])
@pytest.mark.parametrize("reduction", ["present", "reference"])
def test_loss_is_the_mean_over_labels_or_entries(reduction, loss, power, make_mpt, table):
    X, Y = table
    fitted = make_mpt(loss=loss, reduction=reduction, max_epochs=1, validation_fraction=0).fit(X, Y)
    before = make_mpt(max_epochs=0, validation_fraction=0).fit(X, Y)
    model = before.net_.module_.train()  # batch statistics, as in the first step
    outputs = model(GraphTable.from_structures(X).select(range(40))).detach().numpy()
    errors = np.abs(outputs - before.scale_.scale(Y.to_numpy())) ** power
    expected = np.nansum(errors) / (Y.count().sum() if reduction == "present" else Y.size)
    assert fitted.history_["train_loss"][0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("sampling", "share"), [("proportional", 4 / 40), ("uniform", (4 / 4 + 4 / 40) / 2)])
def test_rare_properties_are_drawn_more_often_on_request(sampling, share, make_mpt, table, monkeypatch):
    from matmosaic.learning import TableDataset

    X, Y = table
    Y = Y[["volume"]].assign(rare=np.where(np.arange(40) < 4, np.arange(40), np.nan))
    drawn = []
    original = TableDataset.__getitems__
    monkeypatch.setattr(
        TableDataset, "__getitems__", lambda self, rows: drawn.extend(rows) or original(self, rows)
    )
    make_mpt(sampling=sampling, validation_fraction=0, max_epochs=25).fit(X, Y)
    assert np.mean(np.array(drawn) < 4) == pytest.approx(share, abs=0.05)


def test_history_has_the_error_of_each_property(make_mpt, table):
    X, Y = table
    fitted = make_mpt(max_epochs=8, learning_rate=0.1).fit(X, Y, X_val=X[:10], y_val=Y[:10])
    own = [f"valid_mae {name}" for name in NAMES]
    assert list(fitted.history_) == ["epoch", "train_loss", "valid_loss", "valid_mae", "dur", *own]
    best = fitted.history_.iloc[fitted.best_epoch_ - 1]
    assert best["valid_mae"] == fitted.history_["valid_mae"].min()
    errors = (fitted.predict(X[:10]) - Y[:10]).abs()
    np.testing.assert_allclose(best[own].astype(float), errors.mean(), rtol=1e-4)
    stds = [scale.std for scale in fitted.scale_.scales]
    assert best["valid_mae"] == pytest.approx(np.nanmean(errors / stds), rel=1e-4)


def test_patience_stops_early(make_mpt, table):
    fitted = make_mpt(max_epochs=200, patience=3, learning_rate=0.1).fit(*table)
    assert len(fitted.history_) == fitted.best_epoch_ + 3 < 200


def test_validation_labels_may_have_their_columns_in_any_order(make_mpt, table):
    X, Y = table
    one, other = (make_mpt().fit(X, Y, X_val=X[:9], y_val=Y[:9][order]) for order in (NAMES, NAMES[::-1]))
    pd.testing.assert_frame_equal(losses(one), losses(other))


def test_rows_of_weight_zero_are_left_out(make_mpt, table, float64):
    X, Y = table
    kept = np.arange(40) % 5 != 2
    wrong = Y.where(pd.Series(kept), 1e6)
    weighted = make_mpt().fit(X, wrong, kept.astype(float))
    removed = make_mpt().fit([x for x, k in zip(X, kept, strict=True) if k], Y[kept])
    assert weighted.n_train_ == removed.n_train_
    np.testing.assert_allclose(weighted.predict(X), removed.predict(X), rtol=1e-6)


def test_equal_weights_change_nothing(make_mpt, table, float64):
    X, Y = table
    for reduction in ("present", "reference"):
        weighted = make_mpt(reduction=reduction).fit(X, Y, np.full(40, 3.0)).predict(X)
        np.testing.assert_allclose(weighted, make_mpt(reduction=reduction).fit(X, Y).predict(X), rtol=1e-5)


# --- bad input ---------------------------------------------------------------------------------------

BAD = [
    (lambda y: y.mask(pd.Series(np.arange(40) == 3)), r"rows without any label: y\[3\] \(1 rows\)"),
    (lambda y: y.assign(mass=np.nan), "Property 'mass' has no label in 'y'"),
    (lambda y: y.assign(mass=y["mass"][:1]), "'mass' has 1 labels, and validation_fraction=0.15 takes 1"),
    (lambda y: y.set_axis(["a", "b", "a"], axis=1), r"several columns \['a'\]"),
    (lambda y: y.set_axis(["a", "b", ""], axis=1), r"columns \[2\] have none"),
    (lambda y: y[:-1], "Got 40 structures and 39 labels"),
    (lambda y: y["volume"], "'y' is one-dimensional, and module=None names nothing to fine-tune"),
    (lambda y: y.to_numpy()[:, :, None], r"'y' must be one-dimensional.*Got shape \(40, 3, 1\)"),
    (lambda y: [*y.to_numpy()[:-1].tolist(), [1.0]], r"differ in length: y\[39\] holds 1, y\[0\] holds 3"),
    (lambda y: None, "requires y to be passed"),
]


@pytest.mark.parametrize(
    ("change", "message"),
    BAD,
    ids=["row", "column", "few labels", "clash", "no name", "length", "1-d", "3-d", "ragged", "None"],
)
def test_labels_that_cannot_be_learnt_are_refused(change, message, make_mpt, table):
    X, Y = table
    with pytest.raises(InvalidTargetsError, match=message):
        make_mpt().fit(X, change(Y))


def test_missing_property_is_named(make_mpt, table):
    X, Y = table
    with pytest.raises(UnknownNameError, match="'y_val' lacks the property 'mass'"):
        make_mpt().fit(X, Y, X_val=X[:9], y_val=Y[:9][["volume", "density"]])
    with pytest.raises(UnknownNameError, match="'y' lacks the property 'density'"):
        make_mpt().fit(X, Y).score(X, Y.drop(columns="density"))


def test_unfitted_estimator_says_so(make_mpt, table, tmp_path):
    X, Y = table
    for step in (
        lambda one: one.predict(X),
        lambda one: one.score(X, Y),
        lambda one: one.scores(X, Y),
        lambda one: one.properties_,
        lambda one: one.save(tmp_path / "never"),
        lambda one: one.to_module(name="never", unit=UNITS),
    ):
        with pytest.raises(NotFittedError):
            step(make_mpt())


def test_scores_of_another_length_are_refused(make_mpt, table):
    X, Y = table
    with pytest.raises(InvalidTargetsError, match="Got 39 structures and 40 labels"):
        make_mpt().fit(X, Y).scores(X[1:], Y)


# --- scikit-learn ------------------------------------------------------------------------------------


def test_score_is_weighted_and_leaves_out_properties_without_labels(make_mpt, table):
    X, Y = table
    fitted = make_mpt().fit(X, Y)
    weight = np.arange(40.0)
    there = Y["density"].notna()
    few = Y.assign(mass=np.nan)
    scores = fitted.scores(X, few, weight)
    expected = r2_score(Y["density"][there], fitted.predict(X)["density"][there], sample_weight=weight[there])
    assert scores.loc["density", "r2"] == pytest.approx(expected)
    assert (scores.loc["mass", "n_labels"], scores["r2"].isna().tolist()) == (0, [False, False, True])
    assert fitted.score(X, few, weight) == scores["r2"][:2].mean()


@pytest.mark.parametrize("form", [pd.DataFrame, pd.DataFrame.to_numpy], ids=["frame", "array"])
def test_cross_validation(form, make_mpt, table):
    X, Y = table
    folds = KFold(2, shuffle=True, random_state=0)
    scores = cross_val_score(make_mpt(), X, form(Y), cv=folds)
    train, test = next(folds.split(X))
    fitted = make_mpt().fit([X[row] for row in train], form(Y.iloc[train]))
    assert scores[0] == fitted.score([X[row] for row in test], form(Y.iloc[test]))


def test_grid_search(make_mpt, table):
    X, Y = table
    search = GridSearchCV(make_mpt(max_epochs=2), {"sampling": ["uniform", "proportional"]}, cv=2).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert list(search.predict(X[:2])) == NAMES


def test_clone_and_pickle(make_mpt, table):
    X, Y = table
    fitted = make_mpt(exclude=X[:3]).fit(X, Y)
    again = pickle.loads(pickle.dumps(fitted))
    pd.testing.assert_frame_equal(again.predict(X), fitted.predict(X))
    assert again.properties_ == NAMES
    pd.testing.assert_frame_equal(clone(fitted).fit(X, Y).predict(X), fitted.predict(X))


# --- what is kept out ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", [list, lambda X: [structure_hash(one) for one in X]], ids=["structures", "hashes"]
)
def test_excluded_structures_are_not_learnt_from(form, make_mpt, table):
    X, Y = table
    out = [3, 4, 17]
    wrong = Y.mask(pd.Series(Y.index.isin(out)), 1e6)
    kept = [row for row in range(40) if row not in out]
    fitted = make_mpt(exclude=form([X[row] for row in out])).fit(X, wrong)
    expected = make_mpt().fit([X[row] for row in kept], Y.iloc[kept])
    pd.testing.assert_frame_equal(losses(fitted), losses(expected))
    pd.testing.assert_frame_equal(fitted.predict(X), expected.predict(X))  # of every row
    assert np.flatnonzero(fitted.overlap_.by_structure).tolist() == out
    # Rows 3, 4 and 17 are NaCl, Cu and Si; every fourth row is one of the same crystals.
    assert np.flatnonzero(~fitted.overlap_.by_composition).tolist() == list(range(2, 40, 4))
    fingerprints = fitted.to_module(name="one", unit=UNITS).card.fingerprints
    assert fingerprints == expected.to_module(name="one", unit=UNITS).card.fingerprints


def test_excluded_structures_do_not_validate(make_mpt, table):
    X, Y = table
    fitted = make_mpt(exclude=X[:4]).fit(X[8:], Y[8:], X_val=X[:8], y_val=Y[:8].assign(mass=1.0))
    expected = make_mpt().fit(X[8:], Y[8:], X_val=X[4:8], y_val=Y[4:8].assign(mass=1.0))
    pd.testing.assert_frame_equal(losses(fitted), losses(expected))
    assert fitted.overlap_.by_structure.sum() == 0


def test_excluding_rows_takes_their_weights(make_mpt, table):
    X, Y = table
    weight = np.arange(40.0)
    fitted = make_mpt(exclude=X[:10]).fit(X, Y, weight)
    pd.testing.assert_frame_equal(losses(fitted), losses(make_mpt().fit(X[10:], Y[10:], weight[10:])))


def test_without_exclusion_there_is_no_report(make_mpt, table):
    X, Y = table
    assert make_mpt().fit(X, Y).overlap_ is None
    empty = make_mpt(exclude=[]).fit(X, Y)
    assert empty.overlap_.by_composition.sum() == 0


def test_tables_of_graphs_cannot_be_compared(make_mpt, table):
    X, Y = table
    graphs = GraphTable.from_structures(X)
    for given, exclude in ((graphs, X[:2]), (X, graphs)):
        with pytest.raises(InvalidParameterError, match="'exclude' compares structures, and a GraphTable"):
            make_mpt(exclude=exclude).fit(given, Y)


def test_crystals_in_other_cells_are_excluded_on_request(make_mpt, table):
    X, Y = table
    doubled = next(one for one in X if one.composition.reduced_formula == "NaCl").copy()
    doubled.make_supercell([2, 1, 1])
    alike = [row for row in range(40) if X[row].composition.reduced_formula == "NaCl"]
    assert len(alike) == 10  # Rock salt with slightly different lattices.
    found = {
        by: make_mpt(exclude=[doubled], exclude_by=by, max_epochs=0).fit(X, Y).overlap_
        for by in ("structure", "crystal", "composition")
    }
    assert found["structure"].by_structure.sum() == 0
    assert np.flatnonzero(found["crystal"].by_structure).tolist() == alike
    assert np.flatnonzero(found["composition"].by_structure).tolist() == alike


def test_composition_excludes_other_structures(make_mpt, table):
    X, Y = table
    other = Structure(Lattice.cubic(3.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    for by, n_out in {"crystal": 0, "composition": 10}.items():
        fitted = make_mpt(exclude=[other], exclude_by=by, max_epochs=0).fit(X, Y)
        assert fitted.overlap_.by_structure.sum() == n_out


def test_hashes_find_equal_structures_alone(make_mpt, table):
    X, Y = table
    with pytest.raises(InvalidParameterError, match=r"'exclude' holds hashes.*exclude_by='crystal'"):
        make_mpt(exclude=[structure_hash(X[0])], exclude_by="crystal").fit(X, Y)


def test_excluding_everything_is_refused(make_mpt, table):
    X, Y = table
    with pytest.raises(InvalidParameterError, match="'exclude' holds all structures of 'X'; nothing is left"):
        make_mpt(exclude=X).fit(X, Y)
    with pytest.raises(InvalidParameterError, match="'exclude' holds all structures of 'X_val'"):
        make_mpt(exclude=X[:8]).fit(X, Y, X_val=X[:8], y_val=Y[:8])


# --- as a module ---------------------------------------------------------------------------------------


def test_card_lists_the_properties(make_mpt, table):
    X, Y = table
    fitted = make_mpt().fit(X, Y)
    card = fitted.to_module(name="three", unit=UNITS, version="2").card
    assert (card.target, card.unit) == ("volume, density, mass", "angstrom^3/atom, g/cm^3, u/atom")
    assert [(one["name"], one["unit"]) for one in card.properties] == list(UNITS.items())
    for one, scale in zip(card.properties, fitted.scale_.scales, strict=True):
        assert one["target_transform"] == scale.to_card()
    best = fitted.history_.iloc[fitted.best_epoch_ - 1]
    assert [(one["name"], one["value"], one["unit"]) for one in card.metrics] == [
        (f"MAE {name}", best[f"valid_mae {name}"], unit) for name, unit in UNITS.items()
    ]


def test_module_predicts_as_its_estimator(make_mpt, table, tmp_path):
    X, Y = table
    fitted = make_mpt().fit(X, Y)
    fitted.to_module(name="three", unit=UNITS).save(tmp_path / "three")
    module = PretrainedModule.load(tmp_path / "three")
    np.testing.assert_allclose(module.predict(X), fitted.predict(X), rtol=1e-6)
    assert module.verify() < 1e-5


@pytest.mark.parametrize(
    ("given", "names", "units"),
    [
        ({"unit": list(UNITS.values())}, NAMES, list(UNITS.values())),
        ({"unit": "1", "target": ["a", "b", "c"]}, ["a", "b", "c"], ["1"] * 3),
    ],
)
def test_names_and_units_may_be_given_in_order(given, names, units, make_mpt, table):
    X, Y = table
    card = make_mpt().fit(X, Y.to_numpy() if "target" in given else Y).to_module(name="three", **given).card
    assert [one["name"] for one in card.properties] == names
    assert [one["unit"] for one in card.properties] == units


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"unit": ["1", "2"]}, InvalidParameterError, "'unit' must hold one for each of the 3 properties"),
        ({"unit": {"volume": "1", "mass": "1"}}, InvalidParameterError, r"Got \['1', '1'\]"),
        ({"unit": {**UNITS, "densty": "1"}}, InvalidParameterError, "'unit': .* Did you mean 'density'"),
        ({"unit": UNITS, "target": "volume"}, InvalidParameterError, r"'target' must .*Got \['volume'\]"),
        ({"unit": UNITS, "target": ["a", "a", "b"]}, ModuleFormatError, "need names, all different"),
    ],
)
def test_names_and_units_that_do_not_fit_are_refused(given, error, message, make_mpt, table):
    fitted = make_mpt().fit(*table)
    with pytest.raises(error, match=message):
        fitted.to_module(name="three", **given)


def test_loaded_estimator_is_the_saved_one(make_mpt, table, tmp_path):
    X, Y = table
    fitted = make_mpt(exclude=X[:3], sampling="uniform").fit(X, Y)
    fitted.save(tmp_path / "model", unit=UNITS)
    loaded = load_estimator(tmp_path / "model")
    assert type(loaded) is MPTRegressor
    pd.testing.assert_frame_equal(loaded.predict(X), fitted.predict(X))
    pd.testing.assert_frame_equal(loaded.scores(X, Y), fitted.scores(X, Y))
    assert loaded.properties_ == NAMES
    np.testing.assert_array_equal(loaded.overlap_.by_composition, fitted.overlap_.by_composition)
    assert loaded.exclude == [structure_hash(one) for one in X[:3]]
    pd.testing.assert_frame_equal(losses(loaded.fit(X, Y)), losses(fitted))
    assert [one["name"] for one in PretrainedModule.load(tmp_path / "model").card.properties] == NAMES


@pytest.mark.parametrize("by", ["crystal", "composition"])
def test_what_hashes_do_not_find_is_to_be_given_again(by, make_mpt, table, tmp_path, caplog):
    X, Y = table
    fitted = make_mpt(exclude=X[:1], exclude_by=by, max_epochs=1).fit(X, Y)
    fitted.save(tmp_path / "model")
    loaded = load_estimator(tmp_path / "model")
    assert (loaded.exclude, loaded.exclude_by) == (None, by)
    assert "'exclude' was not saved; give it again before another fit" in caplog.text
    np.testing.assert_array_equal(loaded.overlap_.by_structure, fitted.overlap_.by_structure)
    again = clone(loaded).set_params(exclude=X[:1]).fit(X, Y)
    pd.testing.assert_frame_equal(losses(again), losses(fitted))
    assert clone(loaded).fit(X, Y).overlap_ is None


def test_array_of_labels_is_remembered(make_mpt, table, tmp_path):
    X, Y = table
    fitted = make_mpt().fit(X, Y.to_numpy())
    fitted.save(tmp_path / "model")
    np.testing.assert_array_equal(load_estimator(tmp_path / "model").predict(X), fitted.predict(X))


def test_altered_description_is_refused(make_mpt, table, tmp_path):
    make_mpt().fit(*table).save(tmp_path / "model")
    path = tmp_path / "model" / "estimator.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["task"]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ModuleFormatError, match="lacks a field"):
        load_estimator(tmp_path / "model")


# --- fine-tuning ---------------------------------------------------------------------------------------


def test_one_property_is_fine_tuned(several, labelled, tmp_path):
    X, y = labelled
    tuned = MPTRegressor(several, max_epochs=60, random_state=0).fit(X, y)
    assert tuned.properties_ is None
    assert tuned.net_.module_.head.widths == (128, 128)
    assert len(tuned.unfrozen_) == len(list(several.build_backbone().parameters()))
    assert tuned.score(X, y) > 0.8
    card = tuned.to_module(name="tuned", target="volume", unit="angstrom^3/atom").card
    assert (card.base, card.properties) == (several.card.sha256, [])
    tuned.save(tmp_path / "tuned")
    np.testing.assert_array_equal(load_estimator(tmp_path / "tuned").predict(X), tuned.predict(X))
    with pytest.raises(InvalidTargetsError, match="after a fit of one use 'score'"):
        tuned.scores(X, y)


@pytest.mark.parametrize("kind", [MPTRegressor, TransferRegressor])
def test_name_of_the_labels_is_kept(kind, several, labelled, tmp_path):
    X, y = labelled
    kind(several, max_epochs=0).fit(X, pd.Series(y, name="cell size")).save(tmp_path / "tuned")
    assert PretrainedModule.load(tmp_path / "tuned").card.target == "cell size"
    loaded = load_estimator(tmp_path / "tuned")
    assert loaded._task == OneProperty("cell size")
    assert loaded.to_module(name="own", target="y", unit="1").card.target == "cell size"
    assert loaded.to_module(name="other", target="volume", unit="1").card.target == "volume"


def test_fine_tuning_is_transfer_with_other_defaults(several, labelled):
    X, y = labelled
    own = {"max_epochs": 3, "random_state": 0}
    tuned = MPTRegressor(several, **own).fit(X, y)
    transfer = TransferRegressor(several, unfrozen="all", head_widths=(128, 128), loss="l1", **own).fit(X, y)
    np.testing.assert_array_equal(tuned.predict(X), transfer.predict(X))


def test_second_fit_forgets_the_properties(several, table):
    X, Y = table
    model = MPTRegressor(several, max_epochs=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedHeadWarning)
        model.fit(X, Y)
    model.fit(X, Y["volume"].to_numpy())
    assert (model.properties_, model.predict(X).shape, type(model._task)) == (None, (40,), OneProperty)


def test_several_properties_are_learnt_further_from_their_heads(several, table):
    X, Y = table
    order = ["mass", "volume"]
    model = MPTRegressor(several, head="inherit", max_epochs=0).fit(X, Y[order].fillna(1.0))
    expected = several.predict(X)[:, [NAMES.index(name) for name in order]]
    np.testing.assert_array_equal(model.predict(X), expected)
    with pytest.raises(UnknownNameError, match="property of module 'several' 'y0'"):
        MPTRegressor(several, head="inherit").fit(X, Y.to_numpy())


def test_new_heads_for_known_properties_are_said(several, table):
    with pytest.warns(UnusedHeadWarning, match="'several' has a head for 'volume', 'density', 'mass'"):
        MPTRegressor(several, max_epochs=0).fit(*table)


def test_heads_see_standardised_features_of_their_own_rows(several, table, float64):
    X, Y = table
    Y = Y.rename(columns=str.upper)
    model = MPTRegressor(several, unfrozen="head", max_epochs=0, validation_fraction=0).fit(X, Y)
    features = several.features(X)
    for head, name in zip(model.net_.module_.head, Y, strict=True):
        own = features[Y[name].notna()]
        np.testing.assert_allclose(head.scale.mean, own.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("guard", ["none", "fallback"])
def test_module_of_several_properties_is_an_expert(guard, several, modules, labelled):
    X, y = labelled
    mixture = MoERegressor([several, modules["a"]], guard=guard, max_epochs=2, random_state=0).fit(X, y)
    assert mixture.predict(X).shape == (40,)
    assert mixture.explain().loc["several", "target"] == "volume, density, mass"
    if guard == "fallback":  # its own heads predict in several units
        assert [name for name in mixture.guard_.index if name.startswith("zero-shot")] == ["zero-shot a"]


def test_training_leaves_global_settings_alone(make_mpt, table):
    before = torch.random.get_rng_state()
    make_mpt().fit(*table)
    assert torch.equal(torch.random.get_rng_state(), before)
