"""Features of the 18 published extractors, against numbers that the published code gave."""

import json

import numpy as np
import pytest
import torch
from pymatgen.core import Structure

from matmosaic.backbones import structure_features
from matmosaic.graphs import CrystalGraph, GraphSettings, GraphTable
from matmosaic.graphs.neighbors import find_bonds
from matmosaic.modules.importers import import_cgcnn
from matmosaic.structures import structure_arrays

SETTINGS = GraphSettings(ties="reference")
# A tie is cut where the thirteenth neighbour is as near as the twelfth, to this many Å.
TIE = 2e-4

pytestmark = pytest.mark.filterwarnings(
    "ignore::matmosaic.exceptions.IsolatedAtomWarning", "ignore:No Pauling electronegativity"
)


@pytest.fixture(scope="module")
def reference(shared_data):
    return json.loads((shared_data / "reference" / "cgcnn_reference.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def numbers(shared_data):
    with np.load(shared_data / "reference" / "cgcnn_reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def structures(reference, shared_data):
    import gzip

    tables = {}
    found = []
    for entry in reference["structures"]:
        task = entry["task"]
        if task in reference["synthetic"]:
            found.append(Structure.from_dict(reference["synthetic"][task]))
            continue
        if task not in tables:
            with gzip.open(shared_data / "moe" / f"{task}.json.gz", "rt", encoding="utf-8") as file:
                tables[task] = json.load(file)["data"]
        found.append(Structure.from_dict(tables[task][entry["row"]][0]))
    return found


@pytest.fixture(scope="module")
def modules(numbers, shared_data):
    folder = shared_data / "moe" / "extractors"
    return [import_cgcnn(folder / f"{name}.pth.tar") for name in numbers["names"]]


def exact_distances(structure):
    """Lengths of the twelve bonds of each atom, unrounded, as one column."""
    exact = GraphSettings(ties="reference", tolerance=0.0)
    return find_bonds([structure_arrays(structure)], exact).distance.reshape(-1, 12)


def given_graph(structure, neighbors):
    """The reference's neighbours; its stored distances are rounded, so ours are taken."""
    n_atoms = len(structure)
    return CrystalGraph(
        numbers=np.array(structure.atomic_numbers),
        atom_weight=np.ones(n_atoms),
        edge_index=np.stack([np.ravel(neighbors), np.repeat(np.arange(n_atoms), 12)]),
        distance=exact_distances(structure).ravel(),
        bond_weight=np.ones(12 * n_atoms),
        n_isolated=np.zeros(1, dtype=np.int64),
    )


def errors(modules, table, expected, dtype):
    """Largest difference of features over extractors, of each structure."""
    differences = []
    for module, features in zip(modules, expected, strict=True):
        backbone = module.build_backbone().to(dtype)
        ours = structure_features(backbone, table).numpy()
        differences.append(abs(ours - features).max(axis=1))
    return np.max(differences, axis=0)


@pytest.fixture
def default_dtype(request):
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


precisions = pytest.mark.parametrize(
    ("default_dtype", "largest"),
    [(torch.float64, 1e-6), (torch.float32, 1e-4)],
    indirect=["default_dtype"],
    ids=["float64", "float32"],
)


def test_reference_is_complete(reference, numbers, structures):
    assert numbers["features"].shape == (18, len(structures), 64) == (18, 38, 64)
    assert [len(structure) for structure in structures] == [e["n_atoms"] for e in reference["structures"]]


def test_distances_are_the_references(reference, structures):
    for structure, expected in zip(structures, reference["distances"], strict=True):
        ours, theirs = exact_distances(structure), np.array(expected, dtype=float)
        real = theirs <= 8.0
        np.testing.assert_allclose(ours[real], theirs[real], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(ours[~real], 9.0)


@precisions
def test_features_on_the_references_neighbours(
    reference, numbers, structures, modules, default_dtype, largest
):
    graphs = [given_graph(s, n) for s, n in zip(structures, reference["neighbours"], strict=True)]
    table = GraphTable.from_graphs(graphs, settings=SETTINGS, compressed=False)
    assert errors(modules, table, numbers["features"], default_dtype).max() <= largest


def cuts_a_tie(structure):
    """Whether the twelfth place of some atom falls inside a shell."""
    center, _, _, distance = structure.get_neighbor_list(8.0)
    for atom in range(len(structure)):
        nearest = np.sort(distance[center == atom])[:13]
        if len(nearest) == 13 and nearest[12] - nearest[11] <= TIE:
            return True
    return False


@pytest.mark.parametrize("compressed", [True, False], ids=["compressed", "uncompressed"])
@pytest.mark.parametrize("ties", ["reference", "fractional"])
def test_features_on_our_graphs_where_no_tie_is_cut(
    reference, numbers, structures, modules, float64, ties, compressed
):
    """Equal lengths are replaced by their mean, which moves a bond by up to half the tolerance."""
    padded = [e["atoms_with_fewer_than_12_neighbours"] > 0 for e in reference["structures"]]
    rows = [
        row
        for row, structure in enumerate(structures)
        # What pads an atom is another atom in fractional graphs.
        if not cuts_a_tie(structure) and not (ties == "fractional" and padded[row])
    ]
    assert len(rows) >= 8
    settings = GraphSettings(ties=ties, tolerance=1e-6)
    table = GraphTable.from_structures([structures[row] for row in rows], settings, compressed=compressed)
    table.settings = SETTINGS  # as the modules ask for
    assert errors(modules, table, numbers["features"][:, rows], torch.float64).max() <= 1e-5


def test_features_on_our_graphs_stay_close_where_ties_are_cut(numbers, structures, modules, float64):
    """The same nearest lengths; which atoms of a tied shell are kept may differ from the reference."""
    table = GraphTable.from_structures(structures, SETTINGS)
    found = errors(modules, table, numbers["features"], torch.float64)
    assert np.median(found) <= 1e-4


def test_predictions_through_the_published_head(numbers, structures, modules, reference, float64):
    graphs = [given_graph(s, n) for s, n in zip(structures, reference["neighbours"], strict=True)]
    table = GraphTable.from_graphs(graphs, settings=SETTINGS, compressed=False)
    for module, expected in zip(modules[:4], numbers["predictions"], strict=False):
        features = structure_features(module.build_backbone().double(), table)
        scaled = module.build_head().double()(features)[:, 0].detach().numpy()
        transform = module.card.target_transform
        ours = transform["mean"] + transform["std"] * scaled
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * transform["std"])
