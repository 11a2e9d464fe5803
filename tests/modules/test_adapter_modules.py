"""A module of adapters stores no weight of its base, finds it by checksum, and refuses any other."""

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from matmosaic import plugins
from matmosaic.backbones import MLP, insert_adapters
from matmosaic.exceptions import (
    ArchitectureMismatchError,
    InvalidParameterError,
    ModuleFormatError,
    UnknownNameError,
)
from matmosaic.modules import (
    DirectoryStore,
    ModuleCard,
    ModuleSummary,
    PretrainedModule,
    _base,
    load_module,
    resolve,
)


@pytest.fixture(autouse=True)
def _nothing_in_use(monkeypatch):
    """Each test looks for bases as the first in its process."""
    monkeypatch.setattr(_base, "_in_use", {})


def make_adapters(base, *, seed=1, reference="", **fields):
    """Return a module of adapters with random weights."""
    torch.manual_seed(seed)
    network, head = insert_adapters(base.build_backbone()), MLP(4, widths=(3,))
    for parameter in network.adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights = {f"backbone.adapters.{name}": value for name, value in network.adapters.state_dict().items()}
    if fields.get("head", head):
        weights |= {f"head.{name}": value for name, value in head.state_dict().items()}
    settings = {
        "name": "adapters",
        "kind": "adapter",
        "adapter": {"reduction": 2},
        "base": base.card.sha256,
        "base_reference": reference,
        "head": head.options(),
        "sha256": None,
        "golden": [],
    }
    card = replace(base.card, **{**settings, **fields})
    return PretrainedModule(card, weights, base=base).with_golden()


@pytest.fixture
def adapters(module):
    return make_adapters(module)


@pytest.fixture
def folder(module, adapters, tmp_path):
    """A store of the base and its adapters."""
    store = DirectoryStore(tmp_path / "modules")
    store.save(module)
    store.save(adapters)
    _base._in_use.clear()
    return store.path


# --- what is stored ------------------------------------------------------------------------------------


def test_no_weight_of_the_base_is_stored(module, adapters):
    names = set(adapters.weights)
    assert all(name.startswith(("backbone.adapters.", "head.")) for name in names)
    assert not names & set(module.weights) - {name for name in names if name.startswith("head.")}


def test_weights_of_the_base_are_refused(module, adapters):
    name, value = next(iter(module.weights.items()))
    weights = {**adapters.weights, name: value}
    with pytest.raises(ArchitectureMismatchError, match=r"must be named backbone\.adapters\.\* or head\.\*"):
        PretrainedModule(replace(adapters.card, sha256=None), weights)


@pytest.mark.parametrize("values", [{"adapter": {}}, {"base": None}], ids=["what", "what for"])
def test_card_says_what_adapters_and_for_what(adapters, values):
    with pytest.raises(ModuleFormatError, match="of kind 'adapter', it must say"):
        replace(adapters.card, **values)


def test_card_is_strict_about_adapters(adapters):
    for wrong in ({"reduction": 0}, {"reduction": 2, "width": 3}, {"reduction": "2"}):
        with pytest.raises(ModuleFormatError, match="adapter"):
            ModuleCard.from_dict({**adapters.card.to_dict(), "adapter": wrong})


def test_card_of_a_network_without_adapters_is_as_it_was(module, adapters):
    assert not {"adapter", "base_reference"} & set(module.card.to_dict())
    assert ModuleCard.from_json(adapters.card.to_json()) == adapters.card


# --- what it computes ----------------------------------------------------------------------------------


def test_network_is_base_and_adapters(module, adapters, crystals):
    backbone = adapters.build_backbone()
    assert not backbone.training
    for name, value in backbone.base.state_dict().items():
        assert torch.equal(value, module.weights[f"backbone.{name}"])
    features = adapters.features(crystals)
    assert not np.allclose(features, module.features(crystals), atol=1e-3)
    assert adapters.predict(crystals).shape == (len(crystals),)
    assert 0 <= adapters.verify() < 1e-5


def test_network_with_adapters_can_be_stored_whole_and_be_a_base(module, adapters, crystals):
    weights = {f"backbone.{name}": value for name, value in adapters.build_backbone().state_dict().items()}
    card = replace(adapters.card, name="whole", kind="full", head=None, sha256=None, golden=[])
    whole = PretrainedModule(card, weights)
    assert whole.base is None
    np.testing.assert_array_equal(whole.features(crystals), adapters.features(crystals))
    again = replace(adapters.card, base=whole.card.sha256)
    np.testing.assert_array_equal(
        PretrainedModule(again, adapters.weights, base=whole).features(crystals), adapters.features(crystals)
    )


def test_adapters_of_another_shape_are_shown(module, adapters):
    card = replace(adapters.card, adapter={"reduction": 4}, sha256=None, golden=[])
    with pytest.raises(
        ArchitectureMismatchError, match=r"! adapters\.\w+\.down\.weight is 2 x 4, expected 1 x 4"
    ):
        PretrainedModule(card, adapters.weights, base=module).build_backbone()


# --- where the base is found ---------------------------------------------------------------------------


def test_base_beside_the_adapters(folder, module, adapters, crystals):
    expected = adapters.features(crystals)
    for found in (load_module(folder / "adapters"), DirectoryStore(folder).load("adapters")):
        assert found == adapters
        assert found.base == module
        np.testing.assert_array_equal(found.features(crystals), expected)


def test_many_adapters_share_one_base(folder, module):
    DirectoryStore(folder).save(make_adapters(module, seed=2, name="others"))
    one, other = resolve(folder / "*[ae]*rs")
    assert one.base is other.base


def test_broken_card_beside_the_adapters_is_passed_over(folder, module):
    shutil.copytree(folder / module.card.name, folder / "a-broken-one")
    (folder / "a-broken-one" / "card.json").write_text("{}", encoding="utf-8")
    assert PretrainedModule.load(folder / "adapters").base == module


def test_base_by_reference(tmp_path, module, folder, monkeypatch):
    original = plugins.load
    toy = {"toy": lambda: DirectoryStore(folder)}
    monkeypatch.setattr(plugins, "load", lambda kind, name: toy.get(name) or original(kind, name))
    make_adapters(module, reference=f"toy:{module.card.name}").save(tmp_path / "alone" / "adapters")
    _base._in_use.clear()
    assert load_module(tmp_path / "alone" / "adapters").base == module
    assert _base.base_reference(f"toy:{module.card.name}") == f"toy:{module.card.name}"
    assert _base.base_reference(str(tmp_path)) == _base.base_reference(module) == ""
    assert _base.base_reference("https://host/hub#name") == ""


def test_base_among_bundled_modules(tmp_path):
    bundled = load_module("bundled:emt-eform")
    make_adapters(bundled, head=None).save(tmp_path / "adapters")
    _base._in_use.clear()
    assert load_module(tmp_path / "adapters").base == bundled


def test_missing_base_is_named_with_all_places(folder, module, tmp_path):
    shutil.rmtree(folder / module.card.name)
    with pytest.raises(UnknownNameError) as caught:
        load_module(folder / "adapters")
    message = str(caught.value)
    assert "Module 'adapters' holds adapters for a module of backbone 'cgcnn'" in message
    assert module.card.sha256 in message
    assert str(folder) in message
    assert "PretrainedModule.load(directory, base=module)" in message


def test_reference_that_leads_nowhere_is_told(module, tmp_path):
    make_adapters(module, reference="bundled:gone").save(tmp_path / "adapters")
    _base._in_use.clear()
    with pytest.raises(UnknownNameError, match=r"'bundled:gone' \(Unknown module 'gone'"):
        load_module(tmp_path / "adapters")


@pytest.mark.parametrize(
    "reference",
    [
        "https://host/hub#name",
        "s3://bucket/hub#name",
        "/etc/passwd",
        "../other",
        r"\\\\host\\share",
        r"C:\\modules",
        "file:/etc/passwd",
        "hub:*",
        "hub:a/../b",
        "hub:name@https://host",
        "hub:name\n",
        "hub:",
    ],
)
def test_card_leads_to_no_address_or_path(folder, adapters, reference, monkeypatch):
    fields = {**adapters.card.to_dict(), "base_reference": reference}
    with pytest.raises(ModuleFormatError, match="'base_reference': expected text matching"):
        ModuleCard.from_json(json.dumps(fields))
    with pytest.raises(ModuleFormatError, match="'base_reference'"):
        replace(adapters.card, base_reference=reference)


@pytest.mark.parametrize("reference", ["", "bundled:emt-eform", "chgnet:0.3.0", "my-hub:a.b+c@1.0-2"])
def test_card_leads_to_a_module_of_a_store(adapters, reference):
    assert replace(adapters.card, base_reference=reference).base_reference == reference


def test_cards_beside_are_not_read_where_the_base_is_named(folder, monkeypatch, tmp_path):
    class Hub(DirectoryStore):
        def names(self):
            raise AssertionError("searched")

    bundled = load_module("bundled:emt-eform")
    card = make_adapters(bundled, reference="bundled:emt-eform", head=None).card
    _base._in_use.clear()
    assert _base.find_base(card, Hub(folder)) == bundled


def test_index_of_a_hub_tells_the_base(folder, module, adapters):
    """No card of the many adapters beside it is downloaded."""

    read = []

    class Hub:
        store = DirectoryStore(folder)

        def names(self):
            return self.store.names()

        def versions(self, name):
            return ["1"]

        def summary(self, name, version=None):
            return ModuleSummary.of(self.store.card(name))

        def card(self, name, version=None):
            read.append(name)
            return self.store.card(name)

        def load(self, name, version=None):
            return self.store.load(name)

    assert _base.find_base(adapters.card, Hub()) == module
    assert read == []


def test_base_is_given_by_reference(folder, module, tmp_path):
    shutil.move(folder / module.card.name, tmp_path / "elsewhere")
    found = PretrainedModule.load(folder / "adapters", base=tmp_path / "elsewhere")
    assert found.base == module
    with pytest.raises(ArchitectureMismatchError, match="holds adapters for the weights of sha256"):
        PretrainedModule.load(folder / "adapters", base="bundled:emt-eform")
    with pytest.raises(InvalidParameterError, match="is expected as 'store:name', a path or a Pretrained"):
        PretrainedModule.load(folder / "adapters", base=3)


def test_base_is_given(folder, module, crystals):
    shutil.rmtree(folder / module.card.name)
    found = PretrainedModule.load(folder / "adapters", base=module)
    assert found.base == module
    assert found.features(crystals).shape == (len(crystals), 4)


def test_other_base_is_refused(folder, adapters, make):
    other = make("other", seed=5)
    with pytest.raises(ArchitectureMismatchError, match=f"Got 'other', of sha256 {other.card.sha256}"):
        PretrainedModule.load(folder / "adapters", base=other)
    with pytest.raises(ArchitectureMismatchError, match="works with no others"):
        PretrainedModule(adapters.card, adapters.weights, base=other)


def test_reference_to_other_weights_is_refused(module, tmp_path):
    make_adapters(module, reference="bundled:emt-volume").save(tmp_path / "adapters")
    _base._in_use.clear()
    with pytest.raises(UnknownNameError, match="'bundled:emt-volume'.*works with no others"):
        load_module(tmp_path / "adapters")


def test_altered_base_is_noticed(folder, module):
    path = folder / module.card.name / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(UnknownNameError, match="truncated or altered"):
        load_module(folder / "adapters")


def test_card_is_read_without_the_base(folder, module):
    shutil.rmtree(folder / module.card.name)
    assert DirectoryStore(folder).card("adapters").kind == "adapter"
    assert PretrainedModule.load(folder / "adapters", verify=False).card.base == module.card.sha256


def test_pickle_brings_the_base_along(folder, crystals):
    content = pickle.dumps(PretrainedModule.load(folder / "adapters", verify=False))
    expected = load_module(folder / "adapters").features(crystals)
    shutil.rmtree(folder)
    _base._in_use.clear()
    np.testing.assert_array_equal(pickle.loads(content).features(crystals), expected)


def test_files_hold_the_adapters_alone(folder):
    card = json.loads((folder / "adapters" / "card.json").read_text(encoding="utf-8"))
    assert (card["kind"], card["adapter"]) == ("adapter", {"reduction": 2})
    assert sorted(path.name for path in (folder / "adapters").iterdir()) == [
        "card.json",
        "weights.safetensors",
    ]
