import pytest
import torch
from torch import nn

from matmosaic.backbones import structure_features, trunk_depth, unfreeze
from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.exceptions import InvalidParameterError, UnknownNameError
from matmosaic.graphs import GraphTable


@pytest.fixture
def backbone():
    return CGCNN(width=6, n_convolutions=3)


@pytest.fixture
def batch(crystals, backbone):
    return GraphTable.from_structures(crystals, backbone).select(range(len(crystals)))


def trained_names(backbone):
    return [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize(
    ("unfrozen", "stages", "depth"),
    [
        ("head", [], 5),
        ("last", ["conv_3"], 3),
        ("conv_3", ["conv_3"], 3),
        (["conv_2", "conv_3"], ["conv_2", "conv_3"], 2),
        (["conv_1"], ["conv_1"], 1),
        (("embedding", "last"), ["embedding", "conv_3"], 0),
        ("all", ["embedding", "conv_1", "conv_2", "conv_3"], 0),
        (["head", "last"], ["conv_3"], 3),
    ],
    ids=str,
)
def test_groups_that_are_trained(backbone, unfrozen, stages, depth):
    names = unfreeze(backbone, unfrozen)
    assert names == trained_names(backbone)
    assert {name.split(".")[1] for name in names} == set(stages)
    assert trunk_depth(backbone) == depth


def test_choosing_again_forgets_the_first_choice(backbone):
    unfreeze(backbone, "all")
    unfreeze(backbone, "head")
    assert trained_names(backbone) == []
    assert len(unfreeze(backbone, "all")) == len(list(backbone.parameters()))


def test_unknown_group_gets_a_suggestion(backbone):
    with pytest.raises(
        UnknownNameError, match=r"layer group in 'unfrozen' 'conv_33'. Did you mean 'conv_3'\?"
    ):
        unfreeze(backbone, ["last", "conv_33"])
    with pytest.raises(UnknownNameError, match=r"Valid: 'all', 'conv_1', .*'head', 'last'"):
        unfreeze(backbone, "x")


def test_no_group_is_an_error(backbone):
    with pytest.raises(InvalidParameterError, match="use 'head' to freeze the backbone"):
        unfreeze(backbone, [])


@pytest.mark.parametrize("unfrozen", ["head", "last", "conv_1", ["conv_2"]], ids=str)
def test_frozen_means_no_gradient_and_evaluation_mode(backbone, batch, unfrozen):
    unfreeze(backbone, unfrozen)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    head = nn.Linear(6, 1)
    optimiser = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=0.01)
    for _ in range(3):
        backbone.train()
        optimiser.zero_grad()
        head(backbone(batch).u).square().mean().backward()
        optimiser.step()
    moved = {name for name, value in backbone.state_dict().items() if not torch.equal(value, before[name])}
    stages = {name.split(".")[1] for name in trained_names(backbone)}
    assert {name.split(".")[1] for name in moved} == stages
    assert any("running_var" in name for name in moved) == bool(stages)


def test_norm_alone_can_be_trained_in_a_stage(backbone, batch):
    """A group may cut across stages: the rest of the stage is frozen, and in evaluation mode."""

    class TrainsNorms(CGCNN):
        def layer_groups(self):
            return {**super().layer_groups(), "atom_norms": ["stages.*.atom_norm.*"]}

    backbone = TrainsNorms(width=6, n_convolutions=2)
    names = unfreeze(backbone, "atom_norms")
    assert len(names) == 4
    assert trunk_depth(backbone) == 1
    backbone.train()
    stage = backbone.stages["conv_1"]
    assert (stage.training, stage.atom_norm.training, stage.bond_norm.training) == (True, True, False)


def test_mode_follows_the_choice(backbone):
    backbone.train()
    unfreeze(backbone, "last")
    assert backbone.stages["conv_3"].bond_norm.training
    assert not backbone.stages["conv_2"].bond_norm.training
    unfreeze(backbone, "all")
    assert backbone.stages["conv_2"].bond_norm.training
    backbone.eval()
    unfreeze(backbone, "all")
    assert not any(part.training for part in backbone.modules())


def test_frozen_backbone_gives_the_same_features_while_training(backbone, batch, crystals):
    unfreeze(backbone, "head")
    expected = structure_features(backbone, crystals)
    backbone.train()
    for _ in range(3):
        torch.testing.assert_close(backbone(batch).u, expected, rtol=0, atol=1e-6)


# --- backbones that say where a trunk may end ------------------------------------------------------------


class FewCuts(CGCNN):
    """Two convolutions must be in one piece."""

    def cuts(self):
        return [3, 4, 5]


@pytest.mark.parametrize(
    ("unfrozen", "depth"), [("conv_1", 0), ("conv_2", 0), ("conv_3", 3), ("head", 5), ("all", 0)]
)
def test_trunk_ends_where_the_backbone_allows(unfrozen, depth):
    backbone = FewCuts(width=6, n_convolutions=3)
    unfreeze(backbone, unfrozen)
    assert trunk_depth(backbone) == depth


def test_frozen_stages_behind_the_last_cut_stay_in_evaluation_mode(batch):
    """Also a stage without parameters, which is frozen as what comes before it is."""
    backbone = FewCuts(width=6, n_convolutions=3)
    backbone.stages["embedding"] = nn.Sequential(backbone.stages["embedding"])
    backbone.stages["conv_1"].noise = nn.Dropout()
    unfreeze(backbone, "conv_2")
    backbone.train()
    modes = {name: stage.training for name, stage in backbone.stages.items()}
    assert modes == {
        "embedding": False,
        "conv_1": False,
        "conv_2": True,
        "conv_3": False,
        "pooling": True,
    }
    assert not backbone.stages["conv_1"].noise.training
    state = {name: value.clone() for name, value in backbone.stages["conv_1"].state_dict().items()}
    backbone(batch)
    assert all(
        torch.equal(value, state[name]) for name, value in backbone.stages["conv_1"].state_dict().items()
    )
