"""A module is a card and weights that fit it, or an error that shows why not."""

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone

from matmosaic.backbones.cgcnn import CGCNN
from matmosaic.exceptions import (
    ArchitectureMismatchError,
    CorruptModuleError,
    InvalidParameterError,
    ModuleFormatError,
    StoreError,
    UnknownNameError,
)
from matmosaic.modules import ModuleCard, PretrainedModule


def rewrite_card(directory, **values):
    path = directory / "card.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**card, **values}), encoding="utf-8")


def with_weights(module, weights, **fields):
    return PretrainedModule(replace(module.card, sha256=None, golden=[], **fields), weights)


@pytest.fixture
def saved(module, tmp_path):
    module.save(tmp_path / "tiny")
    return tmp_path / "tiny"


# --- networks ------------------------------------------------------------------------------------------


def test_backbone_has_the_weights_and_evaluates(module):
    backbone = module.build_backbone()
    assert not backbone.training
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, module.weights[f"backbone.{name}"], rtol=0, atol=0)


def test_building_leaves_random_numbers_alone(module):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    module.build_backbone()
    module.build_head()
    assert torch.rand(1) == expected


def test_built_networks_share_no_memory_with_the_module(module):
    backbone = module.build_backbone()
    with torch.no_grad():
        backbone.stages["embedding"].linear.bias.add_(1.0)
    assert not torch.equal(
        backbone.stages["embedding"].linear.bias, module.weights["backbone.stages.embedding.linear.bias"]
    )


def test_differing_weights_are_shown(module):
    weights = dict(module.weights)
    del weights["backbone.stages.conv_1.gate.bias"]
    weights["backbone.stages.conv_2.gate.bias"] = torch.zeros(8)
    weights["backbone.stages.embedding.linear.bias"] = torch.zeros(5)
    with pytest.raises(ArchitectureMismatchError) as caught:
        with_weights(module, weights).build_backbone()
    message = str(caught.value)
    assert "- stages.conv_1.gate.bias 8 is missing" in message
    assert "+ stages.conv_2.gate.bias 8 is unexpected" in message
    assert "! stages.embedding.linear.bias is 5, expected 4" in message


def test_differing_head_is_shown(module):
    head = {**module.card.head, "widths": [7]}
    with pytest.raises(ArchitectureMismatchError, match=r"! layers.0.weight is 3 x 4, expected 7 x 4"):
        with_weights(module, module.weights, head=head).build_head()


def test_weights_of_neither_part_are_refused(module):
    with pytest.raises(ArchitectureMismatchError, match=r"\['stages.x'\]"):
        with_weights(module, {**module.weights, "stages.x": torch.zeros(1)})
    with pytest.raises(ArchitectureMismatchError, match="its card has no head"):
        with_weights(module, module.weights, head=None)


@pytest.mark.parametrize(
    "values",
    [
        {"backbone_options": {"wdith": 4}},
        {"graph": {"cutoff": 8.0}},
        {"graph": {"cutoff": -1.0, "max_neighbors": 12, "ties": "fractional", "tolerance": 1e-4}},
    ],
    ids=["unknown option", "missing setting", "impossible setting"],
)
def test_impossible_options_are_blamed_on_the_card(module, values):
    with pytest.raises(ModuleFormatError, match="card of module 'tiny'"):
        with_weights(module, module.weights, **values).build_backbone()


def test_unknown_backbone_gets_a_suggestion(module):
    with pytest.raises(UnknownNameError, match="Did you mean 'cgcnn'"):
        with_weights(module, module.weights, backbone="cgcn").build_backbone()


def test_other_atom_table_is_refused(module):
    table = {"name": "other", "sha256": "0" * 64}
    with pytest.raises(ArchitectureMismatchError, match="element descriptors"):
        with_weights(module, module.weights, atom_table=table).build_backbone()


# --- numbers -------------------------------------------------------------------------------------------


def test_prediction_is_head_of_features_in_the_unit_of_the_card(module, crystals):
    features = module.features(crystals)
    assert features.shape == (len(crystals), 4)
    with torch.no_grad():
        outputs = module.build_head()(torch.from_numpy(features)).numpy()[:, 0]
    np.testing.assert_allclose(module.predict(crystals), outputs * 2.0 - 1.5, rtol=1e-6)


def test_prediction_undoes_the_transform(module, NaCl):
    transform = {**module.card.target_transform, "name": "log"}
    logarithmic = with_weights(module, module.weights, target_transform=transform)
    np.testing.assert_allclose(logarithmic.predict([NaCl]), np.exp(module.predict([NaCl])), rtol=1e-6)


def test_prediction_without_a_head_is_refused(headless, NaCl):
    assert headless.build_head() is None
    assert headless.features([NaCl]).shape == (1, 4)
    with pytest.raises(ModuleFormatError, match="has no head"):
        headless.predict([NaCl])
    with pytest.raises(ModuleFormatError, match="has no head"):
        headless.predict_from(headless.features([NaCl]))


# --- golden outputs ------------------------------------------------------------------------------------


def test_golden_outputs_are_reproduced(module):
    assert len(module.card.golden) == 3
    assert module.card.golden[0]["prediction"] is not None
    assert 0 <= module.verify() < 1e-5


def test_golden_outputs_of_given_crystals_and_elements(module, MoS2, headless):
    assert [len(item["structure"]["species"]) for item in module.with_golden([MoS2]).card.golden] == [3]
    alloy = module.with_golden(elements=["Cu", "Au"]).card.golden
    assert {symbol for item in alloy for symbol in item["structure"]["species"]} == {"Cu", "Au"}
    assert headless.with_golden().card.golden[0]["prediction"] is None
    with pytest.raises(InvalidParameterError, match="'elements' is empty"):
        module.with_golden(elements=[])


@pytest.mark.parametrize("what", ["features", "prediction"])
def test_changed_golden_output_is_noticed(module, what):
    golden = copy.deepcopy(module.card.golden)
    if what == "features":
        golden[1]["features"][2] *= 1.001
    else:
        golden[1]["prediction"] += 0.01
    altered = PretrainedModule(replace(module.card, golden=golden), module.weights)
    with pytest.raises(CorruptModuleError, match="golden outputs"):
        altered.verify()


def test_golden_outputs_do_not_depend_on_ties(module, monkeypatch):
    """Published weights cut shells of equal distances; no golden crystal may feel the order."""
    from matmosaic.modules._golden import small_crystals

    published = with_weights(module, module.weights, graph={**module.card.graph, "ties": "reference"})
    crystal = small_crystals()[2]
    order = [4, 2, 0, 3, 1]
    shuffled = {**crystal, **{key: [crystal[key][i] for i in order] for key in ("species", "frac_coords")}}
    features = published.features([crystal, shuffled])
    np.testing.assert_allclose(features[0], features[1], rtol=1e-5)


# --- identity ------------------------------------------------------------------------------------------


def test_module_never_changes(module):
    with pytest.raises(AttributeError, match="never changes"):
        module.card = None
    with pytest.raises(TypeError):
        module.weights["backbone.x"] = torch.zeros(1)
    assert clone(module) is module
    assert copy.deepcopy(module) is module


def test_weights_are_copied(module):
    weights = {name: value.clone() for name, value in module.weights.items()}
    made = with_weights(module, weights)
    weights["head.layers.0.bias"].add_(1.0)
    assert torch.equal(made.weights["head.layers.0.bias"], module.weights["head.layers.0.bias"])


def test_same_weights_have_the_same_bytes_whatever_their_order(module):
    backwards = PretrainedModule(module.card, dict(reversed(module.weights.items())))
    assert backwards.to_files() == module.to_files()
    assert backwards == module
    assert hash(backwards) == hash(module)


def test_card_of_other_weights_is_refused(module, make):
    with pytest.raises(CorruptModuleError, match="sha256=None"):
        PretrainedModule(module.card, make(seed=1).weights)


def test_pickling(module):
    again = pickle.loads(pickle.dumps(module))
    assert again == module
    assert again.to_files() == module.to_files()


def test_repr_says_what_it_is(module):
    facts = "backbone='cgcnn', target='formation energy', unit='eV/atom'"
    assert repr(module) == f"PretrainedModule('tiny', {facts}, sha256='{module.card.sha256[:8]}...')"


# --- files ---------------------------------------------------------------------------------------------


def test_save_and_load(module, saved, crystals):
    assert {path.name for path in saved.iterdir()} == {"card.json", "weights.safetensors"}
    loaded = PretrainedModule.load(saved)
    assert loaded == module
    np.testing.assert_array_equal(loaded.predict(crystals), module.predict(crystals))


def test_golden_outputs_are_checked_on_the_first_load_alone(saved, monkeypatch):
    calls = []
    original = PretrainedModule._golden_outputs

    def counted(self, crystals):
        calls.append(1)
        return original(self, crystals)

    monkeypatch.setattr(PretrainedModule, "_golden_outputs", counted)
    PretrainedModule.load(saved, verify=False)
    assert calls == []
    PretrainedModule.load(saved)
    PretrainedModule.load(saved)
    assert calls == [1]


def test_changed_card_is_noticed_by_golden_outputs(saved):
    graph = json.loads((saved / "card.json").read_text(encoding="utf-8"))["graph"]
    PretrainedModule.load(saved)
    rewrite_card(saved, graph={**graph, "max_neighbors": 6})
    with pytest.raises(CorruptModuleError, match="golden outputs"):
        PretrainedModule.load(saved)


@pytest.mark.parametrize("keep", [0, 100, -1], ids=["empty", "head", "last byte lost"])
def test_truncated_weights_are_refused(saved, keep):
    path = saved / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        CorruptModuleError, match=rf"expects sha256 [0-9a-f]{{64}}, got .* \({path.stat().st_size} bytes"
    ):
        PretrainedModule.load(saved, verify=False)


def test_altered_byte_is_refused(saved):
    path = saved / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptModuleError, match="truncated or altered"):
        PretrainedModule.load(saved, verify=False)


def test_weights_that_are_no_safetensors_are_refused(saved):
    import hashlib

    (saved / "weights.safetensors").write_bytes(b"nonsense")
    rewrite_card(saved, sha256=hashlib.sha256(b"nonsense").hexdigest())
    with pytest.raises(CorruptModuleError, match="no safetensors file"):
        PretrainedModule.load(saved)


def test_card_of_another_version_is_refused_naming_the_file(saved):
    rewrite_card(saved, format_version=7)
    with pytest.raises(ModuleFormatError, match=r"tiny.card\.json: field 'format_version' is 7"):
        PretrainedModule.load(saved)


def test_missing_module_and_foreign_directory(tmp_path):
    with pytest.raises(UnknownNameError, match="no module at"):
        PretrainedModule.load(tmp_path / "nothing")
    with pytest.raises(ModuleFormatError, match=r"is no module, .*card.json does not exist"):
        PretrainedModule.load(tmp_path)


def test_saving_never_replaces_what_is_no_module(module, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(StoreError, match=r"holds \['thesis.tex'\]"):
        module.save(tmp_path, overwrite=True)
    with pytest.raises(StoreError, match="is no module"):
        module.save(tmp_path / "thesis.tex", overwrite=True)
    assert (tmp_path / "thesis.tex").read_text(encoding="utf-8") == "years of work"


def test_overwriting_is_asked_for(module, make, saved):
    with pytest.raises(StoreError, match="overwrite=True"):
        module.save(saved)
    other = make(seed=1)
    other.save(saved, overwrite=True)
    assert PretrainedModule.load(saved) == other


def test_files_travel_as_bytes(module):
    contents = module.to_files()
    assert PretrainedModule.from_files(contents, source="memory") == module
    contents["weights.safetensors"] += b"x"
    with pytest.raises(CorruptModuleError, match=r"memory.weights\.safetensors"):
        PretrainedModule.from_files(contents, source="memory")


def test_double_precision_computes_in_double_precision(module, NaCl):
    torch.set_default_dtype(torch.float64)
    try:
        features = module.features([NaCl])
    finally:
        torch.set_default_dtype(torch.float32)
    assert features.dtype == np.float64
    np.testing.assert_allclose(features, module.features([NaCl]), rtol=1e-4)


def test_bundled_backbone_is_what_the_entry_point_names(module):
    assert type(module.build_backbone()) is CGCNN
    assert ModuleCard.from_json(module.card.to_json()).backbone == "cgcnn"


# --- several properties --------------------------------------------------------------------------------


def test_each_property_has_its_head_and_unit(several, NaCl, Cu):
    predicted = several.predict([NaCl, Cu])
    features = torch.from_numpy(several.features([NaCl, Cu]))
    volume, modulus = (head(features).detach().double().numpy()[:, 0] for head in several.build_head())
    np.testing.assert_allclose(predicted, np.stack([2 * volume + 10, 10 ** (0.5 * modulus + 2)], axis=1))


def test_module_of_several_properties_is_loaded_as_it_was_saved(several, NaCl, tmp_path):
    several.save(tmp_path / "two")
    loaded = PretrainedModule.load(tmp_path / "two")
    assert loaded == several
    assert loaded.verify() < 1e-5
    np.testing.assert_array_equal(loaded.predict([NaCl]), several.predict([NaCl]))


@pytest.mark.parametrize("change", [lambda values: values[:1], lambda values: [values[0], 1.01 * values[1]]])
def test_golden_outputs_hold_every_property(several, change):
    golden = copy.deepcopy(several.card.golden)
    golden[0]["prediction"] = change(golden[0]["prediction"])
    with pytest.raises(CorruptModuleError, match="golden outputs"):
        PretrainedModule(replace(several.card, golden=golden), several.weights).verify()


def test_properties_without_their_heads_are_refused(several):
    weights = {key: value for key, value in several.weights.items() if not key.startswith("head.heads.1.")}
    with pytest.raises(ArchitectureMismatchError, match=r"- heads.1.layers.0.weight 3 x 4 is missing"):
        with_weights(several, weights).build_head()
