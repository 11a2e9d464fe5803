"""The layers of ALIGNN, computed block by block, against the same formulas written out."""

import pytest
import torch
from torch import nn
from torch.nn.functional import silu

from matmosaic.backbones import alignn_kernels
from matmosaic.backbones.alignn_kernels import Links
from matmosaic.backbones.alignn_layers import DenseBlock, EdgeGatedConvolution, RadialBasis

WIDTH, N_NODES, N_LINKS = 5, 7, 40


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of three rows, the last one shorter."""
    monkeypatch.setattr(alignn_kernels, "BLOCK", 3 * WIDTH)
    assert N_LINKS % 3


@pytest.fixture
def graph(float64):
    """Random links with multiplicities, in no order; one node receives nothing."""
    index = torch.stack([torch.randint(0, N_NODES, (N_LINKS,)), torch.randint(1, N_NODES, (N_LINKS,))])
    places = torch.randint(1, 4, (N_NODES,)).double()
    return Links.between(places, index, torch.randint(1, 4, (N_LINKS,)).double()), places


@pytest.fixture
def features(float64):
    return torch.randn(N_NODES, WIDTH, requires_grad=True), torch.randn(N_LINKS, WIDTH, requires_grad=True)


@pytest.fixture
def layer(float64):
    layer = EdgeGatedConvolution(WIDTH)
    for norm in (layer.link_norm, layer.node_norm):
        scatter(norm)
    return layer


def scatter(norm):
    """Move a normalisation away from where it starts."""
    for values in (norm.weight, norm.bias, norm.running_mean):
        values.data += torch.randn_like(values)
    norm.running_var += torch.rand_like(norm.running_var)


def normalised(norm, x, places):
    if not norm.training:
        mean, variance = norm.running_mean, norm.running_var
    else:
        share = places / places.sum()
        mean = share @ x
        variance = share @ (x - mean) ** 2
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def plain(layer, nodes, node_places, links, graph):
    """The convolution as its formulas say."""
    source, target, weight, places = graph
    gates = layer.source_gate(nodes)[source] + layer.target_gate(nodes)[target] + layer.link_gate(links)
    opened = gates.sigmoid() * weight[:, None]
    zeros = torch.zeros_like(nodes)
    total = zeros.index_add(0, target, opened * layer.message(nodes)[source])
    mean = total / (zeros.index_add(0, target, opened) + 1e-6)
    update = normalised(layer.node_norm, layer.own(nodes) + mean, node_places)
    return nodes + silu(update), links + silu(normalised(layer.link_norm, gates, places))


def gradients(module, inputs, outputs):
    """Gradients of inputs and parameters from random ones of the outputs; zeros where there is none."""
    generator = torch.Generator().manual_seed(1)
    pairs = [(one, torch.randn(one.shape, generator=generator)) for one in outputs]
    outputs, grads = zip(*((one, grad) for one, grad in pairs if one.requires_grad), strict=True)
    wanted = dict(enumerate(inputs)) | dict(module.named_parameters())
    wanted = {name: one for name, one in wanted.items() if one.requires_grad}
    found = torch.autograd.grad(outputs, list(wanted.values()), grads, allow_unused=True)
    named = zip(wanted.items(), found, strict=True)
    return {name: torch.zeros_like(one) if grad is None else grad for (name, one), grad in named}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("last", [False, True], ids=["inner", "last"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_convolution_is_its_formula(layer, graph, features, training, last):
    links, places = graph
    layer.train(training)
    found = [one for one in layer(features[0], places, features[1], links, last=last) if one is not None]
    expected = plain(layer, features[0], places, features[1], links)[: 1 if last else 2]
    assert len(found) == len(expected)
    torch.testing.assert_close(found, list(expected), rtol=1e-10, atol=1e-10)
    assert_same(gradients(layer, features, found), gradients(layer, features, expected))


@pytest.mark.parametrize("trained", ["link_gate", "message", "source_gate.bias", "link_norm", "node_norm"])
def test_gradients_where_little_is_trained(layer, graph, features, trained):
    links, places = graph
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
    nodes, bonds = (one.detach() for one in features)
    for training in (True, False):
        layer.train(training)
        found = layer(nodes, places, bonds, links)
        expected = plain(layer, nodes, places, bonds, links)
        assert_same(gradients(layer, (nodes, bonds), found), gradients(layer, (nodes, bonds), expected))


def test_normalisation_by_constants_between_trained_layers(layer, graph, features):
    """As where `three_body` is frozen: constants in evaluation mode, and gradients that pass through."""
    links, places = graph
    layer.train()
    layer.link_norm.eval()
    found, expected = (run(layer, links, places, features) for run in (convolve, written_out))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert_same(gradients(layer, features, found), gradients(layer, features, expected))


def convolve(layer, links, places, features):
    return layer(features[0], places, features[1], links)


def written_out(layer, links, places, features):
    return plain(layer, features[0], places, features[1], links)


def test_running_statistics_are_those_of_pytorch(layer, graph, features):
    links, places = graph
    layer.train()
    inputs = {}
    layer.node_norm.register_forward_pre_hook(lambda _, given: inputs.update(node=given[0]))
    reference = {}
    gates = (
        layer.source_gate(features[0])[links.source]
        + layer.target_gate(features[0])[links.target]
        + layer.link_gate(features[1])
    )
    for name, norm in (("link", layer.link_norm), ("node", layer.node_norm)):
        reference[name] = nn.BatchNorm1d(WIDTH)
        reference[name].load_state_dict(norm.state_dict())
    layer(features[0], places, features[1], links)
    reference["link"](gates.repeat_interleave(links.places.long(), dim=0))
    reference["node"](inputs["node"].repeat_interleave(places.long(), dim=0))
    for name, norm in (("link", layer.link_norm), ("node", layer.node_norm)):
        assert_same(norm.state_dict(), reference[name].state_dict())


def test_weights_stand_for_equal_links(layer, features):
    """Merged by hand: each node once for its twins, each link once for its equals, in training."""
    twins, equals = torch.tensor([2, 1, 3]), torch.tensor([1, 2, 1, 3])
    nodes, links = torch.randn(3, WIDTH), torch.randn(4, WIDTH)
    index = torch.tensor([[0, 1, 2, 0], [1, 0, 2, 2]])
    merged = Links.between(twins.double(), index, equals.double())
    layer.train()
    few = layer(nodes, twins.double(), links, merged)

    # Node i becomes twins[i] nodes, each of which gets all the links of i; any twin may send.
    first = twins.cumsum(0) - twins
    rows = [
        (link, int(first[source]), int(first[target]) + twin)
        for link, (source, target) in enumerate(index.t().tolist())
        for twin in range(int(twins[target]))
        for _ in range(int(equals[link]))
    ]
    link, source, target = torch.tensor(rows).t()
    ones = torch.ones(int(twins.sum()))
    whole = Links.between(ones, torch.stack([source, target]), torch.ones(len(rows)))
    all_nodes = nodes.repeat_interleave(twins, dim=0)
    many = layer(all_nodes, ones, links[link], whole)
    torch.testing.assert_close(few[0].repeat_interleave(twins, dim=0), many[0], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(few[1][link], many[1], rtol=1e-10, atol=1e-10)


def test_graph_without_links(layer, features):
    layer.train()
    state = {name: value.clone() for name, value in layer.link_norm.state_dict().items()}
    none = Links.between(torch.ones(N_NODES), torch.zeros(2, 0, dtype=torch.long), torch.zeros(0))
    nodes, links = layer(features[0], torch.ones(N_NODES), torch.zeros(0, WIDTH), none)
    (nodes.sum() + links.sum()).backward()
    update = normalised(layer.node_norm, layer.own(features[0]), torch.ones(N_NODES))
    torch.testing.assert_close(nodes, features[0] + silu(update))
    assert links.shape == (0, WIDTH)
    assert all(torch.equal(value, state[name]) for name, value in layer.link_norm.state_dict().items())
    assert all(
        parameter.grad.isfinite().all() for parameter in layer.own.parameters() if parameter.grad is not None
    )


def test_without_gradients_nothing_else_comes_out(layer, graph, features):
    links, places = graph
    for training in (True, False):
        layer.train(training)
        expected = layer(features[0], places, features[1], links)
        before = [one.detach().clone() for one in features]
        with torch.no_grad():
            found = layer(features[0], places, features[1], links)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert all(torch.equal(one, two) for one, two in zip(features, before, strict=True))


def test_gradient_is_computed_once(layer, graph, features):
    links, places = graph
    total = layer(features[0], places, features[1], links)[1].sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="can be computed once"):
        total.backward()


def test_bias_of_messages_has_more_than_rounding_errors(layer, graph, features):
    """In single precision the sum of its gradient's terms, which cancel, would be noise."""
    links, places = graph
    target = torch.arange(N_LINKS) % N_NODES  # each node receives something
    index = torch.stack([links.source, target])

    def gradient(dtype):
        layer.to(dtype).train()
        nodes, bonds = (one.detach().to(dtype) for one in features)
        cast = Links.between(places.to(dtype), index, links.weight.to(dtype))
        result = layer(nodes, places.to(dtype), bonds, cast)[0]
        return torch.autograd.grad(result.square().sum(), layer.message.bias)[0].double()

    exact = gradient(torch.float64)
    assert 0 < exact.abs().max() < 1e-4
    torch.testing.assert_close(gradient(torch.float32), exact, rtol=1e-3, atol=0)


# --- dense blocks and Gaussians -------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_dense_block_is_linear_normalisation_and_silu(float64, training):
    block = DenseBlock(4, WIDTH).train(training)
    scatter(block.norm)
    reference = nn.Sequential(nn.Linear(4, WIDTH), nn.BatchNorm1d(WIDTH), nn.SiLU()).train(training)
    reference[0].load_state_dict(block.linear.state_dict())
    reference[1].load_state_dict(block.norm.state_dict())
    x, places = torch.randn(10, 4, requires_grad=True), torch.randint(1, 4, (10,))
    found, expected = block(x, places.double()), reference(x.repeat_interleave(places, dim=0))
    torch.testing.assert_close(found.repeat_interleave(places, dim=0), expected, rtol=1e-10, atol=1e-10)
    assert_same(block.norm.state_dict(), reference[1].state_dict())
    renamed = {"0.": "linear.", "1.": "norm."}
    loss = gradients(reference, [x], [(expected**3).sum()])
    loss = {
        renamed.get(str(key)[:2], "") + str(key)[2:] if key != 0 else 0: value for key, value in loss.items()
    }
    weighted = (found**3 * places[:, None]).sum()
    assert_same(gradients(block, [x], [weighted]), loss)


def test_gaussians_are_divided_by_the_spacing():
    basis = RadialBasis(-1.0, 1.0, 5)
    found = basis(torch.tensor([-1.0, 0.25]))
    expected = [
        [torch.exp(torch.tensor(-((d - m) ** 2) / 0.5)) for m in (-1, -0.5, 0, 0.5, 1)] for d in (-1, 0.25)
    ]
    torch.testing.assert_close(found, torch.tensor(expected))
