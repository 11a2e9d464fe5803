"""Angles of a batch, from the vectors of its bonds: uncompressed ones are too many to keep."""

from __future__ import annotations

import torch
from torch import Tensor


def derive_angles(
    edge_index: Tensor, vector: Tensor, n_atoms: int, *, straight_on: bool = True
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the angles between bonds that are not compressed.

    Parameters
    ----------
    edge_index : LongTensor of shape (2, n_bonds)
        Neighbour and centre of each bond, sorted by centre.
    vector : Tensor of shape (n_bonds, 3)
        From neighbour to centre in Å.
    n_atoms : int
        Number of atoms.
    straight_on : bool, default=True
        As in :class:`~matmosaic.graphs.angles.Angles`.

    Returns
    -------
    fields : dict of str to Tensor
        ``angle_index`` (2, n_angles), sorted by the bond that receives, ``cosine`` and
        ``angle_weight`` (n_angles,).
    first : LongTensor of shape (n_bonds + 1,)
        First angle of each bond that receives.
    """
    neighbor, center = edge_index
    arriving = torch.bincount(center, minlength=n_atoms)
    counts = arriving[neighbor]
    offset = (arriving.cumsum(0) - arriving)[neighbor] - counts.cumsum(0) + counts
    receiver = torch.arange(len(center), device=center.device).repeat_interleave(counts)
    sender = torch.arange(len(receiver), device=center.device) + offset[receiver]
    if not straight_on:
        apart = sender != receiver
        sender, receiver = sender[apart], receiver[apart]
    first = torch.zeros(len(center) + 1, dtype=torch.long, device=center.device)
    torch.cumsum(torch.bincount(receiver, minlength=len(center)), 0, out=first[1:])
    unit = torch.nn.functional.normalize(vector, dim=1)
    cosine = -(unit[sender] * unit[receiver]).sum(1).clamp(-1.0, 1.0)
    index = torch.stack([sender, receiver])
    return {"angle_index": index, "cosine": cosine, "angle_weight": torch.ones_like(cosine)}, first
