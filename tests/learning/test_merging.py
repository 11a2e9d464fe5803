"""Means of modules: what may be averaged, what comes out, and the statistics of batch normalisation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from matmosaic.backbones import MLP, insert_adapters, make_table
from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.exceptions import ArchitectureMismatchError
from matmosaic.graphs import GraphSettings
from matmosaic.learning import TableDataset
from matmosaic.learning.merging import check_mergeable, merge_modules, reestimate_statistics
from matmosaic.modules import ModuleCard, PretrainedModule, TrainingFingerprints

NETWORK = {"width": 8, "n_convolutions": 2}


def network(seed, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = CGCNN(**(NETWORK | options))
    for name, values in backbone.named_buffers():
        if "running" in name or "num_batches" in name:
            values.copy_(torch.linspace(0.5, 1.5, len(values)) + seed if values.dim() else torch.tensor(seed))
    return backbone.eval()


def pack(name, backbone, head=None, **card):
    about = {
        "name": name,
        "backbone": "cgcnn",
        "backbone_options": backbone.options(),
        "graph": backbone.graph_settings.to_dict(),
        "atom_table": backbone.atom_table,
        "target": f"{name} energy",
        "unit": "eV",
        "head": None if head is None else head.options(),
    }
    weights = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    if head is not None:
        weights |= {f"head.{key}": value for key, value in head.state_dict().items()}
    return PretrainedModule(ModuleCard(**{**about, **card}), weights)


def hashes(*structures):
    return TrainingFingerprints(frozenset(f"{one:012x}" for one in structures), frozenset()).to_field()


@pytest.fixture
def base():
    return pack("base", network(9), license_weights="MIT", license_code="MIT")


@pytest.fixture
def modules(base):
    """Three modules of one base, two of them with heads that are not alike."""
    about = {"base": base.card.sha256, "license_code": "MIT"}
    return [
        pack(
            "a",
            network(0),
            MLP(8, (4,)),
            license_weights="MIT",
            references=["x", "y"],
            fingerprints=hashes(3, 1),
            **about,
        ),
        pack("b", network(1), license_weights="CC-BY-NC-4.0", fingerprints=hashes(2, 1), **about),
        pack("c", network(2), MLP(8, ()), license_weights="MIT", references=["y", "z"], **about),
    ]


NAMES = ["a", "b", "c"]


@pytest.fixture
def rows(strained):
    return TableDataset(make_table(network(0), strained), np.zeros(len(strained)))


# --- the mean ----------------------------------------------------------------------------------------


def test_parameters_are_the_weighted_mean(modules):
    weights = [0.2, 0.5, 0.3]
    mean = merge_modules(modules, weights, names=NAMES)
    for name, values in mean.weights.items():
        if values.is_floating_point():
            expected = sum(w * one.weights[name] for w, one in zip(weights, modules, strict=True))
            torch.testing.assert_close(values, expected)
            assert values.dtype == torch.float32
    assert set(mean.weights) == {name for name in modules[1].weights if name.startswith("backbone.")}


def test_mean_of_one_is_that_module(modules):
    mean = merge_modules(modules, [0.0, 1.0, 0.0], names=NAMES)
    assert all(torch.equal(values, modules[1].weights[name]) for name, values in mean.weights.items())
    assert mean.build_head() is None


def test_mean_of_equal_modules_is_exact(modules):
    about = {"base": modules[0].card.base}
    twins = [pack(name, network(0), **about) for name in NAMES]
    mean = merge_modules(twins, [0.1, 0.2, 0.7], names=NAMES)
    torch.testing.assert_close(dict(mean.weights), dict(twins[0].weights), rtol=0, atol=1e-7)


def test_integers_are_those_of_the_heaviest(modules):
    counts = [name for name, values in modules[0].weights.items() if not values.is_floating_point()]
    assert counts
    mean = merge_modules(modules, [0.3, 0.3, 0.4], names=NAMES)
    assert all(mean.weights[name] == modules[2].weights[name] for name in counts)


def test_module_of_no_weight_does_not_count(modules):
    broken = {name: torch.full_like(values, 3) for name, values in modules[0].weights.items()}
    broken = {name: v * torch.nan if v.is_floating_point() else v for name, v in broken.items()}
    modules[0] = PretrainedModule(replace(modules[0].card, sha256=None), broken)
    mean = merge_modules(modules, [0.0, 0.5, 0.5], names=NAMES)
    assert all(values.isfinite().all() for values in mean.weights.values())
    assert [one["name"] for one in mean.card.sources] == ["b", "c"]


def test_card_names_the_sources(modules, base):
    card = merge_modules(modules, [0.2, 0.5, 0.3], names=NAMES).card
    assert [(one["name"], one["weight"]) for one in card.sources] == [("a", 0.2), ("b", 0.5), ("c", 0.3)]
    assert [one["sha256"] for one in card.sources] == [module.card.sha256 for module in modules]
    assert card.base == base.card.sha256
    assert (card.license_code, card.license_weights) == ("MIT", "CC-BY-NC-4.0")
    assert card.references == ["x", "y", "z"]
    assert card.fingerprints == {**hashes(1, 2, 3), "complete": False}  # c's are not known
    assert card.head is None
    assert ModuleCard.from_json(card.to_json()) == card


def test_licence_is_that_of_the_sources_with_a_weight(modules):
    assert merge_modules(modules, [0.5, 0.0, 0.5], names=NAMES).card.license_weights == "MIT"
    modules[0] = PretrainedModule(replace(modules[0].card, license_weights=None), modules[0].weights)
    assert merge_modules(modules, [0.2, 0.4, 0.4], names=NAMES).card.license_weights is None


def test_base_is_one_of_them(modules, base):
    mean = merge_modules([*modules, base], [0.25] * 4, names=[*NAMES, "base"])
    assert mean.card.base == base.card.sha256
    assert merge_modules([base], [1.0], names=["base"]).card.base == base.card.sha256


def test_module_may_be_the_base_of_others_and_have_one(modules):
    child = pack("child", network(5), base=modules[0].card.sha256)
    mean = merge_modules([child, modules[0]], [0.5, 0.5], names=["child", "a"])
    assert mean.card.base == modules[0].card.sha256
    with pytest.raises(ArchitectureMismatchError, match=r"- base: .{8} \(child\); .{8} \(a, b\)"):
        check_mergeable([child, *modules[:2]], ["child", "a", "b"])


def test_adapters_are_averaged_for_their_base(base):
    def adapters(name, seed):
        network = insert_adapters(base.build_backbone())
        generator = torch.Generator().manual_seed(seed)
        weights = {
            f"backbone.{key}": torch.randn(values.shape, generator=generator)
            for key, values in network.state_dict().items()
            if key.startswith("adapters.")
        }
        card = {"kind": "adapter", "base": base.card.sha256, "adapter": {"reduction": 2}, "head": None}
        return PretrainedModule(replace(base.card, name=name, sha256=None, **card), weights, base=base)

    several = [adapters(name, seed) for seed, name in enumerate("ab")]
    mean = merge_modules(several, [0.25, 0.75], names=["a", "b"])
    assert (mean.card.kind, mean.card.base, mean.base) == ("adapter", base.card.sha256, base)
    for name, values in mean.weights.items():
        torch.testing.assert_close(values, 0.25 * several[0].weights[name] + 0.75 * several[1].weights[name])
    assert mean.build_backbone().n_features == 8
    with pytest.raises(ArchitectureMismatchError, match=r"- kind: adapter \(a, b\); full \(base\)"):
        check_mergeable([*several, base], ["a", "b", "base"])


# --- what cannot be averaged -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"base": "f" * 64}, r"- base: .{8} \(a, b\); ffffffff \(c\)"),
        ({"base": None}, r"- base: .{8} \(a, b\); none, .{8} itself \(c\)"),
        (
            {"graph": GraphSettings(cutoff=5.0).to_dict()},
            r'- graph: .*"cutoff": 8.0.* \(a, b\); .*"cutoff": 5.0.* \(c\)',
        ),
        ({"backbone": "alignn"}, r"- backbone: cgcnn \(a, b\); alignn \(c\)"),
        ({"backbone_options": {"width": 9}}, r'- backbone_options: .* \(a, b\); {"width": 9} \(c\)'),
        ({"atom_table": None}, r"- atom_table: .* \(a, b\); null \(c\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_differs_is_named(modules, changed, message):
    modules[2] = PretrainedModule(replace(modules[2].card, **changed), modules[2].weights)
    with pytest.raises(ArchitectureMismatchError, match=message) as caught:
        merge_modules(modules, [0.4, 0.3, 0.3], names=NAMES)
    assert "combine='features'" in str(caught.value)
    assert "Narrow 'modules'" in str(caught.value)


def test_all_that_differs_is_named(modules):
    changed = replace(modules[1].card, base=None, backbone="other")
    modules[1] = PretrainedModule(changed, modules[1].weights)
    with pytest.raises(ArchitectureMismatchError, match=r"(?s)- backbone: .*- base: "):
        check_mergeable(modules, NAMES)


@pytest.mark.parametrize("change", ["shape", "type", "missing"])
def test_tensors_that_differ_are_named(modules, change):
    name = next(iter(modules[0].weights))
    weights = dict(modules[1].weights)
    values = weights.pop(name)
    if change != "missing":
        weights[name] = values[:1] if change == "shape" else values.double()
    modules[1] = PretrainedModule(replace(modules[1].card, sha256=None), weights)
    with pytest.raises(ArchitectureMismatchError, match=rf"- {name}: .* \(a, c\); .* \(b\)"):
        check_mergeable(modules, NAMES)


# --- batch normalisation -----------------------------------------------------------------------------


def statistics(backbone):
    return {name: one.clone() for name, one in backbone.named_buffers() if "running" in name}


def test_statistics_are_those_of_all_rows(rows):
    """In one batch they are those of the batch, which training with momentum 1 would keep."""
    expected = network(3)
    for part in expected.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            part.momentum = 1.0
    expected.train()
    expected(rows.__getitems__(range(len(rows)))[0])
    backbone = network(3)
    assert reestimate_statistics(backbone, rows, batch_size=100, prior=0)
    torch.testing.assert_close(statistics(backbone), statistics(expected))


def test_statistics_of_batches_are_averaged(rows):
    backbone, halves = network(3), []
    for part in (range(0, 12, 2), range(1, 12, 2)):
        half = network(3)
        reestimate_statistics(
            half, TableDataset(rows.table, np.zeros(6), rows=np.array(part)), batch_size=6, prior=0
        )
        halves.append(statistics(half))
    reestimate_statistics(backbone, rows, batch_size=7, prior=0)  # two batches of six, not of seven and five
    for name, values in statistics(backbone).items():
        torch.testing.assert_close(values, (halves[0][name] + halves[1][name]) / 2)


def test_old_statistics_count_as_some_structures(rows):
    before, after, backbone = statistics(network(3)), network(3), network(3)
    reestimate_statistics(after, rows, batch_size=100, prior=0)
    reestimate_statistics(backbone, rows, batch_size=100, prior=36)
    for name, values in statistics(backbone).items():
        torch.testing.assert_close(values, 0.75 * before[name] + 0.25 * statistics(after)[name])


def test_nothing_else_is_changed(rows):
    backbone, before = network(3), network(3)
    state = torch.get_rng_state()
    reestimate_statistics(backbone, rows, batch_size=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part.training for part in backbone.modules())
    for (name, one), other in zip(backbone.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(one, other), name
        assert one.requires_grad == other.requires_grad
        assert one.grad is None
    momenta = [part.momentum for part in backbone.modules() if isinstance(part, torch.nn.BatchNorm1d)]
    assert momenta and set(momenta) == {0.1}


def test_frozen_layers_get_statistics_too(rows):
    frozen, free = network(3).requires_grad_(False), network(3)
    for backbone in (frozen, free):
        reestimate_statistics(backbone, rows, batch_size=100)
    torch.testing.assert_close(statistics(frozen), statistics(free))
    assert not any(one.requires_grad for one in frozen.parameters())


def test_network_without_batch_normalisation_needs_no_pass(rows, monkeypatch):
    backbone = network(3)
    for part in backbone.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            part.track_running_stats = False
    monkeypatch.setattr(CGCNN, "forward", None)
    assert not reestimate_statistics(backbone, rows, batch_size=4)
