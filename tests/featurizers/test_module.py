"""ModuleFeaturizer: the features of a module for any scikit-learn model."""

import pickle
import re

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure
from sklearn import set_config
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from matmosaic import GraphTable, ModuleFeaturizer, TransferRegressor, load_module, to_object_array
from matmosaic.exceptions import UnknownNameError, UnsupportedElementError
from matmosaic.graphs.cache import PROCESS_CACHE


def train(labelled, name, seed):
    scratch = TransferRegressor(
        backbone_options={"width": 6, "n_convolutions": 1}, max_epochs=3, random_state=seed
    )
    return scratch.fit(*labelled).to_module(name=name, target="volume", unit="angstrom^3/atom")


@pytest.fixture(scope="session")
def module(labelled):
    return train(labelled, "tiny", 0)


@pytest.mark.parametrize(
    "form",
    [list, tuple, pd.Series, to_object_array, lambda X: pd.DataFrame({"s": X}), GraphTable.from_structures],
)
def test_features_are_those_of_the_module(form, module, labelled):
    X, _ = labelled
    features = ModuleFeaturizer(module).fit_transform(form(X))
    assert features.shape == (30, 6)
    np.testing.assert_array_equal(features, module.features(X))


def test_features_are_what_the_modules_own_head_gets(module, labelled):
    X, _ = labelled
    features = ModuleFeaturizer(module).transform(X)
    np.testing.assert_allclose(module.predict_from(features), module.predict(X), rtol=1e-6)


def test_batches_do_not_matter(module, labelled):
    X, _ = labelled
    small = ModuleFeaturizer(module, batch_size=4).transform(X)
    np.testing.assert_allclose(small, ModuleFeaturizer(module).transform(X), rtol=1e-4, atol=1e-6)


def test_one_structure_has_a_vector(module, labelled):
    X, _ = labelled
    featurizer = ModuleFeaturizer(module).set_output(transform="pandas")
    np.testing.assert_allclose(featurizer.featurize(X[3]), module.features(X)[3], rtol=1e-4, atol=1e-6)


def test_names_count_the_features(module):
    assert ModuleFeaturizer(module).get_feature_names_out().tolist() == [f"tiny_{i}" for i in range(6)]


@pytest.mark.parametrize(
    "form", [list, lambda X: pd.Series(X, index=range(50, 80)), lambda X: pd.DataFrame({"s": X})]
)
def test_output_may_be_a_frame(form, module, labelled):
    X, _ = labelled
    featurizer = ModuleFeaturizer(module).set_output(transform="pandas")
    frame = featurizer.fit_transform(form(X))
    assert list(frame) == featurizer.get_feature_names_out().tolist()
    np.testing.assert_array_equal(frame.to_numpy(), module.features(X))
    plain = ModuleFeaturizer(module)
    assert isinstance(plain.transform(X), np.ndarray)


def test_output_may_be_set_for_all(module, labelled):
    set_config(transform_output="pandas")
    try:
        model = make_pipeline(ModuleFeaturizer(module), StandardScaler()).fit(labelled[0])
        assert list(model.transform(labelled[0]))[-1] == "tiny_5"
    finally:
        set_config(transform_output="default")


def test_constructor_only_assigns(tmp_path):
    values = {name: object() for name in ModuleFeaturizer("").get_params()}
    assert vars(ModuleFeaturizer(**values)) == values
    ModuleFeaturizer(tmp_path / "not there")


def test_clones_and_pickles_give_the_same(module, labelled):
    X, _ = labelled
    featurizer = ModuleFeaturizer(module, batch_size=8)
    assert clone(featurizer).module is module
    copied = pickle.loads(pickle.dumps(featurizer))
    np.testing.assert_array_equal(copied.transform(X), clone(featurizer).transform(X))


def test_pipeline_learns(module, labelled):
    X, y = labelled
    model = make_pipeline(ModuleFeaturizer(module), StandardScaler(), RidgeCV())
    assert model.fit(X, y).score(X, y) > 0.9
    assert np.isfinite(cross_val_score(model, X, y, cv=3)).all()


@pytest.mark.filterwarnings(
    "ignore:A worker stopped while some jobs:UserWarning"
)  # as an error in its thread, it would hang
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_search_over_modules(n_jobs, module, labelled, tmp_path):
    X, y = labelled
    module.save(tmp_path / "first")
    train(labelled, "second", 1).save(tmp_path / "second")
    names = [tmp_path / "first", str(tmp_path / "second")]
    pipeline = make_pipeline(ModuleFeaturizer(None), Ridge(1e-3))
    search = GridSearchCV(pipeline, {"modulefeaturizer__module": names}, cv=3, n_jobs=n_jobs).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] != scores[1]
    assert search.best_params_["modulefeaturizer__module"] == names[scores.argmax()]


def test_graphs_are_kept_in_a_folder(module, labelled, tmp_path):
    PROCESS_CACHE.clear()
    ModuleFeaturizer(module, memory=tmp_path / "graphs").transform(labelled[0])
    assert any((tmp_path / "graphs").iterdir())


def test_module_is_not_changed(module, labelled):
    before = {name: value.clone() for name, value in module.weights.items()}
    ModuleFeaturizer(module).fit(*labelled).transform(labelled[0])
    assert all((before[name] == module.weights[name]).all() for name in before)


def test_unknown_module_is_named_when_it_is_needed(labelled):
    featurizer = ModuleFeaturizer("bundled:emt-efrom").fit(labelled[0])
    with pytest.raises(UnknownNameError, match=re.escape("Did you mean 'emt-eform'?")):
        featurizer.transform(labelled[0])


def test_unknown_elements_are_named(module, Cu):
    lawrencium = Structure(Lattice.cubic(3.0), ["Lr"], [[0, 0, 0]])
    with pytest.raises(UnsupportedElementError, match=re.escape("X[1]")):
        ModuleFeaturizer(module).transform([Cu, lawrencium])


def test_bundled_module_is_a_default_to_start_from(labelled):
    X, _ = labelled
    features = ModuleFeaturizer("bundled:emt-eform").transform(X)
    np.testing.assert_array_equal(features, load_module("bundled:emt-eform").features(X))


def test_identity_is_that_of_the_weights(module, labelled, tmp_path):
    module.save(tmp_path / "moved")
    assert ModuleFeaturizer(tmp_path / "moved").identity() == ModuleFeaturizer(module).identity()
    assert ModuleFeaturizer(train(labelled, "tiny", 1)).identity() != ModuleFeaturizer(module).identity()
