import re

import numpy as np
import pytest
from matmosaic_matminer import MatminerFeaturizer, composition
from matmosaic_matminer.crystal import Crystal
from matmosaic_matminer.presets import PRESETS
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from matmosaic.exceptions import UndefinedFeaturesWarning, UnknownNameError
from matmosaic.featurizers import cache as feature_cache
from matmosaic.featurizers import computing, featurizer_reference, load_featurizer
from matmosaic.featurizers.notes import collect_gaps
from matmosaic.structures.caching import MemoryCache
from matmosaic.testing import check_featurizer


@pytest.mark.parametrize("preset", ["composition", "structure"])
def test_keeps_the_contract(preset):
    check_featurizer(MatminerFeaturizer(preset), supercell=True)


@pytest.mark.slow
def test_full_preset_keeps_the_contract():
    check_featurizer(MatminerFeaturizer("full"), supercell=True, tolerance=1e-5)


@pytest.mark.parametrize(
    "preset", ["bonds", "composition", "fast", "full", "layers", "structure", "symmetry"]
)
def test_reference(preset):
    featurizer = load_featurizer(f"featurizer:matminer-{preset}")
    assert featurizer.preset == preset
    assert featurizer_reference(featurizer) == f"featurizer:matminer-{preset}"


def test_names_differ_and_have_units():
    for preset in PRESETS:
        names = MatminerFeaturizer(preset).get_feature_names_out()
        assert len({*names}) == len(names)
        assert all(re.fullmatch(r".*\S \([^()]+(\([^()]+\))?\)", name) for name in names)


def test_each_feature_has_a_group():
    for preset in PRESETS:
        featurizer = MatminerFeaturizer(preset)
        groups = featurizer.get_feature_groups_out()
        assert len(groups) == len(featurizer.get_feature_names_out())
    assert {*MatminerFeaturizer("composition").get_feature_groups_out()} == {"composition"}


def test_identity_changes_with_the_version_of_the_preset(monkeypatch):
    before = MatminerFeaturizer("composition").identity()
    changed = type(PRESETS["composition"])("1+", ("composition",))
    monkeypatch.setitem(PRESETS, "composition", changed)
    assert MatminerFeaturizer("composition").identity() != before


def test_unknown_preset():
    with pytest.raises(UnknownNameError, match="Unknown preset 'fats'. Did you mean 'fast'?"):
        MatminerFeaturizer("fats").get_feature_names_out()


def test_a_descriptor_that_fails_is_nan_alone(monkeypatch, symmetric):
    fast = MatminerFeaturizer("composition")
    expected = fast.featurize(symmetric[0])
    known = composition.elements.element_row

    def broken(symbol, properties):
        raise KeyError("no data")

    monkeypatch.setattr(composition.elements, "element_row", broken)
    with collect_gaps() as reasons:
        found = fast.featurize(symmetric[0])
    width = len(composition.ELEMENT_PROPERTY.names)
    assert known is not broken
    assert np.isnan(found[:width]).all()
    np.testing.assert_array_equal(found[width:], expected[width:])
    assert reasons == ["ElementProperty: KeyError: 'no data'"]


def test_an_element_without_data_is_nan_and_counted(symmetric):
    from pymatgen.core import Lattice, Structure

    rare = Structure(Lattice.cubic(5.0), ["Og"], [[0, 0, 0]])
    with pytest.warns(UndefinedFeaturesWarning, match="of 1 of 2 rows undefined"):
        features = MatminerFeaturizer("composition").transform([symmetric[0], rare])
    names = MatminerFeaturizer("composition").get_feature_names_out()
    assert not np.isnan(features[0]).any()
    assert np.isnan(features[1, [*names].index("MagpieData mean MeltingT (K)")])
    assert features[1, [*names].index("0-norm (dimensionless)")] == 1


def test_the_reason_names_the_element_without_data():
    from pymatgen.core import Lattice, Structure

    oxide = Structure(Lattice.cubic(4.5), ["Og", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with collect_gaps() as reasons:
        MatminerFeaturizer("fast").featurize(oxide)
    assert {"BandCenter: no data for Og", "Dimensionality: no data for Og"} < {*reasons}
    assert all("no data for" in reason for reason in reasons)


def test_a_molecule_has_a_composition_alone():
    from pymatgen.core import Molecule

    water = Molecule(["O", "H", "H"], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    featurizer = MatminerFeaturizer("fast")
    features, groups = featurizer.featurize(water), featurizer.get_feature_groups_out()
    assert not np.isnan(features[groups == "composition"]).any()
    assert np.isnan(features[groups != "composition"]).all()


def test_warnings_of_libraries_are_silent_and_filters_stay(symmetric, recwarn):
    import warnings

    before = [*warnings.filters]
    MatminerFeaturizer("full").featurize(symmetric[1])
    assert not recwarn.list
    assert warnings.filters == before


def test_oxidation_states_do_not_count(symmetric):
    charged = symmetric[0].copy()
    charged.add_oxidation_state_by_element({"Ti": 4, "O": -2})
    featurizer = MatminerFeaturizer("fast")
    np.testing.assert_allclose(featurizer.featurize(charged), featurizer.featurize(symmetric[0]))


# --- processes -------------------------------------------------------------------------------------------


@pytest.fixture
def in_processes(monkeypatch):
    """Start processes for the least work, and forget what is known."""
    monkeypatch.setattr(computing, "WORTH_SECONDS", 0.0)
    monkeypatch.setattr(feature_cache, "PROCESS_CACHE", MemoryCache())


def test_two_jobs_give_what_one_gives(in_processes, symmetric, displaced):
    crystals = [*symmetric, *displaced]
    featurizer = MatminerFeaturizer("structure", n_jobs=2)
    expected = [featurizer.featurize(crystal) for crystal in crystals]
    np.testing.assert_array_equal(featurizer.transform(crystals), expected)


@pytest.mark.filterwarnings("ignore::matmosaic.exceptions.UndefinedFeaturesWarning")
def test_a_search_in_processes_ends(in_processes, symmetric, displaced):
    crystals = [*symmetric, *displaced]
    model = make_pipeline(MatminerFeaturizer("composition", n_jobs=2), SimpleImputer(), Ridge())
    search = GridSearchCV(model, {"ridge__alpha": [0.1, 1.0]}, cv=2, n_jobs=2, error_score="raise")
    search.fit(crystals, np.arange(len(crystals), dtype=float))
    assert np.isfinite(search.predict(crystals)).all()


def test_a_second_transform_computes_nothing(monkeypatch, symmetric):
    featurizer = MatminerFeaturizer("composition")
    expected = featurizer.transform(symmetric[:2])
    monkeypatch.setattr(Crystal, "__init__", None)
    np.testing.assert_array_equal(featurizer.transform(symmetric[:2]), expected)
