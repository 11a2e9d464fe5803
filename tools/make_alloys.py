"""Compute the embedded alloys data set, ``src/matmosaic/datasets/data/alloys.json.gz``.

Every crystal is an ordered arrangement of one to three of six metals. It enters with its ideal
shape, with an orthorhombic strain and with two general strains, each at a random volume, and the
effective-medium-theory (EMT) calculator of ASE labels every row at fixed fractional coordinates:

formation_energy
    eV/atom, of the cell as given, relative to the elements in fcc at zero pressure.
pressure
    GPa, of the cell as given; positive where the cell is compressed.
volume, bulk_modulus
    A^3/atom and GPa, of the cell scaled isotropically to zero pressure.
shear_modulus, vacancy_energy
    GPa and eV, of that same cell at zero pressure, for a few rows of ideal shape only.

Aluminium, the seventh metal of EMT, is left out: its interaction is still strong where the
calculator cuts it off, so that the bulk moduli of its alloys would measure the cutoff. Between
strains of 0.1 and 1.5 % they change by 8 % (root mean square), those of the other metals by 1 %.

Run ``python tools/make_alloys.py``: minutes on one core, and the same file every time.
"""

from __future__ import annotations

import gzip
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from alloy_prototypes import PROTOTYPES, crystals
from ase import Atoms
from ase.calculators.emt import EMT
from ase.geometry import minkowski_reduce
from ase.units import GPa
from scipy.optimize import brentq

logger = logging.getLogger("make_alloys")

OUTPUT = Path(__file__).parents[1] / "src/matmosaic/datasets/data/alloys.json.gz"
SEED = 20240601
ELEMENT_REPEATS = 2  # the few crystals of one element enter with more strains
MAX_LENGTH_CHANGE = 0.025  # of the lattice parameter at zero pressure
MAX_STRAIN = 0.03  # of each component of the shape
MAX_FORMATION_ENERGY = 0.5  # eV/atom at zero pressure; crystals above it are left out
FREE_COMPONENTS = (0, 3, 6, 6)  # of the strains of each crystal: ideal, orthorhombic, general
SCARCE_ROWS = 300
BRACKET = 1.02  # growth of the interval in which the length at zero pressure is sought
STEP = 1e-3  # relative change of length in finite differences
SUPERCELL_WIDTH = 11.8  # A, twice the reach of EMT: no atom notices two vacancies

SOURCE = ("formation_energy", "pressure", "volume", "bulk_modulus")
SCARCE = ("shear_modulus", "vacancy_energy")
IDEAL = (0.0,) * 6


@dataclass
class Row:
    """One crystal: what rebuilds its structure, and its labels."""

    prototype: str
    elements: tuple[str, ...]
    length: float  # lattice parameter before the strain, A
    strain: Sequence[float]  # xx, yy, zz, yz, xz, xy
    labels: dict[str, float] = field(default_factory=dict)

    def atoms(self) -> Atoms:
        """Return the cell as given."""
        return build(self.prototype, self.elements, self.length, self.strain)


def build(name: str, elements: tuple[str, ...], length: float, strain: Sequence[float]) -> Atoms:
    """Return the crystal with a lattice parameter in A and a strain (xx, yy, zz, yz, xz, xy)."""
    letters, coordinates = PROTOTYPES[name].parsed_sites()
    symbols = [elements["ABC".index(letter)] for letter in letters]
    cell = length * np.asarray(PROTOTYPES[name].lattice, dtype=float)
    atoms = with_emt(Atoms(symbols, scaled_positions=coordinates, cell=cell, pbc=True))
    return strained(atoms, strain)


def with_emt(atoms: Atoms) -> Atoms:
    """Return a copy of the atoms that EMT computes."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    return atoms


def strained(atoms: Atoms, strain: Sequence[float]) -> Atoms:
    """Return the atoms after a symmetric strain (xx, yy, zz, yz, xz, xy)."""
    xx, yy, zz, yz, xz, xy = strain
    deformed = with_emt(atoms)
    change = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    deformed.set_cell(atoms.cell.array @ (np.eye(3) + change), scale_atoms=True)
    return deformed


def scaled(atoms: Atoms, factor: float) -> Atoms:
    """Return the atoms with every length multiplied by a factor."""
    return strained(atoms, [factor - 1] * 3 + [0.0] * 3)


def pressure(atoms: Atoms) -> float:
    """Return minus a third of the trace of the stress, in GPa."""
    return -float(atoms.get_stress()[:3].mean()) / GPa


def at_zero_pressure(atoms: Atoms) -> Atoms:
    """Return the atoms scaled isotropically to the nearest zero of the pressure."""

    def pressure_at(factor: float) -> float:
        return pressure(scaled(atoms, factor))

    growth = BRACKET if pressure_at(1.0) > 0 else 1 / BRACKET
    end = growth
    while pressure_at(end) * (growth - 1) > 0:
        end *= growth
    return scaled(atoms, brentq(pressure_at, end / growth, end, xtol=1e-10))


def bulk_modulus(relaxed: Atoms) -> float:
    """Return -V dP/dV in GPa, for cells that stay similar to the given one."""
    change = pressure(scaled(relaxed, 1 - STEP)) - pressure(scaled(relaxed, 1 + STEP))
    return change / (6 * STEP)


def energy_per_atom(atoms: Atoms) -> float:
    """Return the energy in eV/atom."""
    return atoms.get_potential_energy() / len(atoms)


@cache
def reference(element: str) -> Atoms:
    """Return the element in fcc at zero pressure."""
    return at_zero_pressure(build("fcc", (element,), 4.0, IDEAL))


def chemical_potential(element: str) -> float:
    """Return the energy of the element in fcc at zero pressure, in eV/atom."""
    return energy_per_atom(reference(element))


def formation_energy(atoms: Atoms) -> float:
    """Return the energy relative to the fcc elements, in eV/atom."""
    return energy_per_atom(atoms) - float(np.mean([chemical_potential(s) for s in atoms.symbols]))


def elastic_tensor(relaxed: Atoms) -> np.ndarray:
    """Return the clamped-ion response of the stress to strains, shape (6, 6), in GPa."""
    columns = []
    for i in range(6):
        strain = np.zeros(6)
        strain[i] = STEP if i < 3 else STEP / 2  # Voigt's shear strains count both halves
        change = strained(relaxed, strain).get_stress() - strained(relaxed, -strain).get_stress()
        columns.append(change / (2 * STEP * GPa))
    return np.transpose(columns)


def shear_modulus(relaxed: Atoms) -> float:
    """Return Voigt's average shear modulus in GPa."""
    c = elastic_tensor(relaxed)
    stretch, shear = np.trace(c[:3, :3]), np.trace(c[3:, 3:])
    coupling = (c[:3, :3].sum() - stretch) / 2
    return float(stretch - coupling + 3 * shear) / 15


def supercell(atoms: Atoms) -> Atoms:
    """Return the smallest repetition whose images are SUPERCELL_WIDTH apart."""
    reduced, _ = minkowski_reduce(atoms.cell)
    steps = np.array([step for step in product(range(-2, 3), repeat=3) if any(step)])
    fits = [
        (np.prod(counts), counts)
        for counts in product(range(1, 9), repeat=3)
        if np.linalg.norm(steps * counts @ reduced, axis=1).min() >= SUPERCELL_WIDTH
    ]
    primitive = with_emt(atoms)
    primitive.set_cell(reduced)
    return with_emt(primitive.repeat(min(fits)[1]))


def vacancy_energy(relaxed: Atoms) -> float:
    """Return the lowest energy in eV at which any atom can be removed.

    The atom goes to a reservoir of its fcc element and no neighbour moves. Atoms of one element
    and one energy are taken for equivalent, and one of them is removed.
    """
    perfect = supercell(relaxed)
    total, energies = perfect.get_potential_energy(), perfect.get_potential_energies().round(7)
    found: dict[tuple[str, float], float] = {}
    for i in range(len(relaxed)):
        site = perfect[i].symbol, energies[i]
        if site not in found:
            rest = with_emt(perfect)
            del rest[i]
            found[site] = rest.get_potential_energy() - total + chemical_potential(site[0])
    return min(found.values())


def source_labels(atoms: Atoms) -> dict[str, float]:
    """Return the labels that every row has."""
    relaxed = at_zero_pressure(atoms)
    return {
        "formation_energy": formation_energy(atoms),
        "pressure": pressure(atoms),
        "volume": relaxed.get_volume() / len(relaxed),
        "bulk_modulus": bulk_modulus(relaxed),
    }


def scarce_labels(atoms: Atoms) -> dict[str, float]:
    """Return the labels that few rows have."""
    relaxed = at_zero_pressure(atoms)
    return {"shear_modulus": shear_modulus(relaxed), "vacancy_energy": vacancy_energy(relaxed)}


def ideal_crystal(prototype: str, elements: tuple[str, ...]) -> Row:
    """Return the unstrained crystal at zero pressure, with its formation energy."""
    guess = build(prototype, elements, 1.0, IDEAL)
    volume = sum(reference(symbol).get_volume() for symbol in guess.symbols)
    length = (volume / guess.get_volume()) ** (1 / 3)
    relaxed = at_zero_pressure(build(prototype, elements, length, IDEAL))
    length *= (relaxed.get_volume() / volume) ** (1 / 3)
    labels = {"formation_energy": formation_energy(relaxed), "bulk_modulus": bulk_modulus(relaxed)}
    return Row(prototype, elements, length, IDEAL, labels)


def rejection(crystal: Row) -> str | None:
    """Return why the unstrained crystal is left out, or None."""
    if crystal.labels["bulk_modulus"] <= 0:
        return "bulk modulus not positive"
    if crystal.labels["formation_energy"] > MAX_FORMATION_ENERGY:
        return f"formation energy above {MAX_FORMATION_ENERGY} eV/atom"
    return None


def variants(crystal: Row, random: np.random.Generator) -> Iterator[Row]:
    """Yield the crystal with ideal and with strained shapes, each at a random volume."""
    repeats = ELEMENT_REPEATS if len(crystal.elements) == 1 else 1
    for _, free_components in product(range(repeats), FREE_COMPONENTS):
        shape = random.uniform(-MAX_STRAIN, MAX_STRAIN, 6) * (np.arange(6) < free_components)
        shape[:3] -= shape[:3].mean()  # the volume changes through the length alone
        length = crystal.length * (1 + random.uniform(-MAX_LENGTH_CHANGE, MAX_LENGTH_CHANGE))
        strain = tuple(float(x) for x in shape.round(4))
        yield Row(crystal.prototype, crystal.elements, round(length, 4), strain)


def make_rows() -> list[Row]:
    """Return every row with its source labels."""
    random = np.random.default_rng(SEED)
    candidates = [ideal_crystal(*crystal) for crystal in crystals()]
    reasons = Counter(rejection(crystal) for crystal in candidates)
    logger.info("%d crystals; kept and left out: %s", len(candidates), dict(reasons))
    kept = [crystal for crystal in candidates if rejection(crystal) is None]
    rows = [row for crystal in kept for row in variants(crystal, random)]
    for row in rows:
        row.labels = source_labels(row.atoms())
    return rows


def draw_evenly(rows: list[Row], random: np.random.Generator) -> list[Row]:
    """Return one row of ideal shape per crystal, in random order, prototype after prototype."""
    ideal = {(row.prototype, row.elements): row for row in rows if not any(row.strain)}
    drawn = [list(ideal.values())[i] for i in random.permutation(len(ideal))]
    so_far: Counter[str] = Counter()
    turns = []
    for row in drawn:
        so_far[row.prototype] += 1
        turns.append(so_far[row.prototype])
    return [drawn[i] for i in np.argsort(turns, kind="stable")]


def add_scarce_labels(rows: list[Row]) -> None:
    """Label SCARCE_ROWS rows with the scarce properties, of which the shear modulus is positive."""
    skipped = labelled = 0
    for row in draw_evenly(rows, np.random.default_rng(SEED + 1)):
        labels = scarce_labels(row.atoms())
        if labels["shear_modulus"] <= 0:
            skipped += 1
            continue
        row.labels |= labels
        labelled += 1
        if labelled == SCARCE_ROWS:
            break
    logger.info("%d rows with scarce labels; %d skipped as unstable", labelled, skipped)


def rounded(value: float | None) -> float | None:
    """Return six significant digits, at most six of them decimals."""
    return None if value is None else round(float(f"{value:.6g}"), 6)


def as_document(rows: list[Row]) -> dict:
    """Return the prototypes once, and the rows column by column."""
    prototypes = {}
    for name in dict.fromkeys(row.prototype for row in rows):
        letters, coordinates = PROTOTYPES[name].parsed_sites()
        prototypes[name] = {
            "lattice": PROTOTYPES[name].lattice,
            "letters": "".join(letters),
            "coordinates": coordinates,
        }
    columns = {
        "prototype": [row.prototype for row in rows],
        "elements": ["-".join(row.elements) for row in rows],
        "length": [row.length for row in rows],
        "strain": [row.strain for row in rows],
    }
    labels = {name: [rounded(row.labels.get(name)) for row in rows] for name in SOURCE + SCARCE}
    return {"prototypes": prototypes, "rows": columns, "labels": labels}


def write(document: dict, path: Path) -> None:
    """Write compressed JSON without a time stamp, so that equal data are equal bytes."""
    text = json.dumps(document, separators=(",", ":"))
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(text.encode())
    logger.info("%s: %d kB", path.name, path.stat().st_size // 1000)


def log_quantiles(document: dict) -> None:
    """Log how each label is distributed."""
    for name, values in document["labels"].items():
        known = np.array([value for value in values if value is not None])
        quantiles = np.quantile(known, [0, 0.01, 0.25, 0.5, 0.75, 0.99, 1]).round(4)
        logger.info("%s: %d rows, quantiles %s", name, len(known), quantiles)


def main() -> None:
    """Make the data set and report on it."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = make_rows()
    add_scarce_labels(rows)
    document = as_document(rows)
    log_quantiles(document)
    write(document, OUTPUT)


if __name__ == "__main__":
    main()
