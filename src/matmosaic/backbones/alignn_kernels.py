"""Steps of ALIGNN's layers, for arrays of bonds and angles that are too large to be handled often.

The angles of a batch fill arrays of hundreds of MB, and fresh memory for one costs more than several simple
operations on it. So whatever lies between two matrix products is done block by block, on rows that
stay in the cache, and a whole array is written only where it is needed again: the input of each layer,
and the rows before normalisation. The backward pass computes everything else once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from matmosaic.backbones.layers import WeightedBatchNorm

# Numbers in a block for each thread of a processor: 1 MiB in single precision.
BLOCK = 2**18
# In the denominator of a gated mean, as published.
EPSILON = 1e-6

_silu_backward = torch.ops.aten.silu_backward


class Links(NamedTuple):
    """What carries messages between nodes: bonds between atoms, or angles between bonds.

    Parameters
    ----------
    source, target : LongTensor of shape (n_links,)
        Nodes that each link leads from and to; quickest when sorted by ``target``.
    weight : Tensor of shape (n_links,)
        How many equal links arrive at one such target.
    places : Tensor of shape (n_links,)
        How many equal links there are in all.
    """

    source: Tensor
    target: Tensor
    weight: Tensor
    places: Tensor

    @classmethod
    def between(cls, node_places: Tensor, index: Tensor, weight: Tensor) -> Links:
        """Return links ``index`` (2, n_links) of nodes that there are ``node_places`` (n_nodes,) of."""
        return cls(index[0], index[1], weight, weight * node_places.index_select(0, index[1]))


def blocks(array: Tensor) -> Iterator[slice]:
    """Split the rows of an array; on other devices, which hide the latency of memory, one block is best."""
    n_rows = len(array)
    in_cache = BLOCK * torch.get_num_threads() // array.shape[1]
    size = max(1, in_cache if array.device.type == "cpu" else n_rows)
    return (slice(start, start + size) for start in range(0, n_rows, size))


class Normalisation:
    """Batch normalisation and SiLU of an array that comes in blocks, and the way back.

    First :meth:`see` is shown every block, then :meth:`settle` fixes the statistics, and blocks can be
    normalised; :meth:`see_gradients` comes before :meth:`gradient` likewise.

    Parameters
    ----------
    norm : WeightedBatchNorm
        Its mode says whose statistics count, and its running ones are updated in training.
    places : Tensor of shape (n_rows,)
        Multiplicities of the rows.
    """

    def __init__(self, norm: WeightedBatchNorm, places: Tensor) -> None:
        self.norm = norm
        self.places = places
        # There are no statistics of nothing: graphs may be without angles.
        self.by_batch = norm.training and len(places) > 0
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def see(self, block: Tensor, rows: slice) -> None:
        """Add a block to the statistics."""
        if self.by_batch:
            places = self.places[rows]
            total = places.sum()
            mean = (places @ block) / total
            self.seen.append((total, mean, places @ (block - mean).square_()))

    def settle(self, scale: Tensor, shift: Tensor) -> None:
        """Fix the statistics; in training, update the running ones."""
        mean, variance = self._moments() if self.by_batch else (self.norm.running_mean, self.norm.running_var)
        self.inverse = (variance + self.norm.eps).rsqrt()
        self.mean = mean.clone()
        self.factor = scale * self.inverse
        self.offset = torch.addcmul(shift, self.mean, self.factor, value=-1)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Join the moments of blocks (Chan, Golub, LeVeque, Am. Stat. 37, 242 (1983))."""
        totals, means, squares = map(torch.stack, zip(*self.seen, strict=True))
        n_places = totals.sum()
        mean = (totals / n_places) @ means
        variance = (squares.sum(0) + totals @ (means - mean).square()) / n_places
        self.norm.track(mean, variance, n_places)
        return mean, variance

    def __call__(self, block: Tensor) -> Tensor:
        """Return a block after normalisation and SiLU."""
        return silu(self._normalised(block), inplace=True)

    def _normalised(self, block: Tensor) -> Tensor:
        return torch.addcmul(self.offset, block, self.factor)

    def see_gradients(self, grad: Tensor, array: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of scale and shift, from that of the result of a whole array."""
        self.grad_scale, self.grad_shift = torch.zeros_like(self.factor), torch.zeros_like(self.factor)
        for rows in blocks(array):
            through = _silu_backward(grad[rows], self._normalised(array[rows]))
            self.grad_shift += through.sum(0)
            self.grad_scale += through.mul_(array[rows] - self.mean).sum(0)
        self.grad_scale *= self.inverse
        return self.grad_scale, self.grad_shift

    def gradient(self, grad: Tensor, block: Tensor, rows: slice) -> Tensor:
        """Return the gradient of a block from that of its result."""
        through = _silu_backward(grad, self._normalised(block))
        if self.by_batch:
            # What each row gets through the mean and the variance, which it moves by its share.
            share = (self.places[rows] / self.places.sum()).unsqueeze(1)
            shared = torch.addcmul(self.grad_shift, block - self.mean, self.grad_scale * self.inverse)
            through.addcmul_(share, shared, value=-1)
        return through.mul_(self.factor)


def dense_silu(x: Tensor, weight: Tensor, bias: Tensor, norm: Normalisation) -> Tensor:
    """Return ``SiLU(BN(x @ weight.T + bias))``.

    Parameters
    ----------
    x : Tensor of shape (n_rows, n_in)
        Rows.
    weight : Tensor of shape (n_out, n_in)
        Of the linear map.
    bias : Tensor of shape (n_out,)
        Of the linear map.
    norm : Normalisation
        Made for these rows, and used once.

    Returns
    -------
    Tensor of shape (n_rows, n_out)
        The result.
    """
    return _DenseSiLU.apply(x, weight, bias, norm.norm.weight, norm.norm.bias, norm)


class _DenseSiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> Tensor:
        scale, shift, norm = rest
        before = x.new_empty(len(x), len(weight))
        for rows in blocks(before):
            norm.see(torch.addmm(bias, x[rows], weight.t(), out=before[rows]), rows)
        norm.settle(scale, shift)
        result = torch.empty_like(before)
        for rows in blocks(before):
            result[rows] = norm(before[rows])
        ctx.save_for_backward(x, weight, before)
        ctx.norm = norm
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight, before = ctx.saved_tensors
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_weight, grad_bias = torch.zeros_like(weight), weight.new_zeros(len(weight))
        grad_scale, grad_shift = ctx.norm.see_gradients(grad, before)
        for rows in blocks(before):
            through = ctx.norm.gradient(grad[rows], before[rows], rows)
            grad_weight.addmm_(through.t(), x[rows])
            grad_bias += through.sum(0)
            if grad_x is not None:
                torch.mm(through, weight, out=grad_x[rows])
        return grad_x, grad_weight, grad_bias, grad_scale, grad_shift, None


def gated_mean(
    by_source: Tensor,
    by_target: Tensor,
    messages: Tensor,
    links: Tensor,
    weight: Tensor,
    graph: Links,
    norm: Normalisation | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""Return the gated mean of messages at each node, and the new links.

    .. math:: g_{ij} &= a_j + b_i + C e_{ij}

              m_i &= \frac{\sum_j w_{ij} \sigma(g_{ij}) \odot v_j}{\sum_j w_{ij} \sigma(g_{ij}) + \epsilon}

              e_{ij}' &= e_{ij} + \mathrm{SiLU}(\mathrm{BN}(g_{ij}))

    Parameters
    ----------
    by_source, by_target, messages : Tensor of shape (n_nodes, width)
        :math:`a`, :math:`b` and :math:`v`.
    links : Tensor of shape (n_links, width)
        :math:`e`.
    weight : Tensor of shape (width, width)
        :math:`C`.
    graph : Links
        What the links connect.
    norm : Normalisation or None
        Made for these links, and used once; None where no one asks for the new links.

    Returns
    -------
    mean : Tensor of shape (n_nodes, width)
        :math:`m`.
    lost : Tensor of shape (n_nodes, width)
        By how much the shares of the messages in it fall short of 1; carries no gradient.
    links : Tensor of shape (n_links, width) or None
        :math:`e'`.
    """
    scale, shift = (norm.norm.weight, norm.norm.bias) if norm else (None, None)
    keep = torch.is_grad_enabled()
    return _GatedMean.apply(by_source, by_target, messages, links, weight, scale, shift, graph, norm, keep)


class _GatedMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, by_source: Tensor, by_target: Tensor, *rest: Any) -> Any:
        messages, links, weight, scale, shift, graph, norm, keep = rest
        gates = torch.empty_like(links)
        total, opened_total = torch.zeros_like(messages), torch.zeros_like(messages)
        for rows in blocks(gates):
            source, target = graph.source[rows], graph.target[rows]
            gate = torch.index_select(by_source, 0, source, out=gates[rows])
            gate += by_target.index_select(0, target)
            gate.addmm_(links[rows], weight.t())
            if norm:
                norm.see(gate, rows)
            opened = gate.sigmoid().mul_(graph.weight[rows].unsqueeze(1))
            opened_total.index_add_(0, target, opened)
            total.index_add_(0, target, opened.mul_(messages.index_select(0, source)))
        opened_total += EPSILON
        mean, lost = total.div_(opened_total), EPSILON / opened_total
        ctx.mark_non_differentiable(lost)
        new_links = None
        if norm:
            norm.settle(scale, shift)
            # Without a way back, no one needs the gates any more.
            new_links = torch.empty_like(links) if keep else gates
            for rows in blocks(gates):
                torch.add(links[rows], norm(gates[rows]), out=new_links[rows])
        if keep:
            ctx.save_for_backward(messages, links, weight, mean, opened_total)
            ctx.gates, ctx.graph, ctx.norm = gates, graph, norm
        return mean, lost, new_links

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_mean: Tensor, _: Tensor, grad_links: Any) -> Any:
        messages, links, weight, mean, opened_total = ctx.saved_tensors
        gates, graph, norm = _taken(ctx)
        grad_mean = grad_mean / opened_total
        by_source, by_target, grad_messages = (torch.zeros_like(messages) for _ in range(3))
        grad_weight = torch.zeros_like(weight)
        grad_norm = norm.see_gradients(grad_links, gates) if norm else (None, None)
        for rows in blocks(gates):
            source, target, gate = graph.source[rows], graph.target[rows], gates[rows]
            opened = gate.sigmoid()
            through = grad_mean.index_select(0, target).mul_(opened).mul_(graph.weight[rows].unsqueeze(1))
            grad_messages.index_add_(0, source, through)
            through.addcmul_(through, opened, value=-1)
            through *= messages.index_select(0, source).sub_(mean.index_select(0, target))
            if norm:
                through += norm.gradient(grad_links[rows], gate, rows)
            by_source.index_add_(0, source, through)
            by_target.index_add_(0, target, through)
            if ctx.needs_input_grad[4]:
                grad_weight.addmm_(through.t(), links[rows])
            if ctx.needs_input_grad[3]:
                # A block of gates is not needed any more; the gradient takes its memory.
                torch.mm(through, weight, out=gate)
                if norm:
                    gate += grad_links[rows]
        return by_source, by_target, grad_messages, gates, grad_weight, *grad_norm, None, None, None


def _taken(ctx: Any) -> tuple[Tensor, Links, Normalisation | None]:
    """Return what a backward pass uses up, once."""
    if ctx.gates is None:
        raise RuntimeError("The gradient of ALIGNN's layers can be computed once; run the network again.")
    gates, ctx.gates = ctx.gates, None
    return gates, ctx.graph, ctx.norm
