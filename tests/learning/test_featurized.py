"""Featurizers as experts: numbers of training rows, NaN, and tables without graphs."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from matmosaic.backbones import trunk_depth
from matmosaic.exceptions import ConstantFeaturesWarning, UndefinedFeaturesWarning
from matmosaic.featurizers import Featurizer
from matmosaic.learning.featurized import LARGEST, FeatureExpert, Standardise, without_graphs


class Atoms(Featurizer):
    """Sizes of a cell, one of which some structures lack."""

    def featurize(self, structure):
        numbers = [site.specie.Z for site in structure]
        return np.array([len(structure), max(numbers), structure.volume if len(structure) > 2 else np.nan])

    def get_feature_names_out(self, input_features=None):
        return np.array(["atoms", "heaviest", "volume (angstrom^3)"], dtype=object)


def tensor(values):
    return torch.tensor(np.array(values, dtype=float), dtype=torch.float32)


def fitted(values, weight=None):
    stage = Standardise(values.shape[1])
    stage.fit(tensor(values), tensor(np.ones(len(values)) if weight is None else weight))
    return stage


def test_mean_and_spread_are_those_of_the_weighted_rows(rng):
    values, weight = rng.normal(3, 2, (40, 3)), rng.uniform(size=40)
    mean = np.average(values, axis=0, weights=weight)
    std = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weight))
    got = fitted(values, weight).apply_to(tensor(values))
    np.testing.assert_allclose(got, (values - mean) / std, atol=1e-5)


def test_undefined_numbers_count_for_nothing_and_become_the_mean(rng):
    values = rng.normal(3, 2, (20, 2))
    values[4:9, 0] = np.nan
    values[0, 0] = np.inf
    there = np.isfinite(values[:, 0])
    got = fitted(values).apply_to(tensor(values)).numpy()
    expected = (values[there, 0] - values[there, 0].mean()) / values[there, 0].std()
    np.testing.assert_allclose(got[there, 0], expected, atol=1e-5)
    assert (got[~there, 0] == 0).all()


def test_rows_of_no_weight_count_for_nothing(rng):
    values = rng.normal(size=(9, 2))
    weight = np.r_[np.ones(6), np.zeros(3)]
    values[6:] = [1e30, np.nan]
    half = fitted(values[:6])
    got = fitted(values, weight)
    torch.testing.assert_close(dict(got.named_buffers()), dict(half.named_buffers()))


@pytest.mark.parametrize(
    "column", [[np.nan] * 4, [7.0] * 4, [1e6, 1e6, 1e6, 1e6 + 0.1], [5.0] + [np.nan] * 3]
)
def test_column_that_says_nothing_is_zero_wherever_it_is_asked(column):
    stage = fitted(np.array(column)[:, None])
    assert stage.apply_to(tensor([[np.nan], [7.0], [-1e9], [np.inf]])).tolist() == [[0.0]] * 4


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_units_do_not_matter(unit, rng):
    """Columns of very different size lie side by side: volumes beside packing fractions."""
    values = rng.normal(size=(30, 2))
    expected = fitted(values).apply_to(tensor(values))[:, 0]
    values[:, 0] *= unit
    got = fitted(values).apply_to(tensor(values))[:, 0]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_rows_far_outside_are_cut_off(rng):
    stage = fitted(rng.normal(size=(30, 1)))
    assert stage.apply_to(tensor([[1e30], [-1e30]])).tolist() == [[LARGEST], [-LARGEST]]


def test_expert_reads_no_graph_and_trains_nothing(strained):
    expert = FeatureExpert(Atoms())
    raw = expert.raw_features(strained)
    assert (expert.n_features, trunk_depth(expert), list(expert.parameters())) == (3, 0, [])
    assert raw.dtype == torch.get_default_dtype()
    with pytest.warns(ConstantFeaturesWarning):  # all are of two atoms
        expert.fit(raw, torch.ones(len(raw)))
    features = expert(Data(u=raw)).u
    np.testing.assert_array_equal(expert.features(strained), features)
    assert torch.isfinite(features).all()
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(3))


def test_single_gaps_are_logged_and_rows_without_features_are_warned_of(strained, Si, caplog):
    class Silent(Atoms):
        def __init__(self, size=1):
            self.size = size

        def featurize(self, structure):
            numbers = super().featurize(structure)
            return np.full(3, np.nan) if numbers[1] == 14 else numbers

    caplog.set_level("INFO", logger="matmosaic.learning")
    expert = FeatureExpert(Silent(size=2))
    expert.raw_features(strained[:4])
    lacking = sum(len(one) <= 2 for one in strained[:4])
    assert f"Silent: features of {lacking} of 4 rows are undefined" in caplog.text
    message = r"Silent describes 1 of 2 rows not at all: X\[1\]. .* Silent\(size=2\).transform\(X\) says why"
    with pytest.warns(UndefinedFeaturesWarning, match=message):
        assert torch.isnan(expert.raw_features([strained[0], Si])[1]).all()


def test_numbers_that_single_precision_cannot_hold_are_undefined():
    class Huge(Atoms):
        def transform(self, X):
            return np.array([[1e300, 1.0, -np.inf]])

    assert FeatureExpert(Huge()).features([None]).tolist() == [[0.0, 1.0, 0.0]]


def test_table_without_graphs_hands_out_rows():
    table = without_graphs(5)
    batch = table.select([3, 1])
    assert (len(table), table.n_atoms, batch.num_graphs) == (5, 0, 2)
    assert table.at([3, 1]).gather("u", torch.arange(5.0)).tolist() == [3.0, 1.0]
    assert len(table.to("cpu")[1:]) == 4


def test_expert_whose_features_are_constant_is_warned_of():
    expert = FeatureExpert(Atoms())
    with pytest.warns(
        ConstantFeaturesWarning, match="No feature of Atoms differs between the 4 training rows"
    ):
        expert.fit(tensor([[2, 29, np.nan]] * 4), torch.ones(4))
