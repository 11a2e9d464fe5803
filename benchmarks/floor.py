"""What the tails of a mixture need at least, and what a machine gives: the floor of an epoch's time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from matmosaic import GraphTable

FLOAT_BYTES = 4
# Far larger than any cache.
COPIED_BYTES = 2**28


def needs(table: GraphTable, *, n_experts: int, width: int, n_gaussians: int) -> dict[str, int]:
    """Count what forward and backward passes of all tails (convolution and pooling) over a table take.

    ``products``: multiply-adds. Forward, Gaussians of each bond times (n_gaussians, 2 * width), and features
    of each atom times two maps (width, 2 * width), the centre's and the neighbour's part. Backward,
    the same again, for the gradients of these weights; what enters is constant and needs none.

    ``traffic``: bytes. Gates (n_bonds, 2 * width) must all be known before the first is normalised, so
    they are written and read once forward; their gradients are written and read once backward. All else is
    taken to stay in the cache.

    ``functions``: values of sigmoid or softplus. Per bond and channel one of each forward, and a
    sigmoid backward.
    """
    of_bonds = table.n_bonds * n_gaussians * 2 * width
    of_atoms = table.n_atoms * width * 2 * 2 * width
    return {
        "products": n_experts * 2 * (of_bonds + of_atoms),
        "traffic": n_experts * 4 * table.n_bonds * 2 * width * FLOAT_BYTES,
        "functions": n_experts * 3 * table.n_bonds * width,
    }


def rates(
    fastest: Callable[[Callable[[], Any]], float], *, n_bonds: int, width: int, n_gaussians: int, device: str
) -> dict[str, float]:
    """Measure how much of what :func:`needs` counts the machine does per second.

    Parameters
    ----------
    fastest : callable
        Returns the least seconds of repeated calls of a function.
    n_bonds : int
        Of a batch.
    width, n_gaussians : int
        As in a tail.
    device : str
        Where.

    Returns
    -------
    dict of str to float
        Multiply-adds, bytes (read and written) of a large copy, and values, per second.
    """

    def array(*shape: int) -> Tensor:
        return torch.rand(shape, device=device)

    bonds, weight, gates = (
        array(n_bonds, n_gaussians),
        array(n_gaussians, 2 * width),
        array(n_bonds, 2 * width),
    )
    source, target = array(COPIED_BYTES // FLOAT_BYTES), array(COPIED_BYTES // FLOAT_BYTES)
    values = array(n_bonds, width)
    return {
        "products": n_bonds * n_gaussians * 2 * width / fastest(lambda: torch.mm(bonds, weight, out=gates)),
        "traffic": 2 * COPIED_BYTES / fastest(lambda: target.copy_(source)),
        "functions": 2 * values.numel() / fastest(lambda: (values.sigmoid(), softplus(values))),
    }
