import pytest
import torch

from matmosaic.backbones import make_table


@pytest.mark.parametrize("unfrozen", ["head", "last", "all"])
def test_tail_equals_whole(float64, make_model, strained, unfrozen):
    model, table = make_model(unfrozen)
    model.eval()
    whole = make_table(model.backbone, strained)
    expected = model.head(model.backbone(whole.select(range(12))).u)
    torch.testing.assert_close(model(table.select(range(12))), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.predict(whole), expected.detach(), rtol=0, atol=1e-12)


def test_prediction_does_not_depend_on_batches_and_mode(float64, make_model, strained):
    model, _ = make_model("last")
    whole = make_table(model.backbone, strained)
    expected = model.eval().predict(whole)
    model.train()
    torch.testing.assert_close(model.predict(whole, batch_size=5), expected, rtol=0, atol=1e-12)
    assert model.training
    assert expected.shape == (12, 1)
    assert not expected.requires_grad


def test_depth_is_the_trunks(make_model):
    assert [make_model(unfrozen)[0].depth for unfrozen in ("head", "last", "all")] == [4, 2, 0]
