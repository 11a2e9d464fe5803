"""One row of ``X``, in any of the accepted forms, becomes a pymatgen `Structure` or `Molecule`.

Only `as_structures` and the readers of data files call this. Dictionaries are taken apart here rather than
by monty, which imports whatever module a dictionary names; so only geometry and species are read, neither
charges nor site properties.
"""

from __future__ import annotations

import gzip
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matmosaic.exceptions import InvalidStructuresError, StructureTypeError, UnsupportedElementError

if TYPE_CHECKING:
    from pymatgen.core import Composition, Lattice, Molecule, Structure

ACCEPTED_ROWS = (
    "pymatgen Structure or Molecule, ASE Atoms, dict as of `Structure.as_dict()`, path of a CIF or POSCAR "
    "file, or CIF, POSCAR or JSON text"
)
FLAT_KEYS = frozenset({"lattice", "species", "frac_coords"})
_CIF = (".cif", ".mcif")
_POSCAR = ("poscar", "contcar", ".vasp")
_XYZ = (".xyz", ".extxyz")
_YAML = (".yaml", ".yml", ".mson")


def convert_row(row: Any) -> Structure | Molecule:
    """Return the structure that ``row`` stands for; a `Structure` or `Molecule` is returned as it is.

    Parameters
    ----------
    row : Structure, Molecule, Atoms, dict, str or Path
        See `as_structures`.

    Returns
    -------
    Structure or Molecule
        Readable, but not yet checked.

    Raises
    ------
    InvalidStructuresError
        If the row cannot be read. The message continues a sentence that names the row.
    """
    from pymatgen.core import IMolecule, IStructure, Molecule, Structure

    match row:
        case Structure() | Molecule():
            return row
        case IStructure():
            return Structure.from_sites(row.sites)
        case IMolecule():
            return Molecule.from_sites(row.sites)
        case Mapping():
            return _guarded(_from_dict, row, "is a dict that cannot be read as a structure")
        case Path():
            return _from_path(row)
        case str():
            return _from_string(row)
    if is_ase(row, "Atoms"):
        return _guarded(_from_ase, row, "is an ASE Atoms that cannot be turned into a structure")
    raise StructureTypeError(f"is of type {type(row).__name__}; expected {ACCEPTED_ROWS}.")


def is_ase(value: Any, name: str) -> bool:
    """Whether ``value`` is an object of the ASE class ``Atoms`` or ``Atom``; does not import ASE."""
    ase = sys.modules.get("ase")
    return ase is not None and isinstance(value, getattr(ase, name))


def _guarded(convert: Callable[[Any], Any], row: Any, complaint: str) -> Any:
    """Convert, and turn whatever a reader raises into an error of the row."""
    try:
        return convert(row)
    except InvalidStructuresError:
        raise
    except Exception as error:
        # Readers of other libraries raise anything, from IndexError to bare Warnings.
        reason = " ".join(str(error).split()) or "no reason given"
        raise InvalidStructuresError(f"{complaint} ({type(error).__name__}: {reason}).") from error


# --- dictionaries ------------------------------------------------------------------------------------


def _from_dict(row: Mapping[str, Any]) -> Structure | Molecule:
    from pymatgen.core import Lattice, Molecule, Structure

    if "sites" not in row:
        return _from_flat_dict(row)
    species = [_read_species(site["species"]) for site in row["sites"]]
    if _is_molecule(row):
        return Molecule(species, [site["xyz"] for site in row["sites"]])
    lattice = Lattice.from_dict(row["lattice"])
    return Structure(lattice, species, [site["abc"] for site in row["sites"]])


def _is_molecule(row: Mapping[str, Any]) -> bool:
    """Decide by the class name that monty writes; files from elsewhere may leave it out."""
    name = row.get("@class", "Structure" if "lattice" in row else "Molecule")
    if name in {"Molecule", "IMolecule"}:
        return True
    if "lattice" in row:  # also Slab, Interface and other subclasses: only their crystal matters here
        return False
    raise InvalidStructuresError(
        f"is a dict of @class {name!r}; expected one written by `as_dict()` of a Structure or Molecule."
    )


def _from_flat_dict(row: Mapping[str, Any]) -> Structure:
    from pymatgen.core import Structure

    if missing := sorted(FLAT_KEYS - row.keys()):
        raise InvalidStructuresError(
            f"is a dict without {', '.join(map(repr, missing))}; expected the form of `Structure.as_dict()` "
            "or the keys 'lattice', 'species' and 'frac_coords'."
        )
    species = [_read_species([{"element": name, "occu": 1}]) for name in row["species"]]
    return Structure(_read_lattice(row["lattice"]), species, row["frac_coords"])


def _read_lattice(lattice: Any) -> Lattice:
    from pymatgen.core import Lattice

    return Lattice.from_dict(dict(lattice)) if isinstance(lattice, Mapping) else Lattice(lattice)


def _read_species(entries: Sequence[Mapping[str, Any]]) -> Composition:
    from pymatgen.core import Composition, get_el_sp

    amounts: dict[Any, float] = {}
    for entry in entries:
        name = str(entry["element"])
        if (charge := entry.get("oxidation_state")) is not None:
            name += f"{abs(charge):g}{'-' if charge < 0 else '+'}"
        try:
            species = get_el_sp(name)
        except ValueError as error:
            raise UnsupportedElementError(f"names {name!r}, which is no element.") from error
        amounts[species] = amounts.get(species, 0.0) + entry["occu"]
    return Composition(amounts)


# --- ASE ---------------------------------------------------------------------------------------------


def _from_ase(atoms: Any) -> Structure | Molecule:
    from pymatgen.core import Lattice, Molecule, Structure

    if not all(atoms.numbers):
        raise UnsupportedElementError("has atoms of number 0 ('X'), which is no element; replace them.")
    if not atoms.pbc.any():
        return Molecule(atoms.numbers.tolist(), atoms.positions)
    if np.any(atoms.pbc & ~atoms.cell.any(axis=1)):
        raise InvalidStructuresError(
            "is periodic along a cell vector of length zero; set the cell or switch off `pbc` there."
        )
    # Directions without periodicity may have no cell vector; any independent one serves.
    lattice = Lattice(atoms.cell.complete().array, pbc=tuple(atoms.pbc.tolist()))
    return Structure(lattice, atoms.numbers.tolist(), atoms.positions, coords_are_cartesian=True)


# --- text and files ----------------------------------------------------------------------------------


def is_structure_file(name: str) -> bool:
    """Whether a file of that name holds one CIF or POSCAR, packed by gzip or not."""
    name = name.lower().removesuffix(".gz")
    return name.endswith(_CIF) or any(word in name for word in _POSCAR)


def _from_string(text: str) -> Structure | Molecule:
    if text.lstrip().startswith("{"):
        return _guarded(lambda row: _from_dict(json.loads(row)), text, "is JSON of no structure")
    if "\n" in text:
        return _guarded(_from_text, text, "is text that cannot be read as CIF or POSCAR")
    return _from_path(Path(text))


def _from_path(path: Path) -> Structure | Molecule:
    try:
        return _guarded(_read_file, path, "cannot be read as one structure")
    except InvalidStructuresError as error:
        raise type(error)(f"names the file {str(path)!r}, which {error}") from error


def _read_file(path: Path) -> Structure | Molecule:
    from pymatgen.core import Structure

    if not path.is_file():
        raise InvalidStructuresError("is a folder, not a file." if path.is_dir() else "does not exist.")
    name = path.name.lower().removesuffix(".gz")
    if any(ending in name for ending in _YAML):
        raise InvalidStructuresError("is YAML, which is not read; save it as JSON or CIF.")
    if ".json" in name:  # wherever in the name, since pymatgen would decode it with monty
        return _from_dict(json.loads(_read_text(path)))
    if name.endswith(_XYZ):
        return _from_xyz(path)
    if is_structure_file(name):
        return _from_text(_read_text(path))
    return Structure.from_file(path)


def _read_text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix.lower() == ".gz" else data).decode("utf-8-sig")


def _from_xyz(path: Path) -> Structure | Molecule:
    from ase.io import read

    frames = read(path, index=":")
    if len(frames) != 1:
        raise InvalidStructuresError(f"holds {len(frames)} structures; read it with `read_structures`.")
    return _from_ase(frames[0])


def _from_text(text: str) -> Structure:
    starts = (line.lstrip().lower() for line in text.splitlines())
    is_cif = any(start.startswith(("data_", "_cell_")) for start in starts)
    return _from_cif(text) if is_cif else _from_poscar(text)


def _from_cif(text: str) -> Structure:
    from pymatgen.io.cif import CifParser

    structures = CifParser.from_str(text).parse_structures(primitive=False, on_error="raise")
    if len(structures) != 1:
        raise InvalidStructuresError(
            f"is CIF text of {len(structures)} structures; give each a row of its own."
        )
    return structures[0]


def _from_poscar(text: str) -> Structure:
    from pymatgen.io.vasp import Poscar

    with warnings.catch_warnings():
        # An old POSCAR names no elements; pymatgen would warn and take hydrogen, helium, lithium ...
        warnings.filterwarnings("error", message="Elements in POSCAR cannot be determined")
        return Poscar.from_str(text).structure
