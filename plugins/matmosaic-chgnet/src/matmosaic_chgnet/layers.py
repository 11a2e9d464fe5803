"""Layers of CHGNet; all take multiplicities of atoms, bonds and angles as weights.

The published network maps ``[center, bond, neighbour]`` of each bond, side by side, by one matrix. Here this
matrix is three, so that atoms are mapped once per atom; likewise for angles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu
from torch_geometric.data import Data

# Numbers in a block of rows: 1 MiB in single precision, which stays in a processor's cache.
BLOCK = 2**18
# Keeps the arc cosine's slope finite, as published.
SHRINK = 1.0 - 1e-6


class BesselBasis(nn.Module):
    r"""Expand distances in :math:`\sqrt{2/c} \sin(\omega_k d/c)/d`, times a polynomial that fades out.

    Parameters
    ----------
    cutoff : float
        :math:`c` in Å; from there on all features are 0.
    n_features : int
        Number of frequencies, which are learnt and start at multiples of :math:`\pi`.
    power : int
        Lowest power of the polynomial; the larger it is, the later the features fall off.

    References
    ----------
    Gasteiger, Groß, Günnemann, ICLR (2020), arXiv:2003.03123.
    """

    def __init__(self, cutoff: float, n_features: int, power: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.power = power
        self.frequencies = nn.Parameter(math.pi * torch.arange(1.0, n_features + 1.0))

    def forward(self, distance: Tensor) -> Tensor:
        """Map distances (n,) in Å to features (n, n_features)."""
        ratio = (distance / self.cutoff).unsqueeze(1)
        envelope = math.sqrt(2.0 / self.cutoff) * self._envelope(ratio) / distance.unsqueeze(1)
        return torch.sin(ratio * self.frequencies) * envelope

    def _envelope(self, ratio: Tensor) -> Tensor:
        p = self.power
        inside = (
            1.0
            - ratio**p * ((p + 1) * (p + 2) / 2)
            + ratio ** (p + 1) * (p * (p + 2))
            - ratio ** (p + 2) * (p * (p + 1) / 2)
        )
        return torch.where(ratio < 1.0, inside, torch.zeros_like(ratio))


class FourierBasis(nn.Module):
    """Expand angles in a constant, sines and cosines.

    Parameters
    ----------
    n_features : int
        One more than twice the number of frequencies, which are learnt and start at 1, 2, ...
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.arange(1.0, (n_features + 1) // 2))

    def forward(self, cosine: Tensor) -> Tensor:
        """Map cosines (n,) of the angles to features (n, n_features)."""
        waves = torch.acos(cosine * SHRINK).unsqueeze(1) * self.frequencies
        constant = cosine.new_full((len(cosine), 1), math.sqrt(0.5))
        return torch.cat([constant, waves.sin(), waves.cos()], dim=1) / math.sqrt(math.pi)


class Gate(nn.Module):
    """The nonlinear part of a gated network: a value and how much of it passes.

    Parameters
    ----------
    width : int
        Features that come out; twice as many go in, those for the value and those for the gate.
    hidden : bool
        Whether what goes in is a hidden layer that a second linear map follows.
    normalise : bool
        Whether value and gate are normalised before their last activation.
    """

    def __init__(self, width: int, *, hidden: bool, normalise: bool) -> None:
        super().__init__()
        self.value, self.gate = (nn.Linear(width, width) if hidden else nn.Identity() for _ in range(2))
        self.value_norm, self.gate_norm = (
            nn.LayerNorm(width) if normalise else nn.Identity() for _ in range(2)
        )
        self.hidden = hidden

    def forward(self, before: Tensor) -> Tensor:
        """Map rows (n, 2 * width) to (n, width)."""
        value, gate = (silu(before) if self.hidden else before).chunk(2, dim=1)
        value, gate = self.value_norm(self.value(value)), self.gate_norm(self.gate(gate))
        return silu(value) * gate.sigmoid()


class AtomConvolution(nn.Module):
    """Messages from neighbours along bonds, added to the features of each atom.

    Parameters
    ----------
    width : int
        Features per atom and bond.
    normalise : bool
        As for :class:`Gate`.
    out_bias : bool
        Whether the map of summed messages has a bias.
    """

    def __init__(self, width: int, *, normalise: bool, out_bias: bool) -> None:
        super().__init__()
        self.center = nn.Linear(width, 2 * width)
        self.bond = nn.Linear(width, 2 * width, bias=False)
        self.neighbor = nn.Linear(width, 2 * width, bias=False)
        self.gate = Gate(width, hidden=True, normalise=normalise)
        self.out = nn.Linear(width, width, bias=out_bias)

    def forward(self, x: Tensor, bonds: Tensor, passing: Tensor, graph: Data) -> Tensor:
        """Return new features of atoms.

        Parameters
        ----------
        x : Tensor of shape (n_atoms, width)
            Features of atoms.
        bonds, passing : Tensor of shape (n_bonds, width)
            Features of bonds, and what their messages are multiplied with.
        graph : Data
            The bonds, and how many of each there are.

        Returns
        -------
        Tensor of shape (n_atoms, width)
            The new features.
        """
        by_center, by_neighbor = self.center(x), self.neighbor(x)
        total = torch.zeros_like(x)
        for rows in blocks(bonds):
            neighbor, center = graph.edge_index[:, rows]
            before = self.bond(bonds[rows])
            before += by_center.index_select(0, center)
            before += by_neighbor.index_select(0, neighbor)
            message = self.gate(before) * passing[rows] * graph.bond_weight[rows].unsqueeze(1)
            total = total.index_add(0, center, message)
        return x + self.out(total)


class Corners(NamedTuple):
    """Where the angles of a batch are, among those bonds alone that make any.

    Parameters
    ----------
    bond : LongTensor of shape (n_short,)
        Rows of the bonds that make angles.
    reverse : LongTensor of shape (n_short,)
        Which of them is each one's reverse.
    atom : LongTensor of shape (n_short,)
        The atom that each leaves, which is the vertex of all angles that it receives from.
    sender, receiver : LongTensor of shape (n_angles,)
        Which of them each angle is between; in the direction of the vertex, and away from it.
    weight : Tensor of shape (n_angles,)
        How many equal angles there are at one such receiver.
    """

    bond: Tensor
    reverse: Tensor
    atom: Tensor
    sender: Tensor
    receiver: Tensor
    weight: Tensor

    @classmethod
    def of(cls, graph: Data) -> Corners:
        """Return the angles of a batch."""
        sender, receiver = graph.angle_index
        short = torch.zeros(len(graph.distance), dtype=torch.bool, device=receiver.device)
        # A bond that sends is the reverse of one that receives.
        short[receiver] = True
        short[graph.reverse[receiver]] = True
        bond, place = short.nonzero()[:, 0], short.cumsum(0) - 1
        atom = graph.edge_index[0, bond]
        return cls(bond, place[graph.reverse[bond]], atom, place[sender], place[receiver], graph.angle_weight)


class CornerMap(nn.Module):
    """A linear map of two bonds, the angle between them and the atom at its vertex.

    Parameters
    ----------
    width : int
        Features per atom, bond and angle; twice as many come out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(width, 2 * width)
        self.sender = nn.Linear(width, 2 * width, bias=False)
        self.angle = nn.Linear(width, 2 * width, bias=False)
        self.atom = nn.Linear(width, 2 * width, bias=False)

    def forward(
        self, x: Tensor, bonds: Tensor, angles: Tensor, corners: Corners
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield blocks of angles with the results: rows, and a Tensor of shape (n_rows, 2 * width)."""
        by_receiver = self.receiver(bonds) + self.atom(x).index_select(0, corners.atom)
        by_sender = self.sender(bonds)
        for rows in blocks(angles):
            result = self.angle(angles[rows])
            result += by_receiver.index_select(0, corners.receiver[rows])
            result += by_sender.index_select(0, corners.sender[rows])
            yield rows, result


class BondConvolution(nn.Module):
    """Messages from bonds along angles, added to the features of each bond; both its ends receive.

    Parameters
    ----------
    width : int
        Features per atom, bond and angle.
    normalise : bool
        As for :class:`Gate`.
    out_bias : bool
        Whether the map of summed messages has a bias; then bonds that receive none are moved by it, too,
        in structures that have angles.
    """

    def __init__(self, width: int, *, normalise: bool, out_bias: bool) -> None:
        super().__init__()
        self.corner = CornerMap(width)
        self.gate = Gate(width, hidden=True, normalise=normalise)
        self.out = nn.Linear(width, width, bias=out_bias)

    def forward(self, x: Tensor, bonds: Tensor, passing: Tensor, graph: Data, corners: Corners) -> Tensor:
        """Return new features of bonds.

        Parameters
        ----------
        x : Tensor of shape (n_atoms, width)
            Features of atoms.
        bonds, passing : Tensor of shape (n_bonds, width)
            Features of bonds, and what messages from and to them are multiplied with.
        graph : Data
            With features of angles.
        corners : Corners
            Its angles.

        Returns
        -------
        Tensor of shape (n_bonds, width)
            The new features.
        """
        passing = passing.index_select(0, corners.bond)
        total = torch.zeros_like(passing)
        short = bonds.index_select(0, corners.bond)
        for rows, before in self.corner(x, short, graph.angle_attr, corners):
            message = self.gate(before) * passing.index_select(0, corners.sender[rows])
            message = message * corners.weight[rows].unsqueeze(1)
            total = total.index_add(0, corners.receiver[rows], message)
        total = total * passing
        total = total + total.index_select(0, corners.reverse)
        bonds = bonds.index_add(0, corners.bond, linear(total, self.out.weight))
        return bonds if self.out.bias is None else bonds + _with_angles(graph) * self.out.bias


class AngleUpdate(nn.Module):
    """New features of angles.

    Parameters
    ----------
    width : int
        Features per atom, bond and angle.
    normalise : bool
        As for :class:`Gate`.
    """

    def __init__(self, width: int, *, normalise: bool) -> None:
        super().__init__()
        self.corner = CornerMap(width)
        self.gate = Gate(width, hidden=False, normalise=normalise)

    def forward(self, x: Tensor, bonds: Tensor, angles: Tensor, corners: Corners) -> Tensor:
        """Return new features of angles, from those of atoms, bonds (n_bonds, width) and angles."""
        short = bonds.index_select(0, corners.bond)
        moved = [self.gate(before) for _, before in self.corner(x, short, angles, corners)]
        return angles + torch.cat(moved) if moved else angles


def blocks(array: Tensor) -> Iterator[slice]:
    """Split the rows of an array so that a block and what is made of it stay in a processor's cache.

    Where gradients are asked for, or on another device, all rows are one block.
    """
    whole = torch.is_grad_enabled() or array.device.type != "cpu"
    size = max(1, len(array) if whole else BLOCK // (2 * array.shape[1]))
    return (slice(start, start + size) for start in range(0, len(array), size))


def _with_angles(graph: Data) -> Tensor:
    """Return 1 for each bond of a structure with angles, 0 for others, shape (n_bonds, 1)."""
    structure = graph.batch[graph.edge_index[1]]
    found = graph.distance.new_zeros(graph.num_graphs)
    found[structure[graph.angle_index[1]]] = 1.0
    return found[structure].unsqueeze(1)
