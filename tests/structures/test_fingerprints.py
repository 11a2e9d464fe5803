"""A fingerprint is one of the crystal, not of the cell: many random cells of it, and many other crystals."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Molecule, Structure

from matmosaic.structures import (
    composition_fingerprint,
    probable_fingerprints,
    structure_arrays,
    structure_fingerprint,
)
from matmosaic.structures.fingerprints import BIN, LENGTH, TOLERANCE, _numbers

ROWS = range(8)
NAMES = ("Cu", "Si", "NaCl", "CsCl", "ZnS", "SrTiO3", "MoS2", "TiO2")


def known(structure, other):
    """Whether one who has the first structure finds it among the hashes of the second."""
    return structure_fingerprint(other) in probable_fingerprints(structure)


def random_crystal(rng):
    """A triclinic cell of up to 12 atoms of up to 3 elements, not too close to each other."""
    lattice = Lattice.from_parameters(*rng.uniform(4, 8, 3), *rng.uniform(70, 110, 3))
    structure = Structure(lattice, [], [])
    while len(structure) < 2 or rng.random() < 0.8:
        element, place = rng.choice(["O", "Ti", "Sr"]), rng.random(3)
        alone = Structure.from_sites([*structure, *Structure(lattice, [element], [place])])
        if alone.is_valid(tol=1.2):
            structure = alone
        if len(structure) == 12:
            break
    return structure


def random_cell(structure, rng, *, size=4):
    """Another cell of the same crystal: sheared or larger, turned, moved, its atoms in another order."""
    matrix = np.zeros((3, 3))
    while not 0 < abs(round(np.linalg.det(matrix))) <= size:
        matrix = rng.integers(-2, 3, (3, 3))
    larger = structure.copy()
    larger.make_supercell(matrix, to_unit_cell=False)
    order = rng.permutation(len(larger))
    places = larger.frac_coords + rng.random(3) + rng.integers(-30, 30, (len(larger), 3))
    turned = larger.lattice.matrix @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return Structure(Lattice(turned), [larger[one].specie for one in order], places[order])


@pytest.mark.parametrize("seed", range(25))
def test_any_cell_of_a_random_crystal(seed):
    rng = np.random.default_rng(seed)
    crystal = random_crystal(rng)
    numbers = _numbers(structure_arrays(crystal))
    for _ in range(3):
        other = random_cell(crystal, rng)
        np.testing.assert_allclose(_numbers(structure_arrays(other)), numbers, atol=1e-9)
        assert known(crystal, other)
        assert composition_fingerprint(other) == composition_fingerprint(crystal)


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_any_cell_of_a_symmetric_crystal(row, crystals, rng):
    crystal = crystals[row]
    others = [
        crystal.get_primitive_structure(),
        crystal.get_reduced_structure(),
        crystal * (2, 1, 3),
        random_cell(crystal, rng),
    ]
    assert all(known(crystal, other) and known(other, crystal) for other in others)


def test_mirror_images_are_one(rng):
    crystal = random_crystal(rng)
    mirrored = Structure(Lattice(crystal.lattice.matrix * [1, 1, -1]), crystal.species, crystal.frac_coords)
    assert known(crystal, mirrored)


@pytest.mark.parametrize("digits", [4, 5, 6])
@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_rounded_coordinates(row, digits, crystals, rng):
    crystal = crystals[row].copy()
    crystal.translate_sites(range(len(crystal)), rng.random(3))
    lattice = Lattice.from_parameters(*np.round(crystal.lattice.parameters, digits))
    other = Structure(lattice, crystal.species, np.round(crystal.frac_coords, digits))
    assert known(crystal, other)
    assert known(other, crystal)


def test_text_of_a_cif(TiO2):
    text = TiO2.to(fmt="cif", significant_figures=5)
    assert known(TiO2, Structure.from_str(text, fmt="cif"))


def test_all_numbers_within_the_tolerance_are_probed(crystals, monkeypatch):
    rng, crystal = np.random.default_rng(0), crystals[7]
    numbers = _numbers(structure_arrays(crystal))
    for error, found in [(TOLERANCE, True), (BIN + 1.01 * TOLERANCE, False)]:
        for _ in range(50):
            moved = numbers + error * rng.choice([-1, 1], len(numbers)) * 0.999
            with monkeypatch.context() as patched:
                patched.setattr(
                    "matmosaic.structures.fingerprints._numbers", lambda arrays, moved=moved: moved
                )
                stored = structure_fingerprint(crystal)
            assert (stored in probable_fingerprints(crystal)) == found


def test_few_alternatives(crystals):
    counts = [len(probable_fingerprints(one)) for one in crystals]
    assert min(counts) >= 1
    assert max(counts) <= 2 ** len(_numbers(structure_arrays(crystals[0])))
    assert np.mean(counts) < 30


# --- other crystals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
@pytest.mark.parametrize(
    "strain",
    [
        np.eye(3) * 0.01,
        np.eye(3) * -0.01,
        np.diag([0.01, 0, 0]),
        np.diag([0.01, -0.01, 0]),
        np.array([[0, 0.01, 0], [0.01, 0, 0], [0, 0, 0]]),
    ],
    ids=["larger", "smaller", "longer", "plane", "shear"],
)
def test_strain_of_one_percent_makes_another_crystal(strain, row, crystals):
    crystal = crystals[row]
    strained = Lattice(crystal.lattice.matrix @ (np.eye(3) + strain))
    other = Structure(strained, crystal.species, crystal.frac_coords)
    assert not known(crystal, other)
    assert composition_fingerprint(other) == composition_fingerprint(crystal)


def carbon(name):
    if name == "diamond":
        return Structure.from_spacegroup("Fd-3m", Lattice.cubic(3.567), ["C"], [[0, 0, 0]])
    if name == "lonsdaleite":
        return Structure.from_spacegroup(
            "P6_3/mmc", Lattice.hexagonal(2.522, 4.118), ["C"], [[1 / 3, 2 / 3, 0.0625]]
        )
    return Structure.from_spacegroup(
        "P6_3/mmc", Lattice.hexagonal(2.464, 6.711), ["C", "C"], [[0, 0, 0.25], [1 / 3, 2 / 3, 0.25]]
    )


def test_polymorphs(ZnS):
    wurtzite = Structure.from_spacegroup(
        "P6_3mc",
        Lattice.hexagonal(5.409 / np.sqrt(2), 5.409 * 2 / np.sqrt(3)),  # ideal: bonds as in zinc blende
        ["Zn", "S"],
        [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.375]],
    )
    forms = [carbon("diamond"), carbon("lonsdaleite"), carbon("graphite")]
    assert len({structure_fingerprint(one) for one in forms}) == 3
    assert not known(ZnS, wurtzite)
    assert len({composition_fingerprint(one) for one in [*forms, ZnS, wurtzite]}) == 2


@pytest.mark.parametrize("carbon", [False, True], ids=["metal", "carbide"])
def test_stackings_of_close_packed_layers(carbon):
    """All bonds are equal, and most distances beyond."""
    places = {"A": (0, 0), "B": (1 / 3, 2 / 3), "C": (2 / 3, 1 / 3)}
    made = []
    for layers in ("AB", "ABC", "ABAC", "ABCB", "ABCACB", "ABABAC", "ABCBCACAB", "ABCAB"):
        sites = [("Ti", (*places[name], row / len(layers))) for row, name in enumerate(layers)]
        if carbon:
            sites += [("C", (*places[name], (row + 0.75) / len(layers))) for row, name in enumerate(layers)]
        lattice = Lattice.hexagonal(3.08, len(layers) * 3.08 * np.sqrt(2 / 3))
        made.append(Structure(lattice, *zip(*sites, strict=True)))
    different = [(a, b) for a in made for b in made if not known(a, b)]
    assert known(made[2], made[3])  # the same but for where one starts
    assert len(different) == len(made) ** 2 - len(made) - 2


def test_stackings_of_wide_layers():
    """Delafossites 2H and 3R differ in distances beyond 6 Å alone."""
    hexagonal = Lattice.hexagonal(3.24, 12.52)
    two = Structure.from_spacegroup(
        "P6_3/mmc", hexagonal, ["Sc", "Ag", "O"], [[0, 0, 0], [1 / 3, 2 / 3, 0.25], [1 / 3, 2 / 3, 0.0833]]
    )
    three = Structure.from_spacegroup(
        "R-3m",
        Lattice.hexagonal(3.24, 12.52 * 1.5),
        ["Sc", "Ag", "O"],
        [[0, 0, 0.5], [0, 0, 0], [0, 0, (0.25 - 0.0833) / 1.5]],
    )
    assert not known(two, three)


def test_isotypic_compounds_and_exchanged_elements(NaCl, ZnS, TiO2):
    other = NaCl.copy().replace_species({"Na": "K"})
    assert not known(NaCl, other)
    assert composition_fingerprint(NaCl) != composition_fingerprint(other)
    assert not known(TiO2, TiO2.copy().replace_species({"Ti": "O", "O": "Ti"}))
    # Zinc blende is the same crystal with its elements exchanged.
    assert known(ZnS, ZnS.copy().replace_species({"Zn": "S", "S": "Zn"}))


def test_order_of_elements_on_one_lattice():
    cell = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.8), ["Cu"], [[0, 0, 0]]) * (2, 2, 2)
    layers = np.round(cell.frac_coords[:, 2] * 4).astype(int)
    orders = [layers % 2 == 0, layers < 2, np.round(cell.frac_coords.sum(axis=1) * 4).astype(int) % 4 < 2]
    made = [Structure(cell.lattice, np.where(order, "Cu", "Au"), cell.frac_coords) for order in orders]
    assert len({composition_fingerprint(one) for one in made}) == 1
    assert len({structure_fingerprint(one) for one in made}) == 3


def test_random_crystals_differ():
    rng = np.random.default_rng(1)
    crystals = [random_crystal(rng) for _ in range(40)]
    for crystal in crystals[:10]:
        moved = crystal.copy()
        moved.translate_sites([0], [0.1, 0, 0], frac_coords=False)
        crystals.append(moved)
    assert len({structure_fingerprint(one) for one in crystals}) == len(crystals)


# --- vacuum and molecules ----------------------------------------------------------------------------


def test_width_of_the_vacuum_does_not_matter(MoS2):
    thinner = Lattice.hexagonal(3.160, 15.0)
    other = Structure(thinner, MoS2.species, MoS2.cart_coords, coords_are_cartesian=True)
    stacked = Structure(
        Lattice.hexagonal(3.160, 8.0), MoS2.species, MoS2.cart_coords, coords_are_cartesian=True
    )
    assert known(MoS2, other)
    assert not known(MoS2, stacked)


def test_molecules(rng):
    water = Molecule(["O", "H", "H"], [[0, 0, 0], [0.757, 0.586, 0], [-0.757, 0.586, 0]])
    turned = water.cart_coords @ np.linalg.qr(rng.normal(size=(3, 3)))[0] + [1.0, 2.0, 3.0]
    other = Molecule(["H", "O", "H"], turned[[2, 0, 1]])
    bent = Molecule(["O", "H", "H"], [[0, 0, 0], [0.757, 0.66, 0], [-0.757, 0.586, 0]])
    assert known(water, other)
    assert not known(water, bent)
    assert known(water, water.get_boxed_structure(15, 15, 15))


def test_one_atom_alone():
    argon = Molecule(["Ar"], [[0, 0, 0]])
    assert known(argon, Structure(Lattice.cubic(12.0), ["Ar"], [[0.2, 0, 0]]))


def test_form(TiO2):
    every = [structure_fingerprint(TiO2), composition_fingerprint(TiO2), *probable_fingerprints(TiO2)]
    assert {len(one) for one in every} == {LENGTH}
    assert all(set(one) <= set("0123456789abcdef") for one in every)
    assert structure_fingerprint(structure_arrays(TiO2)) == structure_fingerprint(TiO2)


def test_fingerprints_never_change(NaCl, TiO2):
    """Cards hold them: other numbers or another hash need another FINGERPRINT_SCHEME."""
    assert composition_fingerprint(NaCl) == "dcf3c2fa5783"
    assert "f74befa0d0aa" in probable_fingerprints(NaCl)
    assert "8c583b47acd8" in probable_fingerprints(TiO2)
