import pytest

from matmosaic import load_module
from matmosaic.estimators import TransferRegressor

TARGET = "shear_modulus"


@pytest.fixture
def pretrain(run, data, tmp_path):
    def pretrain(*options, name="mine"):
        card = ["--target", TARGET, "--unit", "GPa", "--store", tmp_path / "store", "--name", name]
        return run("pretrain", data, *card, "--epochs", 2, *options)

    return pretrain


TINY = ["--backbone-option", "width=8", "--backbone-option", "n_convolutions=1"]


def test_module_with_card(pretrain, tmp_path):
    card = ["--license-weights", "CC-BY-4.0", "--dataset-name", "alloys", "--dataset-doi", "10.1000/1"]
    outcome = pretrain(*TINY, *card)
    assert (outcome.status, outcome.err) == (0, "")
    assert f"Saved {tmp_path / 'store' / 'mine'}; start from it with:\n  matmosaic fit" in outcome.out
    card = load_module(tmp_path / "store" / "mine").card
    assert (card.target, card.unit, card.n_train, card.license_weights) == (TARGET, "GPa", 20, "CC-BY-4.0")
    assert card.dataset == {"name": "alloys", "doi": "10.1000/1"}
    assert card.backbone_options["width"] == 8
    assert len(card.fingerprints) == 24


def test_module_is_trained_further(pretrain, tmp_path, store):
    document = pretrain("--start", store / "first", "--json").document
    card = load_module(tmp_path / "store" / "mine").card
    assert card.base == load_module(store / "first").card.sha256
    assert (document["start"], document["sha256"]) == (str(store / "first"), card.sha256)
    assert document["module"] == str(tmp_path / "store" / "mine")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "cgcn"], "Did you mean 'cgcnn'?"),
        (["--backbone-option", "widh=8"], "Did you mean 'width'?"),
        (["--backbone-option", "width"], "expected KEY=VALUE, got 'width'"),
        (["--start", "bundled:emt-volume", "--backbone", "cgcnn"], "--start brings its own network"),
        (["--name", "../up"], "'../up' cannot name a module"),
    ],
)
def test_bad_options(pretrain, tmp_path, options, message):
    outcome = pretrain(*options)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err
    assert not (tmp_path / "store").exists()


def test_taken_name_is_refused_before_training(pretrain, monkeypatch):
    assert pretrain(*TINY).status == 0
    with monkeypatch.context() as patch:
        patch.setattr(TransferRegressor, "fit", None)
        outcome = pretrain(*TINY)
    assert outcome.status == 2
    assert "holds a module 'mine'; choose another --name, or use --overwrite" in outcome.err
    assert pretrain(*TINY, "--overwrite").status == 0


@pytest.mark.filterwarnings("default")
def test_interrupted_module_is_not_kept(pretrain, monkeypatch, tmp_path):
    def stop(self, net, **kwargs):
        if len(net.history) > 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("matmosaic.cli._training.EpochProgress.on_batch_end", stop)
    outcome = pretrain(*TINY)
    assert outcome == (130, "", "interrupted\n")
    assert not (tmp_path / "store").exists()
