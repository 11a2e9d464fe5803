"""Many graphs as one table; a batch is a selection of rows."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from matmosaic.exceptions import DataFileError
from matmosaic.graphs.build import build_graphs
from matmosaic.graphs.crystal_graph import CrystalGraph
from matmosaic.graphs.derived_angles import derive_angles
from matmosaic.graphs.settings import GraphSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

# What the rows of a field are: a batch gathers a field along the rows of its level.
FIELD_LEVELS = {
    "z": "atom",
    "atom_weight": "atom",
    "x": "atom",
    "edge_index": "bond",
    "distance": "bond",
    "bond_weight": "bond",
    "vector": "bond",
    "edge_attr": "bond",
    "reverse": "bond",
    "angle_index": "angle",
    "cosine": "angle",
    "angle_weight": "angle",
    "angle_attr": "angle",
    "u": "structure",
}
# Fields that hold row numbers of another level, counted within each structure.
INDICES = {"edge_index": "atom", "angle_index": "bond", "reverse": "bond"}
FORMAT = "matmosaic.GraphTable/1"


class GraphTable:
    """The graphs of many structures as a structure of arrays.

    Fields of all structures lie one after another; row pointers say where each structure starts.
    A batch is :meth:`select`, a few gathers on the device that holds the table, and what it
    returns is an ordinary PyG batch.

    Parameters
    ----------
    pointers : mapping of str to LongTensor of shape (n_structures + 1,)
        Row pointers of the levels ``"atom"``, ``"bond"`` and, where graphs keep angles, ``"angle"``.
    fields : mapping of str to Tensor
        ``z`` atomic numbers (n_atoms,), ``atom_weight`` (n_atoms,), ``edge_index`` (2, n_bonds)
        counted within each structure, ``distance`` in Å (n_bonds,), ``bond_weight`` (n_bonds,);
        with angles ``angle_index`` (2, n_angles), ``cosine`` and ``angle_weight`` (n_angles,), or, if
        the graphs are not compressed and all bonds make angles, ``vector`` in Å (n_bonds, 3), of which
        each batch derives them; in undirected graphs ``reverse`` (n_bonds,); features ``x``,
        ``edge_attr`` and ``u`` once a trunk has been run.
    settings : GraphSettings
        How the graphs were built.
    compressed : bool
        Whether one atom and bond of each class stands for all.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
    >>> salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], sites)
    >>> table = GraphTable.from_structures([salt, salt])
    >>> len(table), table.n_atoms, table.n_bonds
    (2, 4, 8)
    >>> table.select([1]).atom_weight
    tensor([4., 4.])
    """

    def __init__(
        self,
        pointers: Mapping[str, Tensor],
        fields: Mapping[str, Tensor],
        *,
        settings: GraphSettings,
        compressed: bool,
    ) -> None:
        self.pointers = dict(pointers)
        self.fields = dict(fields)
        self.settings = settings
        self.compressed = compressed

    @classmethod
    def from_structures(
        cls,
        structures: Any,
        settings: Any = None,
        *,
        compressed: bool = True,
        n_jobs: int | None = None,
        memory: Any = None,
    ) -> GraphTable:
        """Build the table of some structures.

        Parameters
        ----------
        structures : structures, length n_structures
            Anything that :func:`~matmosaic.structures.as_structures` takes.
        settings : GraphSettings or Backbone, optional
            The settings, or a backbone that has them as ``graph_settings``.
        compressed : bool, default=True
            Keep one atom and bond of each class.
        n_jobs : int, optional
            Processes that build graphs.
        memory : None, str, path-like or joblib.Memory, optional
            Where graphs are kept beside this process.

        Returns
        -------
        GraphTable
            Floating-point fields have torch's default dtype.
        """
        compressed = compressed and getattr(settings, "supports_weights", True)
        settings = getattr(settings, "graph_settings", settings) or GraphSettings()
        graphs = build_graphs(structures, settings, compressed=compressed, n_jobs=n_jobs, memory=memory)
        return cls.from_graphs(graphs, settings=settings, compressed=compressed)

    @classmethod
    def from_graphs(
        cls, graphs: Sequence[CrystalGraph], *, settings: GraphSettings, compressed: bool
    ) -> GraphTable:
        """Join graphs that are already built."""
        dtype = torch.get_default_dtype()
        pointers = {
            "atom": _pointer(len(graph.numbers) for graph in graphs),
            "bond": _pointer(len(graph.distance) for graph in graphs),
        }
        fields = {
            "z": _joined([graph.numbers for graph in graphs]),
            "atom_weight": _joined([graph.atom_weight for graph in graphs]).to(dtype),
            "edge_index": _joined([graph.edge_index for graph in graphs], axis=1),
            "distance": _joined([graph.distance for graph in graphs]).to(dtype),
            "bond_weight": _joined([graph.bond_weight for graph in graphs]).to(dtype),
        }
        if settings.undirected:
            fields["reverse"] = _joined([graph.reverse for graph in graphs])
        if settings.angles and (compressed or settings.angle_cutoff is not None):
            pointers["angle"] = _pointer(len(graph.cosine) for graph in graphs)
            fields["angle_index"] = _joined([graph.angle_index for graph in graphs], axis=1)
            fields["cosine"] = _joined([graph.cosine for graph in graphs]).to(dtype)
            fields["angle_weight"] = _joined([graph.angle_weight for graph in graphs]).to(dtype)
        elif settings.angles:
            fields["vector"] = _joined([graph.vector for graph in graphs]).to(dtype)
        return cls(pointers, fields, settings=settings, compressed=compressed)

    def __len__(self) -> int:
        return len(self.pointers["atom"]) - 1

    @property
    def shape(self) -> tuple[int]:
        """``(n_structures,)``; lets scikit-learn index a table like an array."""
        return (len(self),)

    @property
    def n_atoms(self) -> int:
        """Number of rows of the atom fields."""
        return int(self.pointers["atom"][-1])

    @property
    def n_bonds(self) -> int:
        """Number of rows of the bond fields."""
        return int(self.pointers["bond"][-1])

    def n_rows(self, name: str) -> int:
        """Return the number of rows that a field of this name has."""
        level = FIELD_LEVELS[name]
        return len(self) if level == "structure" else int(self.pointers[level][-1])

    @property
    def device(self) -> torch.device:
        """Where the table lies."""
        return self.pointers["atom"].device

    @property
    def nbytes(self) -> int:
        """Memory of all fields in bytes."""
        return sum(tensor.nbytes for tensor in [*self.pointers.values(), *self.fields.values()])

    def to(self, device: torch.device | str | None = None) -> GraphTable:
        """Return the table on another device."""
        return GraphTable(
            {name: pointer.to(device) for name, pointer in self.pointers.items()},
            {name: values.to(device) for name, values in self.fields.items()},
            settings=self.settings,
            compressed=self.compressed,
        )

    def with_features(self, *, keep: Iterable[str] | None = None, **features: Tensor) -> GraphTable:
        """Return a table with added or replaced fields.

        Parameters
        ----------
        keep : iterable of str, optional
            Names of present fields to keep; all when None.
        **features : Tensor
            New values; as many rows as the field's level has.

        Returns
        -------
        GraphTable
            Shares memory with this one where fields are kept.
        """
        kept = self.fields if keep is None else {name: self.fields[name] for name in keep}
        return GraphTable(
            self.pointers, {**kept, **features}, settings=self.settings, compressed=self.compressed
        )

    def select(self, rows: Sequence[int] | np.ndarray | Tensor) -> Batch:
        """Return the graphs of some rows as a PyG batch.

        Parameters
        ----------
        rows : ints of shape (n_rows,)
            In any order; repeats are allowed.

        Returns
        -------
        torch_geometric.data.Batch
            With ``batch`` and ``ptr`` as PyG has them, on the table's device.
        """
        return self.at(rows).batch()

    def at(self, rows: Sequence[int] | np.ndarray | Tensor) -> Selection:
        """Return where the graphs of some rows are, to gather from fields that lie beside this table."""
        return Selection(self, torch.as_tensor(rows, dtype=torch.long, device=self.device))

    def __getitem__(self, rows: Any) -> GraphTable:
        """Return the table of some rows: a slice, a mask or row numbers."""
        if isinstance(rows, tuple):  # scikit-learn indexes arrays with ``(rows, ...)``.
            rows = rows[0]
        chosen = np.ascontiguousarray(np.arange(len(self))[rows]).reshape(-1)  # torch takes no stride < 0
        selection = self.at(chosen)
        pointers = {level: one.pointer for level, one in selection.taken.items()}
        fields = {name: selection.gather(name, values) for name, values in self.fields.items()}
        return GraphTable(pointers, fields, settings=self.settings, compressed=self.compressed)

    def save(self, path: str | Path) -> None:
        """Write the table to one safetensors file, all or nothing."""
        from safetensors.torch import save_file

        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")

        tensors = {f"pointer.{name}": value.cpu().contiguous() for name, value in self.pointers.items()}
        tensors |= {f"field.{name}": value.cpu().contiguous() for name, value in self.fields.items()}
        about = {"format": FORMAT, "settings": json.dumps(self.settings.to_dict())}
        try:
            save_file(tensors, unfinished, metadata={**about, "compressed": json.dumps(self.compressed)})
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> GraphTable:
        """Read a table that :meth:`save` wrote.

        Raises
        ------
        DataFileError
            If the file is not such a table.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except SafetensorError as error:
            raise DataFileError(
                f"{path} is no graph table: {error}. Write one with GraphTable.save."
            ) from error
        if about.get("format") != FORMAT:
            raise DataFileError(f"{path} has format {about.get('format')!r}; expected {FORMAT!r}.")
        groups: dict[str, dict[str, Tensor]] = {"pointer": {}, "field": {}}
        for name, tensor in tensors.items():
            group, _, key = name.partition(".")
            groups[group][key] = tensor
        settings = GraphSettings.from_dict(json.loads(about["settings"]))
        return cls(
            groups["pointer"], groups["field"], settings=settings, compressed=json.loads(about["compressed"])
        )

    def __repr__(self) -> str:
        kind = "compressed" if self.compressed else "uncompressed"
        return (
            f"GraphTable({len(self)} structures, {self.n_atoms} atoms, {self.n_bonds} bonds, {kind}, "
            f"fields={sorted(self.fields)}, device={str(self.device)!r})"
        )


class Selection:
    """Some rows of a table, at every level.

    Parameters
    ----------
    table : GraphTable
        What is selected from.
    rows : LongTensor of shape (n_rows,)
        In any order; repeats are allowed.
    """

    def __init__(self, table: GraphTable, rows: Tensor) -> None:
        self.table = table
        self.rows = rows
        self.taken = {level: _Rows(pointer, rows) for level, pointer in table.pointers.items()}

    def gather(self, name: str, values: Tensor) -> Tensor:
        """Return the part of a field's values, of as many rows as the table's, that is selected."""
        level = FIELD_LEVELS[name]
        index = self.rows if level == "structure" else self.taken[level].index
        return values.index_select(values.dim() - 1 if name in INDICES else 0, index)

    def batch(self) -> Batch:
        """Return the selected graphs as a PyG batch."""
        fields = {name: self.gather(name, values) for name, values in self.table.fields.items()}
        for name, level in INDICES.items():
            if name in fields:
                shift = self.taken[FIELD_LEVELS[name]].spread(self.taken[level].pointer[:-1])
                fields[name] = fields[name] + shift
        atoms = self.taken["atom"]
        pointers = {level: one.pointer for level, one in self.taken.items()}
        if "vector" in fields:
            bonds, vector = fields["edge_index"], fields.pop("vector")
            straight_on = self.table.settings.ties != "reference"
            derived, first = derive_angles(bonds, vector, atoms.total, straight_on=straight_on)
            fields |= derived
            pointers["angle"] = first[pointers["bond"]]
        batch = Batch(_base_cls=Data, **fields)
        n_rows = len(self.rows)
        batch.batch = atoms.spread(torch.arange(n_rows, device=self.rows.device))
        batch.ptr = atoms.pointer
        _describe(batch, pointers, n_rows)
        return batch


class _Rows:
    """The rows of one level that belong to chosen structures."""

    def __init__(self, pointer: Tensor, rows: Tensor) -> None:
        start = pointer.index_select(0, rows)
        self.count = pointer.index_select(0, rows + 1) - start
        self.pointer = torch.zeros(len(rows) + 1, dtype=torch.long, device=rows.device)
        torch.cumsum(self.count, 0, out=self.pointer[1:])
        self.total = int(self.pointer[-1])
        self.index = self.spread(start - self.pointer[:-1]) + torch.arange(self.total, device=rows.device)

    def spread(self, values: Tensor) -> Tensor:
        """Repeat one value per structure for each of its rows."""
        return values.repeat_interleave(self.count, output_size=self.total)


def _describe(batch: Batch, pointers: Mapping[str, Tensor], n_rows: int) -> None:
    """Tell PyG where each structure's rows are, so that ``batch.to_data_list()`` works."""
    structure = torch.arange(n_rows + 1)
    zeros = torch.zeros(n_rows, dtype=torch.long)
    slices, increments = {}, {}
    for name, level in FIELD_LEVELS.items():  # Also those that only a backbone's stages will add.
        slices[name] = pointers.get(level, structure)
        increments[name] = pointers[INDICES[name]][:-1] if name in INDICES else zeros
    batch._num_graphs = n_rows
    batch._slice_dict = slices
    batch._inc_dict = increments


def _pointer(counts: Iterable[int]) -> Tensor:
    return torch.tensor([0, *counts]).cumsum(0)


def _joined(arrays: Sequence[np.ndarray], axis: int = 0) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays, axis=axis))
