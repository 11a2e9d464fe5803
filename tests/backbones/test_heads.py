import torch

from matmosaic.backbones import MLP, PropertyHeads


def test_each_head_gives_a_column():
    torch.manual_seed(0)
    heads = [MLP(4, (3,)) for _ in range(3)]
    features = torch.rand(5, 4)
    together = PropertyHeads(heads)
    assert list(together) == heads
    assert together.options() == {"n_in": 4, "widths": [3], "n_out": 1}
    torch.testing.assert_close(together(features), torch.cat([head(features) for head in heads], dim=1))
