"""Parity with the published network, and the reading of its weights."""

import numpy as np
import pytest
import torch
from matmosaic_chgnet.published import UNUSED, WEIGHT_SETS, key_map, read_state, translate, weights_folder

from matmosaic import load_module, read_structures
from matmosaic.backbones import make_table, structure_features
from matmosaic.exceptions import ArchitectureMismatchError, CorruptModuleError, StoreError

chgnet = pytest.importorskip("chgnet", reason="needs the package chgnet")
NAMES = sorted(WEIGHT_SETS)
# How chgnet collects volumes, of which nothing depends here.
pytestmark = pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True:UserWarning")


def published_features(network, structure):
    """Features as ours, and the total energy per atom at the end."""
    row = network.predict_structure(structure, task="e", return_atom_feas=True, return_crystal_feas=True)
    atoms = row["atom_fea"]
    crystal = row["crystal_fea"] / len(atoms)
    return np.concatenate([crystal, atoms.mean(0), atoms.std(0), atoms.max(0), [row["e"]]])


def reference_energy(network, structure):
    """What the published network adds per atom for the composition."""
    with torch.no_grad():
        return float(network.composition_model([network.graph_converter(structure)]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("compress", [True, False])
def test_features_and_energies_are_the_published_ones(published, crystals, name, compress):
    network, backbone = published(name), load_module(f"chgnet:{name}").build_backbone()
    found = structure_features(backbone, make_table(backbone, crystals, compress=compress)).numpy()
    expected = np.array([published_features(network, crystal) for crystal in crystals])
    expected[:, -1] -= [reference_energy(network, crystal) for crystal in crystals]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("task", ["jarvis_2d_exfoliation", "mp_phonons", "piezoelectric_tensor"])
def test_features_of_real_crystals_are_the_published_ones(published, shared_data, task):
    structures = read_structures(shared_data / "moe" / f"{task}.json.gz", target=task)[0][:10]
    network, module = published("0.3.0"), load_module("chgnet:0.3.0")
    expected = np.array([published_features(network, structure) for structure in structures])
    expected[:, -1] -= [reference_energy(network, structure) for structure in structures]
    # The largest features are 16: a relative 1e-6 is the rounding of single precision.
    np.testing.assert_allclose(module.features(structures), expected, rtol=1e-6, atol=1e-4)


def test_module_predicts_the_energy_relative_to_the_reference(published, crystals):
    network, module = published("0.3.0"), load_module("chgnet:0.3.0")
    expected = [
        float(network.predict_structure(crystal, task="e")["e"]) - reference_energy(network, crystal)
        for crystal in crystals
    ]
    np.testing.assert_allclose(module.predict(crystals), expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_published_weight_is_read_once_or_known_to_be_unused(name):
    state = read_state(weights_folder() / WEIGHT_SETS[name].file)
    sources = key_map(WEIGHT_SETS[name].options).values()
    parts = [(names, source.part) for source in sources for names in source.names]
    assert len(parts) == len(set(parts))
    read = {names for names, _ in parts}
    assert read == {key for key in state if not key.startswith(UNUSED)}


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_of_another_architecture_are_refused(change):
    state = read_state(weights_folder() / WEIGHT_SETS["0.3.0"].file)
    if change == "missing":
        del state["readout_norm.bias"]
    else:
        state["readout_norm.shift"] = torch.zeros(1)
    with pytest.raises(ArchitectureMismatchError, match=rf"(?i){change}: \['readout_norm"):
        translate(state, {}, source="a file")


def test_damaged_and_absent_files_are_named(tmp_path):
    with pytest.raises(StoreError, match=r"absent.pth.tar cannot be read"):
        read_state(tmp_path / "absent.pth.tar")
    content = (weights_folder() / WEIGHT_SETS["0.3.0"].file).read_bytes()
    (tmp_path / "cut.pth.tar").write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptModuleError, match=r"cut.pth.tar is truncated"):
        read_state(tmp_path / "cut.pth.tar")


def test_absent_package_is_named(monkeypatch):
    monkeypatch.setattr("matmosaic_chgnet.published.find_spec", lambda _: None)
    with pytest.raises(StoreError, match="pip install chgnet"):
        weights_folder()
