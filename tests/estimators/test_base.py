"""What every estimator shares: forms of input, bad input, graphs, repeatability."""

import copy
import os
import re

import numpy as np
import pandas as pd
import pytest
import torch
from pymatgen.core import Lattice, Molecule, Structure
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from matmosaic import GraphSettings, GraphTable, to_object_array
from matmosaic.estimators.base import GraphRegressor
from matmosaic.exceptions import (
    InvalidParameterError,
    InvalidStructuresError,
    InvalidTargetsError,
    IsolatedAtomWarning,
    StructureTypeError,
    UnknownNameError,
    UnsupportedElementError,
    UnusableRowsWarning,
)

FORMS = {
    "list": list,
    "tuple": tuple,
    "series": lambda X: pd.Series(X, index=range(100, 100 + len(X))),
    "frame": lambda X: pd.DataFrame({"structure": X}),
    "array": to_object_array,
    "column": lambda X: to_object_array(X).reshape(-1, 1),
    "dicts": lambda X: [one.as_dict() for one in X],
    "table": GraphTable.from_structures,
}


@pytest.fixture(scope="module")
def fitted(module, labelled):
    from matmosaic import TransferRegressor

    return TransferRegressor(module, max_epochs=3, random_state=0).fit(*labelled)


# --- forms of input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_all_forms_of_structures_give_the_same_numbers(form, make, fitted, labelled):
    X, y = labelled
    other = make().fit(form(X), y)
    expected = fitted.predict(X)
    assert expected.shape == (len(X),)
    assert expected.dtype == np.float64
    np.testing.assert_array_equal(other.predict(form(X)), expected)
    assert other.score(form(X), y) == fitted.score(X, y)


@pytest.mark.parametrize(
    "form", [list, pd.Series, lambda y: y.reshape(-1, 1), lambda y: pd.DataFrame({"y": y}), torch.tensor]
)
def test_all_forms_of_labels_give_the_same_numbers(form, make, fitted, labelled):
    X, y = labelled
    np.testing.assert_array_equal(make().fit(X, form(y)).predict(X), fitted.predict(X))


def test_ase_atoms_are_structures_too(make, labelled):
    pytest.importorskip("ase", reason="the extra `ase` is not installed")
    X, y = labelled
    atoms = [one.to_ase_atoms() for one in X]
    np.testing.assert_allclose(make().fit(atoms, y).predict(atoms), make().fit(X, y).predict(X), rtol=1e-5)


def test_inputs_are_not_changed(make, labelled):
    X, y = labelled
    before = copy.deepcopy((X, y))
    weight = np.arange(len(y), dtype=float)
    make(weighted_sampling=True).fit(X, y, weight, X_val=X[:5], y_val=y[:5]).predict(X)
    assert before[0] == X
    np.testing.assert_array_equal(before[1], y)
    np.testing.assert_array_equal(weight, np.arange(len(y)))


def test_a_row_is_predicted_alone_as_among_others(fitted, labelled):
    X, _ = labelled
    np.testing.assert_allclose(fitted.predict([X[7]]), fitted.predict(X)[7], rtol=1e-5)


def test_repeated_rows_are_kept(fitted, labelled):
    X, _ = labelled
    predicted = fitted.predict([X[0], X[1], X[0]])
    assert predicted[0] == predicted[2] != predicted[1]


def test_large_sets_are_predicted_in_batches(make, fitted, labelled):
    X, y = labelled
    small = make(batch_size=7, max_epochs=0).fit(X, y)
    one = copy.deepcopy(small).set_params(batch_size=100)
    np.testing.assert_allclose(small.predict(X), one.predict(X), rtol=1e-5)


# --- bad input ---------------------------------------------------------------------------------------


def test_unfitted_estimator_says_so(make, labelled, tmp_path):
    for step in (
        lambda estimator: estimator.predict(labelled[0]),
        lambda estimator: estimator.save(tmp_path / "never"),
        lambda estimator: estimator.to_module(name="never", target="y", unit="1"),
    ):
        with pytest.raises(NotFittedError):
            step(make())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_labels_that_are_not_finite_are_named(value, make, labelled):
    X, y = labelled
    y = y.copy()
    y[[3, 17]] = value
    with pytest.raises(InvalidTargetsError, match=re.escape(f"y[3]={value}, y[17]={value} (2 rows)")):
        make().fit(X, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: None, "This regressor requires y to be passed, but the target y is None."),
        (lambda y: y[:-1], "'X' and 'y' must have the same length. Got 40 structures and 39 labels."),
        (lambda y: np.full_like(y, 2.5), "'y' is constant: all 40 labels are 2.5."),
        (
            lambda y: np.stack([y, y], axis=1),
            "'y' must be one-dimensional, one label per structure. Got shape (40, 2)",
        ),
        (lambda y: ["high"] * len(y), "'y' must hold numbers"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(change, message, make, labelled):
    X, y = labelled
    with pytest.raises(InvalidTargetsError, match=re.escape(message)):
        make().fit(X, change(y))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-1.0, "'sample_weight' must hold numbers >= 0"),
        (0.0, "that are not all zero"),
        (np.nan, "'sample_weight' must be finite. Got sample_weight[0]=nan"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weight, message, make, labelled):
    X, y = labelled
    with pytest.raises(InvalidTargetsError, match=re.escape(message)):
        make().fit(X, y, np.full(len(y), weight))


def test_weights_of_another_length_are_refused(make, labelled):
    X, y = labelled
    with pytest.raises(InvalidTargetsError, match="Got 40 structures and 3"):
        make().fit(X, y, [1.0, 2.0, 3.0])


def test_too_few_rows_are_refused(make, labelled):
    X, y = labelled
    with pytest.raises(
        InvalidTargetsError, match="'X' has 2 rows, and validation_fraction=0.15 takes 1 of them"
    ):
        make().fit(X[:2], y[:2])
    make().fit(X[:3], y[:3])


def test_too_few_rows_with_weight_are_refused(make, labelled):
    X, y = labelled
    weight = np.zeros(len(y))
    weight[:2] = 1.0
    with pytest.raises(InvalidTargetsError, match="'X' has 2 rows of weight > 0"):
        make().fit(X, y, weight)


@pytest.mark.parametrize("given", [{"X_val": []}, {"y_val": [1.0]}])
def test_half_a_validation_set_is_refused(given, make, labelled):
    with pytest.raises(InvalidParameterError, match="'X_val' and 'y_val' must be given together"):
        make().fit(*labelled, **given)


def test_labels_of_the_validation_set_are_checked(make, labelled):
    X, y = labelled
    with pytest.raises(InvalidTargetsError, match=re.escape("y_val[1]=nan")):
        make().fit(X, y, X_val=X[:2], y_val=[1.0, np.nan])


def test_unknown_elements_are_named_with_their_rows(make, labelled, fitted):
    X, y = labelled
    lawrencium = Structure(Lattice.cubic(3.0), ["Lr"], [[0, 0, 0]])
    wrong = [X[0], lawrencium, X[1], lawrencium]
    with pytest.raises(UnsupportedElementError, match=re.escape("X[1], X[3] (2 rows)")):
        make().fit(wrong, y[:4])
    with pytest.raises(UnsupportedElementError, match=re.escape("atomic numbers [103]")):
        fitted.predict(wrong)


def test_disordered_structures_are_named(make, labelled):
    X, y = labelled
    alloy = Structure(Lattice.cubic(3.0), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    with pytest.raises(InvalidStructuresError, match=re.escape("X[2] (Cu0.5Au0.5) is disordered")):
        make().fit([*X[:2], alloy, *X[3:]], y)


def test_array_of_sites_is_refused_with_the_remedy(make, CsCl, labelled):
    with pytest.raises(StructureTypeError, match="to_object_array"):
        make().fit(np.array([CsCl, CsCl]), [1.0, 2.0])


def test_mixed_crystals_and_molecules_are_refused(make, labelled):
    X, y = labelled
    water = Molecule(["O", "H", "H"], [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
    with pytest.raises(InvalidStructuresError, match="mixes crystals and molecules"):
        make().fit([*X[1:], water], y)


def test_isolated_atoms_are_padded_with_a_warning(labelled, fitted):
    X, _ = labelled
    lonely = Structure(Lattice.cubic(20.0), ["Cu"], [[0, 0, 0]])
    with pytest.warns(
        IsolatedAtomWarning, match=re.escape("X[1] (Cu): atoms without a neighbour within 8 Å")
    ):
        assert len(fitted.predict([X[0], lonely])) == 2


def test_table_of_other_settings_is_refused(make, labelled):
    X, y = labelled
    table = GraphTable.from_structures(X, GraphSettings(cutoff=5.0))
    with pytest.raises(InvalidParameterError, match="cutoff=5.0"):
        make().fit(table, y)


# --- graphs ------------------------------------------------------------------------------------------


def test_cross_validation_builds_each_graph_once(make, labelled, built):
    cross_val_score(make(), *labelled, cv=5)
    cross_val_score(make(unfrozen="all", random_state=1), *labelled, cv=4)
    assert len(built) == len(labelled[0])


def test_folder_of_graphs_is_shared(make, labelled, built, tmp_path):
    from matmosaic.graphs.cache import PROCESS_CACHE

    X, y = labelled
    expected = make(memory=tmp_path).fit(X, y).predict(X)
    PROCESS_CACHE.clear()  # as in another process
    predicted = make(memory=str(tmp_path)).fit(X, y).predict(X)
    assert len(built) == len(X)
    np.testing.assert_array_equal(predicted, expected)


@pytest.mark.filterwarnings(
    "ignore:A worker stopped while some jobs:UserWarning"
)  # as an error in its thread, it would hang
def test_processes_build_the_same_graphs(make, labelled, fitted, built):
    X, y = labelled
    np.testing.assert_array_equal(make(n_jobs=2).fit(X, y).predict(X), fitted.predict(X))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("unfrozen", ["head", "last", "all"])
def test_compression_changes_no_number(unfrozen, make, labelled):
    X, y = labelled
    plain, compressed = (
        make(unfrozen=unfrozen, compress=compress, max_epochs=8, batch_size=16).fit(X, y)
        for compress in (False, True)
    )
    losses = ["train_loss", "valid_loss", "valid_mae"]
    np.testing.assert_allclose(compressed.history_[losses], plain.history_[losses], rtol=1e-5)
    np.testing.assert_allclose(compressed.predict(X), plain.predict(X), rtol=1e-5)


def test_compress_off_computes_every_atom(make, labelled, monkeypatch):
    X, y = labelled
    seen = []
    original = GraphTable.from_graphs.__func__

    def spy(cls, graphs, **kwargs):
        seen.append(kwargs["compressed"])
        return original(cls, graphs, **kwargs)

    monkeypatch.setattr(GraphTable, "from_graphs", classmethod(spy))
    make(compress=False).fit(X, y).predict(X)
    assert seen == [False, False]


# --- repeatability -----------------------------------------------------------------------------------


@pytest.mark.parametrize("unfrozen", ["last", "all"])
def test_same_seed_gives_the_same_bits(unfrozen, make, labelled):
    X, y = labelled
    first, second = (
        make(unfrozen=unfrozen, batch_size=8, weighted_sampling=True).fit(X, y) for _ in range(2)
    )
    np.testing.assert_array_equal(first.predict(X), second.predict(X))
    pd.testing.assert_frame_equal(first.history_.drop(columns="dur"), second.history_.drop(columns="dur"))
    assert not np.array_equal(make(random_state=1).fit(X, y).predict(X), make().fit(X, y).predict(X))


def test_second_fit_forgets_the_first(make, labelled):
    X, y = labelled
    again = make().fit(X[::-1], y).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), make().fit(X, y).predict(X))


def test_fit_leaves_global_settings_alone(make, labelled):
    X, y = labelled

    def settings():
        return (
            torch.random.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_grad_enabled(),
            dict(os.environ),
        )

    before = settings()
    make(weighted_sampling=True).fit(X, y).predict(X)
    assert settings() == before


def test_global_numbers_do_not_touch_a_seeded_fit(make, labelled, fitted):
    X, y = labelled
    torch.manual_seed(123)
    np.random.seed(123)
    np.testing.assert_array_equal(make().fit(X, y).predict(X), fitted.predict(X))


def test_gradients_may_be_switched_off_around_predict(fitted, labelled):
    X, _ = labelled
    expected = fitted.predict(X)
    with torch.no_grad():
        np.testing.assert_array_equal(fitted.predict(X), expected)


# --- references --------------------------------------------------------------------------------------


def test_module_may_be_a_path_a_text_or_an_object(make, module_path, labelled, fitted):
    X, y = labelled
    for reference in (module_path, str(module_path)):
        np.testing.assert_array_equal(make(module=reference).fit(X, y).predict(X), fitted.predict(X))


def test_clone_keeps_the_module(make, module, fitted):
    assert clone(fitted).module is module
    assert not hasattr(clone(fitted), "net_")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"module": "bundld:emt-eform"}, "Unknown store 'bundld'. Did you mean 'bundled'?"),
        ({"module": "bundled:no-such-module"}, "Unknown module 'no-such-module'"),
        ({"module": "no/such/folder"}, "There is no module at"),
        ({"module": None, "backbone": "cgcn"}, "Unknown backbone 'cgcn'. Did you mean 'cgcnn'?"),
        ({"unfrozen": "lst"}, "Did you mean 'last'?"),
        (
            {"unfrozen": ["conv_1", "conv_3"]},
            "Valid: 'adapters', 'all', 'conv_1', 'conv_2', 'embedding', 'head', 'last'",
        ),
    ],
)
def test_unknown_names_get_suggestions(parameters, message, make, labelled):
    with pytest.raises(UnknownNameError, match=re.escape(message)):
        make(**parameters).fit(*labelled)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"module": 3}, "A module is expected as 'store:name', a path or a PretrainedModule. Got 3."),
        ({"unfrozen": []}, "'unfrozen' must name at least one group"),
        ({"memory": 3}, "'memory' must be None, a folder or a joblib.Memory"),
        (
            {"module": None, "backbone_options": {"widht": 8}},
            "of ['width', 'n_convolutions', 'step']. Got {'widht': 8}",
        ),
    ],
)
def test_impossible_parameters_are_refused(parameters, message, make, labelled):
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        make(**parameters).fit(*labelled)


@pytest.mark.parametrize("wrap", [list, pd.Series, to_object_array], ids=["list", "Series", "array"])
def test_unusable_rows_are_nan_on_request(make, labelled, wrap):
    X, y = labelled
    fitted = make().fit(X, y)
    disordered = Structure(X[0].lattice, [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    foreign = Structure(X[0].lattice, ["Lr"], [[0, 0, 0]])
    with pytest.warns(UnusableRowsWarning, match=r"2 of 4 rows cannot be used and are NaN: X\[1\], X\[2\]"):
        got = fitted.predict(wrap([X[0], disordered, foreign, X[1]]), on_error="nan")
    np.testing.assert_array_equal(np.isnan(got), [False, True, True, False])
    np.testing.assert_allclose(got[[0, 3]], fitted.predict(X[:2]), rtol=1e-6)
    with pytest.raises(InvalidStructuresError, match=r"X\[1\]"):
        fitted.predict(wrap([X[0], disordered, foreign, X[1]]))


def test_rows_that_are_all_unusable_are_all_nan(make, labelled):
    fitted = make().fit(*labelled)
    with pytest.warns(UnusableRowsWarning, match="1 of 1 rows"):
        assert np.isnan(fitted.predict(["no structure"], on_error="nan")).all()


def test_on_error_is_checked(make, labelled):
    with pytest.raises(InvalidParameterError, match="'on_error' must be 'raise' or 'nan'. Got 'drop'"):
        make().fit(*labelled).predict(labelled[0], on_error="drop")


def test_failed_second_fit_leaves_no_mixture(make, labelled, monkeypatch):
    X, y = labelled
    estimator = make().fit(X, y)
    monkeypatch.setattr(GraphRegressor, "_train", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        estimator.fit(X, 1000 * np.asarray(y))
    with pytest.raises(NotFittedError):
        estimator.predict(X)
