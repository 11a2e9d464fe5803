"""check_backbone accepts backbones that keep the contract and says what others must change."""

import pytest
import torch
from pymatgen.core import Lattice, Structure
from torch import nn
from torch_geometric.nn import CGConv, global_mean_pool

from matmosaic.backbones import Backbone, replace
from matmosaic.backbones.cgcnn import CGCNN, Pooling
from matmosaic.backbones.layers import gated_message
from matmosaic.graphs import GraphSettings
from matmosaic.testing import check_backbone

# --- a toy as a plugin author would write it, of PyG's own layers ---------------------------------------


class Embed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.atoms = nn.Embedding(101, width)

    def forward(self, graph):
        return replace(graph, x=self.atoms(graph.z), edge_attr=torch.exp(-graph.distance[:, None] / 3))


class Convolve(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = CGConv(width, 1, batch_norm=True)

    def forward(self, graph):
        return replace(graph, x=self.layer(graph.x, graph.edge_index, graph.edge_attr))


class Pool(nn.Module):
    def forward(self, graph):
        return replace(graph, u=global_mean_pool(graph.x, graph.batch))


class Toy(Backbone):
    """Knows nothing of weights."""

    contract = 1
    first, middle, final = Embed, Convolve, Pool

    def __init__(self, *, width=4, graph_settings=None):
        super().__init__()
        self.graph_settings = graph_settings or GraphSettings(ties="reference")
        self.width = self.n_features = width
        stages = {"embed": self.first(width), "convolve": self.middle(width), "pool": self.final()}
        self.stages = nn.ModuleDict(stages)

    def options(self):
        return {"width": self.width}


def test_cgcnn_keeps_the_contract():
    check_backbone(CGCNN, width=5, n_convolutions=2)


@pytest.mark.parametrize("ties", ["fractional", "reference"])
def test_cgcnn_with_other_graphs_keeps_the_contract(ties):
    settings = GraphSettings(cutoff=6.0, max_neighbors=8, ties=ties)
    check_backbone(CGCNN, width=3, n_convolutions=1, step=0.5, graph_settings=settings)


class FunctionalDropout(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            x = nn.functional.dropout(graph.x, 0.5, training=self.training)
            return replace(graph, u=global_mean_pool(x, graph.batch))


class FunctionalDropoutOfWeighted(CGCNN):
    """Supports weights, and its pooling could be stacked."""

    contract = 1

    def __init__(self, **options):
        super().__init__(**options)
        self.stages["pooling"].__class__ = DropsWhilePooling


class DropsWhilePooling(Pooling):
    def forward(self, graph):
        graph = super().forward(graph)
        return replace(graph, u=nn.functional.dropout(graph.u, 0.5, training=self.training))


def test_dropout_by_the_mode_keeps_the_contract():
    check_backbone(FunctionalDropout)
    check_backbone(FunctionalDropoutOfWeighted, width=3, n_convolutions=1)


def test_plain_pyg_network_keeps_the_contract():
    check_backbone(Toy)
    check_backbone(lambda: Toy(width=2))


def test_own_structures(crystals):
    check_backbone(Toy, crystals[:3])


def test_nothing_global_is_changed():
    state = torch.get_rng_state()
    check_backbone(Toy)
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(AssertionError):
        check_backbone(nn.Identity)
    assert torch.get_default_dtype() == torch.float32


# --- one broken toy per rule -----------------------------------------------------------------------------


class NoStages(Toy):
    def __init__(self, **options):
        super().__init__(**options)
        self.stages = nn.ModuleDict()


class ListOfStages(Toy):
    def __init__(self, **options):
        super().__init__(**options)
        self.stages = nn.ModuleList(self.stages.values())


class NoSettings(Toy):
    def __init__(self, **options):
        super().__init__(**options)
        self.graph_settings = None


class FractionalTies(Toy):
    def __init__(self, **options):
        super().__init__(**options)
        self.graph_settings = GraphSettings()


class NoWidth(Toy):
    def __init__(self, **options):
        super().__init__(**options)
        self.n_features = None


class OtherWidth(Toy):
    def __init__(self, **options):
        super().__init__(**options)
        self.n_features = self.width + 1


class NoWholeTrunk(Toy):
    def cuts(self):
        return [0, 1]


class CutBehindTheEnd(Toy):
    def cuts(self):
        return [0, 3, 4]


class ReservedGroup(Toy):
    def layer_groups(self):
        return {**super().layer_groups(), "head": ["*"]}


class NoLastGroup(Toy):
    def layer_groups(self):
        return {"embed": ["stages.embed.*"]}


class MisspeltGroup(Toy):
    def layer_groups(self):
        return {**super().layer_groups(), "atoms": ["stage.embed.*"]}


class KnowsHydrogenAlone(Toy):
    def elements(self):
        return frozenset({1})


class FixedDtype(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            return replace(graph, u=global_mean_pool(graph.x.float(), graph.batch))


class ForgetsOption(Toy):
    def __init__(self, *, scale=1.0, **options):
        super().__init__(**options)
        self.stages["pool"].scale = scale

    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            return replace(graph, u=self.scale * global_mean_pool(graph.x, graph.batch))


class UnknownOption(Toy):
    def options(self):
        return {"width": self.width, "depth": 1}


class TupleOption(Toy):
    def options(self):
        return {"width": (self.width,)}


class IgnoresSettings(Toy):
    def __init__(self, *, width=4, graph_settings=None):
        super().__init__(width=width, graph_settings=GraphSettings(ties="reference", cutoff=5.0))
        if graph_settings is None:
            self.graph_settings = GraphSettings(ties="reference", cutoff=6.0)


class DropsGivenSettings(Toy):
    """Its defaults are kept, for they are what it always takes."""

    def __init__(self, *, width=4, graph_settings=None):
        super().__init__(width=width)


class UnregisteredNumbers(Toy):
    class final(nn.Module):  # noqa: N801
        def __init__(self):
            super().__init__()
            self.scale = torch.rand(1)

        def forward(self, graph):
            return replace(graph, u=global_mean_pool(graph.x * self.scale, graph.batch))


class HoldsLambda(Toy):
    class final(nn.Module):  # noqa: N801
        def __init__(self):
            super().__init__()
            self.pool = lambda x, batch: global_mean_pool(x, batch)

        def forward(self, graph):
            return replace(graph, u=self.pool(graph.x, graph.batch))


class ChangesInput(Toy):
    class first(Embed):  # noqa: N801
        def forward(self, graph):
            graph.x = self.atoms(graph.z)
            graph.edge_attr = torch.exp(-graph.distance[:, None] / 3)
            return graph


class RescalesDistances(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            u = global_mean_pool(graph.x, graph.batch)
            return replace(graph, u=u, distance=graph.distance / 2)


class DropsAtoms(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            return replace(graph, u=global_mean_pool(graph.x, graph.batch), x=graph.x[:-1])


class ReturnsTensor(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            return global_mean_pool(graph.x, graph.batch)


class NoFeatures(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            return replace(graph, x=graph.x * 2)


class Infinite(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            return replace(graph, u=global_mean_pool(graph.x, graph.batch) / 0)


class AlwaysDrops(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            u = global_mean_pool(graph.x, graph.batch)
            return replace(graph, u=nn.functional.dropout(u))


class CountsCalls(Toy):
    class final(Pool):  # noqa: N801
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, graph):
            self.calls += 1
            return super().forward(graph)


class HiddenField(Toy):
    class first(Embed):  # noqa: N801
        def forward(self, graph):
            return replace(super().forward(graph), charge=graph.z.double())

    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            return replace(graph, u=global_mean_pool(graph.x * graph.charge[:, None], graph.batch))


class NumbersStructures(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            order = torch.arange(graph.num_graphs)[:, None] / 10
            return replace(graph, u=global_mean_pool(graph.x, graph.batch) + order)


class MixesPartners(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            u = global_mean_pool(graph.x, graph.batch)
            return replace(graph, u=u - u.mean(0))


class ReadsOrder(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            return replace(graph, u=graph.x[graph.ptr[:-1]])


class IgnoresWeights(Toy):
    supports_weights = True


class OrdinaryNorm(CGCNN):
    """Weighs its sums, but not the statistics of its batches."""

    contract = 1

    def __init__(self, **options):
        super().__init__(width=4, n_convolutions=1, **options)
        self.stages["conv_1"].bond_norm.__class__ = OrdinaryBatchNorm

    def options(self):
        return {}


class OrdinaryBatchNorm(nn.BatchNorm1d):
    def message(self, x, weight):
        return gated_message(self(x, weight))

    def forward(self, x, weight):
        return super().forward(x)


class OwnTraining(Toy):
    def train(self, mode=True):
        return nn.Module.train(self, mode)


class Detached(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            return replace(graph, u=global_mean_pool(graph.x, graph.batch).detach())


class UnusedLayer(Toy):
    class final(Pool):  # noqa: N801
        def __init__(self):
            super().__init__()
            self.idle = nn.Linear(1, 1)


class DoubleOnly(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            return replace(graph, u=global_mean_pool(graph.x.double(), graph.batch))


class ReadsPositions(Toy):
    class final(nn.Module):  # noqa: N801
        def forward(self, graph):
            return replace(graph, u=global_mean_pool(graph.pos.norm(dim=1), graph.batch))


class FromTheFuture(Toy):
    contract = 99


class Fractional(Toy):
    contract = 1.0


class SaysNothing(CGCNN):
    """Inherits a version, which changes with what is installed."""


class ReadsPositionsLater(Toy):
    """PyG gives None for positions, and the stage hands it on."""

    class middle(nn.Module):  # noqa: N801
        def __init__(self, width):
            super().__init__()

        def forward(self, graph):
            return replace(graph, x=graph.pos)


class NeedsWidth(Toy):
    def __init__(self, width, **options):
        super().__init__(width=width, **options)


class ListOfElements(Toy):
    def elements(self):
        return list(range(1, 100))


class ForgetsSuper(Toy):
    def __init__(self):
        self.stages = nn.ModuleDict({"pool": Pool()})


class NoOptions(Backbone):
    pass


class LooksAtFreezing(Toy):
    """A stage computes something else where it is frozen."""

    class first(Embed):  # noqa: N801
        def forward(self, graph):
            graph = super().forward(graph)
            frozen = not self.atoms.weight.requires_grad
            return replace(graph, x=graph.x * 2) if frozen else graph


BROKEN = [
    (NoStages, "'stages' is empty"),
    (ListOfStages, "'stages' must be a torch.nn.ModuleDict, set in the constructor. Got ModuleList"),
    (NoSettings, "'graph_settings' must be GraphSettings, set in the constructor: .* Got None"),
    (FractionalTies, "set ties='reference' in graph_settings"),
    (NoWidth, "'n_features' must be an int > 0, the width of 'u', set in the constructor. Got None"),
    (ReadsPositions, r"Stage 'pool' does not run on a batch in double precision: .*, which at first has z, "),
    (FromTheFuture, "'contract' must be a class attribute, .*, here 1 to 1. Got 99"),
    (Fractional, "'contract' must be a class attribute, .* Got 1.0"),
    (SaysNothing, "SaysNothing does not state its 'contract'; write `contract: ClassVar.* in your own class"),
    (ForgetsSuper, r"The constructor fails with {}: .* Call super\(\).__init__\(\) first"),
    (NoOptions, r"The constructor fails with {}: .*abstract.*\. Write options\(\)\.$"),
    (
        ReadsPositionsLater,
        r"Stage 'pool', whose graph lacks \['x'\]: dropped, or set to None, does not run",
    ),
    (NeedsWidth, r"All arguments of the constructor must have defaults, .* Without one: \['width'\]"),
    (ListOfElements, r"elements\(\) must return a frozenset of atomic numbers, or None for all\. Got list"),
    (
        LooksAtFreezing,
        "The cached trunk for unfrozen='head' gives other features .*; let stages depend on the",
    ),
    (OtherWidth, r"'u' must have shape \(4, 5\), by n_features. Got \(4, 4\)"),
    (NoWholeTrunk, r"cuts\(\) must be numbers of leading stages from 0 to 3, with 3.* Got \[0, 1\]"),
    (CutBehindTheEnd, r"cuts\(\) must be .* Got \[0, 3, 4\]"),
    (ReservedGroup, r"must not define \['head'\], which always exist; rename"),
    (NoLastGroup, "must define 'last'"),
    (MisspeltGroup, r"\['atoms'\] has the pattern 'stage.embed.\*', which matches no parameter"),
    (KnowsHydrogenAlone, r"elements\(\) leaves out atomic numbers \[8, 11, 12, .*pass 'structures'"),
    (FixedDtype, "'u' must have the dtype of the weights. Got torch.float32"),
    (UnknownOption, r"options\(\) must be all keyword arguments of UnknownOption"),
    (TupleOption, "lists, not tuples"),
    (IgnoresSettings, "must keep the given graph_settings"),
    (DropsGivenSettings, "must keep the given graph_settings. Given were GraphSettings.*, kept were"),
    (UnregisteredNumbers, "register all numbers it depends on as parameters or buffers"),
    (HoldsLambda, "It cannot be pickled.*no lambdas"),
    (ChangesInput, r"change the graph they are given; return replace\(graph, x=...\) instead"),
    (RescalesDistances, "Stage 'pool' changes 'distance'; a stage sets x, edge_attr, u and nothing else"),
    (DropsAtoms, "Stage 'pool' gives 'x' 20 rows, there are 21; a stage replaces values, never rows"),
    (ReturnsTensor, "Stage 'pool' must return the graph. Got Tensor"),
    (NoFeatures, "The last stage must set 'u'"),
    (Infinite, "NaN or infinite"),
    (AlwaysDrops, "leave chance to training mode"),
    (CountsCalls, r"Evaluation mode changes \['stages.pool.calls'\]"),
    (HiddenField, "between stages only x, edge_attr, u are kept"),
    (NumbersStructures, "cut after 0 stages, give other features than the whole"),
    (MixesPartners, "depend on the others of its batch"),
    (ReadsOrder, "depend on the order of the atoms; use sums and means"),
    (IgnoresWeights, "Compressed graphs give other features than whole ones; weigh sums and means"),
    (OrdinaryNorm, "other features in training mode; use WeightedBatchNorm"),
    (OwnTraining, r"Frozen layers move in training mode: .*super\(\).train\(mode\) last"),
    (Detached, "Features carry no gradient"),
    (UnusedLayer, r"No gradient reaches \['stages.pool.idle.weight', 'stages.pool.idle.bias'\]"),
    (DoubleOnly, "'u' must have the dtype of the weights. Got torch.float64"),
]


@pytest.mark.parametrize(("kind", "message"), BROKEN, ids=[kind.__name__ for kind, _ in BROKEN])
def test_broken_backbone_is_told_what_to_do(kind, message):
    with pytest.raises(AssertionError, match=f"(?i){message}"):
        check_backbone(kind)


def test_option_that_is_not_listed():
    with pytest.raises(AssertionError, match=r"list every argument in options\(\)"):
        check_backbone(ForgetsOption, scale=2.0)


def test_unused_parameters_can_be_declared():
    check_backbone(UnusedLayer, without_gradient=["stages.pool.idle.*"])


def test_one_crystal_is_not_enough():
    copper = Structure(Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
    with pytest.raises(AssertionError, match="at least two crystals. Got 1"):
        check_backbone(Toy, [copper])


def test_something_else():
    with pytest.raises(
        AssertionError, match="must be a subclass of matmosaic.backbones.Backbone. Got Identity"
    ):
        check_backbone(nn.Identity)


def test_an_object_in_place_of_its_class():
    with pytest.raises(AssertionError, match=r"Pass the class, not an object: check_backbone\(Toy, "):
        check_backbone(Toy())


def test_default_is_asked_for_even_if_the_option_is_given():
    with pytest.raises(AssertionError, match=r"Without one: \['width'\]"):
        check_backbone(NeedsWidth, width=4)


def test_misspelt_option():
    with pytest.raises(AssertionError, match=r"Unknown option 'widht'\. Did you mean 'width'\?") as caught:
        check_backbone(Toy, widht=8)
    assert "super()" not in str(caught.value)
