import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn.functional import sigmoid, softplus

from matmosaic.backbones import MLP, GaussianExpansion, WeightedBatchNorm, weighted_mean, weighted_sum
from matmosaic.backbones.layers import FeatureScale, _WeightedNormalise, affine_map, gated_message


def randomised(norm):
    """Give a batch normalisation other parameters than those it starts from."""
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    return norm


def test_gradients_of_weighted_normalisation(float64):
    x = torch.randn(7, 3, requires_grad=True)
    scale, shift = torch.rand(3, requires_grad=True), torch.randn(3, requires_grad=True)
    share = torch.rand(7)
    share /= share.sum()

    def normalise(x, scale, shift):
        return _WeightedNormalise.apply(x, share, scale, shift, 1e-5)[0]

    assert gradcheck(normalise, (x, scale, shift))


def test_gradients_of_gated_message(float64):
    assert gradcheck(gated_message, (torch.randn(5, 6, requires_grad=True),))


def test_gated_message_is_its_equation(float64):
    gates = 30 * torch.randn(50, 8)  # far into both tails
    gates.requires_grad_()
    choice, value = gates.chunk(2, dim=1)
    expected = sigmoid(choice) * softplus(value)
    torch.testing.assert_close(gated_message(gates), expected, rtol=1e-12, atol=0)
    weights = torch.randn(50, 4)
    (grad,) = torch.autograd.grad((expected * weights).sum(), gates)
    (ours,) = torch.autograd.grad((gated_message(gates) * weights).sum(), gates)
    torch.testing.assert_close(ours, grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_message_of_a_norm_is_that_of_its_rows(float64, training):
    twice = [randomised(WeightedBatchNorm(6)).train(training) for _ in range(2)]
    twice[1].load_state_dict(twice[0].state_dict())
    x, weight, upstream = 2 + 3 * torch.randn(9, 6), torch.rand(9), torch.randn(9, 3)
    results = []
    for norm, message in zip(
        twice, [twice[0].message, lambda *rows: gated_message(twice[1](*rows))], strict=True
    ):
        rows = x.clone().requires_grad_()
        result = message(rows, weight)
        grads = torch.autograd.grad((result * upstream).sum(), [rows, norm.weight, norm.bias])
        results.append([result, *grads, norm.running_mean, norm.running_var])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("momentum", [0.1, None], ids=["exponential", "cumulative"])
@pytest.mark.parametrize("integer", [False, True], ids=["unit weights", "repeated rows"])
def test_weighted_batch_norm_is_pytorchs_on_all_rows(float64, integer, momentum):
    ours = randomised(WeightedBatchNorm(4, momentum=momentum))
    theirs = nn.BatchNorm1d(4, momentum=momentum)
    theirs.load_state_dict(ours.state_dict())
    for _ in range(3):
        counts = torch.randint(1, 5, (9,)) if integer else torch.ones(9, dtype=torch.long)
        x = (3 + 2 * torch.randn(9, 4)).requires_grad_()
        expanded = x.detach().repeat_interleave(counts, dim=0).requires_grad_()
        row = torch.arange(9).repeat_interleave(counts)
        upstream = torch.randn(9, 4)
        y, z = ours(x, counts.double()), theirs(expanded)
        torch.testing.assert_close(y[row], z, rtol=0, atol=1e-12)
        (y * upstream * counts[:, None]).sum().backward()
        (z * upstream[row]).sum().backward()
        summed = torch.zeros(9, 4).index_add(0, row, expanded.grad)
        torch.testing.assert_close(x.grad, summed, rtol=0, atol=1e-12)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=1e-12)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, rtol=0, atol=1e-11)
    ours.eval()
    theirs.eval()
    torch.testing.assert_close(ours(x, torch.rand(9)), theirs(x), rtol=0, atol=1e-12)


def test_evaluation_is_an_affine_map(float64):
    norm = randomised(WeightedBatchNorm(3))
    norm(2 + torch.randn(20, 3), torch.rand(20))
    factor, offset = affine_map(norm)
    x = torch.randn(5, 3)
    torch.testing.assert_close(x * factor + offset, norm.eval()(x, torch.ones(5)), rtol=0, atol=1e-13)


def test_evaluation_does_not_move_running_statistics():
    norm = WeightedBatchNorm(2).eval()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm(torch.randn(5, 2), torch.ones(5))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_batch_of_one_row_stays_finite():
    norm = WeightedBatchNorm(2)
    assert norm(torch.randn(1, 2), torch.ones(1)).isfinite().all()
    assert norm.running_var.isfinite().all()


def test_large_mean_keeps_its_variance():
    """The variance is that of centred values: no cancellation in single precision."""
    x = 1e4 + torch.randn(1000, 1)
    y = WeightedBatchNorm(1)(x, torch.ones(1000))
    assert y.std().item() == pytest.approx(1.0, abs=0.01)


def test_weighted_sums_and_means(float64):
    values, weight = torch.randn(6, 2), torch.tensor([1.0, 2, 3, 1, 1, 2])
    index = torch.tensor([0, 0, 2, 2, 2, 1])
    dense = torch.zeros(3, 6)
    dense[index, torch.arange(6)] = weight
    torch.testing.assert_close(weighted_sum(values, weight, index, 3), dense @ values)
    torch.testing.assert_close(
        weighted_mean(values, weight, index, 3), (dense @ values) / dense.sum(1, keepdim=True)
    )
    assert weighted_sum(values, weight, index, 5)[3:].eq(0).all()


def test_gaussian_expansion(float64):
    expansion = GaussianExpansion(8.0, 0.2)
    assert expansion.n_features == 41
    distance = torch.tensor([0.0, 1.0, 7.93, 9.0])
    expected = torch.stack([torch.exp(-((distance - 0.2 * k) ** 2) / 0.04) for k in range(41)], dim=1)
    torch.testing.assert_close(expansion(distance), expected, rtol=0, atol=1e-12)
    assert repr(expansion) == "GaussianExpansion(stop=8, step=0.2)"
    assert expansion.state_dict() == {}


def test_head_without_hidden_layers_is_linear(float64):
    head = MLP(3, (), 2)
    x = torch.randn(4, 3)
    torch.testing.assert_close(head(x), head.layers[0](x))
    assert len(head.layers) == 1


def test_head_is_its_layers(float64):
    head = MLP(**MLP(3, (5, 4)).options())
    x = torch.randn(4, 3)
    expected = head.layers[2](softplus(head.layers[1](softplus(head.layers[0](x)))))
    torch.testing.assert_close(head(x), expected)
    assert head.options() == {"n_in": 3, "widths": [5, 4], "n_out": 1}


def test_spreads_that_are_rounding_alone_are_not_scaled_up(rng):
    """The widest spread may be rounding, too."""
    mean = torch.tensor([3.0, -0.01, 1.0])
    values = mean + 1e-7 * torch.as_tensor(rng.normal(size=(50, 3)), dtype=torch.float32)
    scale = FeatureScale(3)
    scale.fit(values, torch.ones(50))
    assert scale.std.tolist() == [1.0, 1.0, 1.0]
    assert scale(values).abs().max() < 1e-5


def test_spreads_of_features_are_scaled_to_one(rng):
    values = torch.as_tensor(rng.normal(size=(50, 3)), dtype=torch.float32) * torch.tensor([1.0, 1e-3, 1e-7])
    scale = FeatureScale(3)
    scale.fit(values + 1.0, torch.ones(50))
    assert (scale.std != 1).tolist() == [True, True, False]
