"""Featurizer: what two methods of a third party become."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from matmosaic import GraphTable, ModuleFeaturizer, to_object_array
from matmosaic.exceptions import (
    InvalidFeaturesError,
    InvalidStructuresError,
    PluginError,
    StructureTypeError,
    UndefinedFeaturesWarning,
)
from matmosaic.featurizers import Featurizer


def returning(values, names=("one", "two")):
    """Return a featurizer that gives every structure the same."""

    class Broken(Featurizer):
        def featurize(self, structure):
            return values

        def get_feature_names_out(self, input_features=None):
            return np.array(names, dtype=object)

    return Broken()


class Crystalline(Featurizer):
    """Undefined for gases."""

    def featurize(self, structure):
        if structure[0].specie.symbol == "He":
            raise ValueError("gases have no density.")
        return np.array([structure.density])

    def get_feature_names_out(self, input_features=None):
        return np.array(["density (g/cm^3)"], dtype=object)


# --- a transformer of scikit-learn -------------------------------------------------------------------


def test_one_method_makes_a_transformer(density, labelled):
    X, y = labelled
    features = density().transform(to_object_array(X))
    assert features.shape == (30, 2)
    assert features.dtype == np.float64
    np.testing.assert_array_equal(features[:, 1], y)
    assert make_pipeline(density(), Ridge(1e-6)).fit(X, y).score(X, y) > 0.999


@pytest.mark.parametrize("form", [list, tuple, pd.Series, lambda X: pd.DataFrame({"s": X})])
def test_output_may_be_a_frame(form, density, labelled):
    frame = density().set_output(transform="pandas").fit_transform(form(labelled[0]))
    assert list(frame) == ["density (g/cm^3)", "volume (angstrom^3/atom)"]
    assert len(frame) == 30


def test_featurizers_stand_beside_each_other(density, labelled):
    X, y = labelled
    union = make_union(density(), ModuleFeaturizer("bundled:emt-eform"))
    assert union.fit_transform(pd.Series(X)).shape[1] > 2
    assert union.get_feature_names_out()[[0, -1]].tolist() == [
        "density__density (g/cm^3)",
        "modulefeaturizer__emt-eform_" + str(union.transform(X[:1]).shape[1] - 3),
    ]
    assert make_pipeline(union, StandardScaler(), Ridge()).fit(X, y).score(X, y) > 0.9


def test_parameters_are_searched(density, labelled):
    X, y = labelled
    pipeline = make_pipeline(density(), SVR())
    search = GridSearchCV(pipeline, {"density__scale": [0.1, 1.0]}, cv=2).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] != scores[1]


def test_copies_give_the_same(density, labelled):
    X, _ = labelled
    featurizer = density(2.0, n_jobs=1)
    for copied in (clone(featurizer), pickle.loads(pickle.dumps(featurizer))):
        assert copied.identity() == featurizer.identity()
        np.testing.assert_array_equal(copied.transform(X), featurizer.transform(X))


def test_input_passes_the_gate(density, Cu):
    assert density().transform([Cu.as_dict()]).shape == (1, 2)
    with pytest.raises(InvalidStructuresError, match="single Structure"):
        density().transform(Cu)


def test_tables_of_graphs_hold_no_structures(density, labelled):
    table = GraphTable.from_structures(labelled[0])
    with pytest.raises(StructureTypeError, match="GraphTable, .* Density needs them. Pass the structures."):
        density().transform(table)


def test_both_methods_must_be_written():
    with pytest.raises(TypeError, match="abstract"):
        Featurizer()


# --- what is undefined -------------------------------------------------------------------------------


def test_rows_that_fail_are_nan(He, Cu, NaCl, caplog):
    caplog.set_level("INFO", logger="matmosaic")
    X = [Cu, He, NaCl, He]
    expected = (
        "Crystalline leaves features of 2 of 4 rows undefined (NaN). featurize raised for 2: X[1] (He), X[3] "
        "(He). Reasons, with numbers of rows: ValueError: gases have no density (2). Put a SimpleImputer"
    )
    with pytest.warns(UndefinedFeaturesWarning, match=re.escape(expected)) as caught:
        features = Crystalline().transform(X)
    assert len(caught) == 1
    assert np.isnan(features).tolist() == [[False], [True], [False], [True]]
    assert "Crystalline: ValueError: gases have no density: X[1] (He), X[3] (He)" in caplog.messages


def test_warning_does_not_depend_on_the_cache(He, Cu):
    for _ in range(2):
        with pytest.warns(UndefinedFeaturesWarning, match="gases have no density"):
            Crystalline().transform([Cu, He])


def test_single_features_may_be_undefined(Cu, NaCl):
    expected = "2 of 2 rows undefined (NaN). 2 lack some: X[0] (Cu), X[1] (NaCl); 'two' of 2. Put"
    with pytest.warns(UndefinedFeaturesWarning, match=re.escape(expected)):
        features = returning([1.0, np.nan]).transform([Cu, NaCl])
    np.testing.assert_array_equal(features, [[1, np.nan]] * 2)


def test_nothing_but_nan_is_said_plainly(He):
    message = "gives NaN alone for all 2 rows, .* gases have no density .2.. No imputer can learn"
    with pytest.warns(UndefinedFeaturesWarning, match=message) as caught:
        Crystalline().transform([He, He])
    assert "SimpleImputer" not in str(caught[0].message)


def test_many_rows_are_not_all_named(He):
    with pytest.warns(UndefinedFeaturesWarning, match=re.escape("X[9] (He) and 5 more.")):
        Crystalline().transform([He] * 15)


def test_pipeline_imputes(He, labelled):
    X, y = labelled
    model = make_pipeline(Crystalline(), SimpleImputer(), StandardScaler(), SVR())
    with pytest.warns(UndefinedFeaturesWarning):
        model.fit([*X, He], [*y, 20.0])
    assert len(model.predict(X)) == 30
    with pytest.warns(UndefinedFeaturesWarning):
        assert np.isfinite(model.predict([He])).all()


def test_faults_of_the_installation_are_raised(Cu):
    class Lacking(Crystalline):
        def featurize(self, structure):
            import nowhere_to_be_found

            return nowhere_to_be_found

    message = r"Lacking cannot import .* 'nowhere_to_be_found', often by: pip install nowhere_to_be_found\."
    with pytest.raises(PluginError, match=message):
        Lacking().transform([Cu])


# --- what may not be returned ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], r"must return shape (2,), .* Got 1 numbers; return as many as there are names"),
        ([[1.0, 2.0]], r"must return shape (2,), .* Got shape (1, 2); return values.ravel()"),
        (1.0, r"must return shape (2,), .* Got shape ()"),
        ([1.0, np.inf], r"must return finite numbers, or NaN .* Got inf for 'two'; return NaN instead"),
        ([1.0, 2j], r"must return real numbers as float64. Got list (dtype complex128)"),
        (["1.0", "2.0"], r"must return real numbers as float64. Got list (dtype <U3)"),
        ([[1.0], [1.0, 2.0]], r"must return real numbers as float64. Got list"),
        ({"one": 1.0}, r"must return real numbers as float64. Got dict"),
    ],
)
def test_what_is_no_row_of_numbers(values, message, Cu):
    pattern = re.escape(f"Broken.featurize(X[0] (Cu)) {message}").replace(r"\.\*", ".*")
    with pytest.raises(InvalidFeaturesError, match=pattern):
        returning(values).transform([Cu])


@pytest.mark.parametrize("values", [(1, 2), [1, True], pd.Series([1, 2]), np.array([1, 2], dtype="f4")])
def test_all_kinds_of_rows_are_taken(values, Cu):
    features = returning(values).transform([Cu])
    assert features.dtype == np.float64
    assert features[0, 0] == 1


def test_none_is_nan(Cu):
    with pytest.warns(UndefinedFeaturesWarning, match="'one' of 1"):
        assert np.isnan(returning([None, 1.0]).transform([Cu])[0, 0])


@pytest.mark.parametrize("names", [[], "density", [["a", "b"]]])
def test_names_must_be_a_row(names, Cu):
    with pytest.raises(InvalidFeaturesError, match="get_feature_names_out must return names"):
        returning([1.0, 2.0], names).transform([Cu])


# --- how often features are computed -----------------------------------------------------------------


def test_cross_validation_computes_features_once(density, counted, labelled):
    X, y = labelled
    model = make_pipeline(density(), Ridge())
    first = cross_val_score(model, X, y, cv=3)
    np.testing.assert_array_equal(cross_val_score(model, X, y, cv=3), first)
    assert len(counted) == 30


def test_equal_rows_are_computed_once(density, counted, Cu, NaCl):
    features = density().transform([Cu, NaCl, Cu, Cu.copy()])
    assert [one.reduced_formula for one in counted] == ["Cu", "NaCl"]
    np.testing.assert_array_equal(features, density().transform([Cu, NaCl])[[0, 1, 0, 0]])


def test_other_parameters_are_other_features(density, counted, Cu):
    assert density(2.0).transform([Cu])[0, 0] == 2 * density(1.0).transform([Cu])[0, 0]
    density(1.0, n_jobs=2).transform([Cu])
    assert len(counted) == 2


def test_users_may_change_what_they_got(density, Cu):
    features = density().transform([Cu])
    expected = features.copy()
    features[:] = 0
    np.testing.assert_array_equal(density().transform([Cu]), expected)
