"""Each aggregation against numpy, written out."""

import numpy as np
import pytest
import torch

from matmosaic.learning.aggregation import (
    AGGREGATIONS,
    AddFeatures,
    ConcatFeatures,
    EnsembleHeads,
)

WIDTHS = [3, 3, 3]
ACTIVE = [0, 2]
WEIGHTS = torch.tensor([0.25, 0.75])


@pytest.fixture
def features(rng):
    """Of experts 0 and 2, for five structures."""
    return [torch.tensor(rng.normal(size=(5, 3)), dtype=torch.float32) for _ in ACTIVE]


def dense(layer, values):
    return values @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def head(mlp, values):
    """A head of one hidden layer; softplus(a) = log(1 + exp(a))."""
    values = (values - mlp.scale.mean.numpy()) / mlp.scale.std.numpy()
    return dense(mlp.layers[1], np.log1p(np.exp(dense(mlp.layers[0], values))))


def assert_equal(got, expected):
    np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_add_mixes_before_its_one_head(features):
    add = AddFeatures(WIDTHS, (4,))
    mixed = 0.25 * features[0].numpy() + 0.75 * features[1].numpy()
    assert_equal(add.mixed(features, WEIGHTS, ACTIVE), mixed)
    assert_equal(add(features, WEIGHTS, ACTIVE), head(add.head, mixed))


def test_only_what_has_a_width_to_go_to_is_mapped(rng):
    add = AddFeatures([3, 9, 5], (4,), [5, 5, None])
    given = [torch.tensor(rng.normal(size=(6, width)), dtype=torch.float32) for width in (3, 9, 5)]
    first, second, third = add.projections
    expected = [dense(first, given[0].numpy()), dense(second, given[1].numpy()), given[2].numpy()]
    assert_equal(
        add.mixed(given, torch.tensor([0.5, 0.25, 0.25]), [0, 1, 2]),
        np.dot([0.5, 0.25, 0.25], np.stack(expected).reshape(3, -1)).reshape(6, 5),
    )
    assert not list(third.parameters())
    chosen = [given[0], given[2]]
    assert_equal(add.mixed(chosen, WEIGHTS, [0, 2]), 0.25 * expected[0] + 0.75 * expected[2])


@pytest.mark.parametrize("aggregation", AGGREGATIONS.values(), ids=AGGREGATIONS)
def test_every_aggregation_maps(aggregation, rng):
    part = aggregation([3, 9], (4,), [None, 3])
    given = [torch.tensor(rng.normal(size=(6, width)), dtype=torch.float32) for width in (3, 9)]
    part.fit_scales(given, torch.ones(6))
    assert [one.shape for one in part.prepared(given, [0, 1])] == [(6, 3), (6, 3)]
    assert part(given, torch.tensor([0.5, 0.5]), [0, 1]).shape == (6, 1)


def test_concat_puts_zeros_where_no_expert_is_active(features):
    concat = ConcatFeatures([3, 2, 3], (4,))
    seen = []
    concat.head.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    out = concat(features, WEIGHTS, ACTIVE)
    beside = np.hstack([0.25 * features[0].numpy(), np.zeros((5, 2)), 0.75 * features[1].numpy()])
    assert_equal(seen[0], beside)
    assert_equal(out, head(concat.head, beside))


def test_ensemble_averages_the_predictions_of_own_heads(features):
    ensemble = EnsembleHeads(WIDTHS, (4,))
    first = head(ensemble.heads[0], features[0].numpy())
    last = head(ensemble.heads[2], features[1].numpy())
    assert_equal(ensemble(features, WEIGHTS, ACTIVE), 0.25 * first + 0.75 * last)


def moments(values, weight):
    mean = np.average(values, axis=0, weights=weight)
    return mean, np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weight))


def test_scales_are_those_of_the_weighted_rows(rng):
    values = rng.normal(3, 2, (40, 3)).astype(np.float32)
    weight = rng.uniform(size=40).astype(np.float32)
    concat = ConcatFeatures([3], ())
    concat.fit_scales([torch.tensor(values)], torch.tensor(weight))
    mean, std = moments(values, weight)
    assert_equal(concat.prepared([torch.tensor(values)], [0])[0], (values - mean) / std)


def test_add_sees_an_even_sum_of_unit_spread(rng):
    """The sum of several unit features varies less than each; the head's own scale makes up for it."""
    features = [torch.tensor(rng.normal(3, 2, (40, 3)), dtype=torch.float32) for _ in range(4)]
    add = AddFeatures([3] * 4, ())
    add.fit_scales(features, torch.ones(40))
    seen = []
    add.head.layers[0].register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    add(features, torch.full((4,), 0.25), [0, 1, 2, 3])
    assert_equal(seen[0].mean(dim=0), np.zeros(3))
    assert_equal(seen[0].std(dim=0, unbiased=False), np.ones(3))


@pytest.mark.parametrize("aggregation", AGGREGATIONS.values(), ids=AGGREGATIONS)
def test_scales_are_off_until_fitted_and_never_trained(aggregation, features):
    part = aggregation(WIDTHS, (4,))
    assert all(torch.equal(*pair) for pair in zip(part.prepared(features, ACTIVE), features, strict=True))
    assert not [name for name, _ in part.named_parameters() if "scale" in name]
    assert any("scale" in name for name in part.state_dict())  # but they are saved


@pytest.mark.parametrize("aggregation", AGGREGATIONS.values(), ids=AGGREGATIONS)
def test_gate_gets_a_gradient(aggregation, features):
    weights = WEIGHTS.clone().requires_grad_()
    aggregation(WIDTHS, (4,))(features, weights, ACTIVE).sum().backward()
    assert (weights.grad != 0).all()
