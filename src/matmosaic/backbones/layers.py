"""Layers that backbones and heads share; all take multiplicities of atoms and bonds as weights.

Rows are the last axis but one. What works on rows (n, width) with parameters (width,) also works on those of
several networks at once, (n_networks, n, width) with (n_networks, width); see ``stacking.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Relative to the feature that varies most.
SMALLEST_SPREAD = 1e-5
# Relative to the largest mean: of numbers in single precision that went through a few layers.
ROUNDING = 1e-6


class GaussianExpansion(nn.Module):
    r"""Expand distances in Gaussians, :math:`\exp(-(d - \mu_k)^2 / \sigma^2)`.

    Parameters
    ----------
    stop : float
        Centre of the last Gaussian in Å; the first is at 0.
    step : float
        Distance between centres, and the width :math:`\sigma`, in Å.
    """

    centers: Tensor

    def __init__(self, stop: float, step: float) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("centers", torch.linspace(0.0, stop, round(stop / step) + 1), persistent=False)

    @property
    def n_features(self) -> int:
        """Number of Gaussians."""
        return len(self.centers)

    def forward(self, distance: Tensor) -> Tensor:
        """Map distances (n_bonds,) in Å to features (n_bonds, n_features)."""
        return torch.exp(-(((distance.unsqueeze(1) - self.centers) / self.step) ** 2))

    def __repr__(self) -> str:
        return f"GaussianExpansion(stop={float(self.centers[-1]):g}, step={self.step:g})"


class WeightedBatchNorm(nn.BatchNorm1d):
    r"""Batch normalisation whose statistics count each row as often as its weight says.

    With weights :math:`w_i`, the mean is :math:`\sum w_i x_i / \sum w_i` and the variance likewise;
    :math:`\sum w_i` takes the place of the number of rows in the unbiased running variance. Equal
    to ordinary batch normalisation of the uncompressed rows (Ioffe, Szegedy, 2015,
    arXiv:1502.03167).
    """

    # PyTorch allows None for batches without running statistics; here they are always kept.
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise rows ``x`` (n_rows, n_channels) with multiplicities ``weight`` (n_rows,)."""
        if not self.training:
            factor, offset = affine_map(self)
            return torch.addcmul(offset.unsqueeze(-2), x, factor.unsqueeze(-2))
        return self._in_training(_WeightedNormalise, x, weight)

    def message(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the gated messages of normalised rows, with a third of the memory for the gradient.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_channels)
            Rows to normalise.
        weight : Tensor of shape (n_rows,)
            Multiplicities of the rows.

        Returns
        -------
        Tensor of shape (n_rows, n_channels / 2)
            The messages.
        """
        if not self.training:
            return gated_message(self(x, weight))
        return self._in_training(_NormalisedMessage, x, weight)

    def _in_training(self, function: Any, x: Tensor, weight: Tensor) -> Tensor:
        share = weight / weight.sum()
        scale, shift = self.weight.unsqueeze(-2), self.bias.unsqueeze(-2)
        result, mean, variance = function.apply(x, share, scale, shift, self.eps)
        self.track(mean, variance, weight.sum())
        return result

    @torch.no_grad()
    def track(self, mean: Tensor, variance: Tensor, n_rows: Tensor) -> None:
        """Update the running statistics by those of a batch, as PyTorch does: with the unbiased variance."""
        self.num_batches_tracked.add_(1)
        momentum: Any = self.momentum
        if momentum is None:
            momentum = self.num_batches_tracked.to(mean.dtype).reciprocal().unsqueeze(-1)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (n_rows / (n_rows - 1).clamp(min=1)), momentum)


def affine_map(norm: WeightedBatchNorm) -> tuple[Tensor, Tensor]:
    """Return what batch normalisation is in evaluation mode.

    Parameters
    ----------
    norm : WeightedBatchNorm
        With running statistics.

    Returns
    -------
    factor, offset : Tensor of shape (n_channels,)
        ``x * factor + offset`` is the normalised ``x``.
    """
    factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return factor, torch.addcmul(norm.bias, norm.running_mean, factor, value=-1)


class _WeightedNormalise(torch.autograd.Function):
    """Weighted batch normalisation in one node.

    Bond arrays are large and short-lived: taking fresh memory for each step costs more than the
    arithmetic, so intermediate results share one buffer.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Any:
        mean, variance, inverse, centred, buffer = _centre(x, share, eps)
        ctx.save_for_backward(centred, inverse, share, scale)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(shift, centred, inverse * scale, out=buffer), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        return _through_normalisation(grad, *ctx.saved_tensors)


def _centre(x: Tensor, share: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return mean, variance, a row of inverse spreads, centred rows, and a buffer of their size."""
    mean = share @ x
    centred = x - mean.unsqueeze(-2)
    buffer = centred.square()
    variance = share @ buffer
    return mean, variance, (variance + eps).rsqrt().unsqueeze(-2), centred, buffer


def _through_normalisation(
    grad: Tensor, centred: Tensor, inverse: Tensor, share: Tensor, scale: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradients of normalisation's arguments from that of its result."""
    buffer = grad * centred
    grad_shift = grad.sum(-2, keepdim=True)
    grad_scale = buffer.sum(-2, keepdim=True) * inverse
    # What each row gets through the mean and the variance, which it moves by its share.
    through = torch.addcmul(grad_shift, centred, grad_scale * inverse, out=buffer)
    grad_x = torch.addcmul(grad, share.unsqueeze(-1), through, value=-1, out=buffer).mul_(inverse * scale)
    return grad_x, None, grad_scale, grad_shift, None


class _NormalisedMessage(torch.autograd.Function):
    """Weighted batch normalisation and the gated message of its result in one node.

    A mixture holds the arrays of all its experts from the forward to the backward pass, so only the
    centred rows are kept; the rest is computed again, in one buffer.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, share: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Any:
        mean, variance, inverse, centred, buffer = _centre(x, share, eps)
        ctx.save_for_backward(centred, inverse, share, scale, shift)
        ctx.mark_non_differentiable(mean, variance)
        choice, value = torch.addcmul(shift, centred, inverse * scale, out=buffer).chunk(2, dim=-1)
        return choice.sigmoid().mul_(nn.functional.softplus(value)), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        centred, inverse, share, scale, shift = ctx.saved_tensors
        gates = torch.addcmul(shift, centred, inverse * scale)
        return _through_normalisation(_through_gates(grad, gates), centred, inverse, share, scale)


def _through_gates(grad: Tensor, gates: Tensor) -> Tensor:
    """Return the gradient of gates from that of their messages, in place of the gates."""
    choice, value = gates.chunk(2, dim=-1)
    opened, message = choice.sigmoid(), nn.functional.softplus(value)
    through = grad * opened
    value.sigmoid_().mul_(through)
    torch.mul(through, message, out=choice)
    choice.addcmul_(choice, opened, value=-1)
    return gates


class _GatedMessage(torch.autograd.Function):
    """``sigmoid(choice) * softplus(value)`` of the two halves of a row, in one node."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor) -> Tensor:
        choice, value = gates.chunk(2, dim=-1)
        ctx.save_for_backward(gates)
        return choice.sigmoid().mul_(nn.functional.softplus(value))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (gates,) = ctx.saved_tensors
        return _through_gates(grad, gates.clone())


def gated_message(gates: Tensor) -> Tensor:
    """Return ``sigmoid(choice) * softplus(value)``.

    Parameters
    ----------
    gates : Tensor of shape (n, 2 * width)
        ``choice`` and ``value`` side by side.

    Returns
    -------
    Tensor of shape (n, width)
        The messages.
    """
    return _GatedMessage.apply(gates)


def linear_map(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Map rows linearly, as ``torch.nn.functional.linear`` does, or those of several networks.

    Parameters
    ----------
    x : Tensor of shape (n, n_in) or (n_networks, n, n_in)
        Rows; without the axis of networks, they are the same for all.
    weight : Tensor of shape (n_out, n_in) or (n_networks, n_out, n_in)
        Of the map.
    bias : Tensor of shape (n_out,) or (n_networks, n_out)
        Added to each row.

    Returns
    -------
    Tensor of shape (n, n_out) or (n_networks, n, n_out)
        The rows after the map.
    """
    if weight.dim() == 2:
        return nn.functional.linear(x, weight, bias)
    return torch.baddbmm(bias.unsqueeze(-2), x.expand(len(weight), -1, -1), weight.mT)


def weighted_sum(values: Tensor, weight: Tensor, index: Tensor, n_rows: int) -> Tensor:
    """Sum weighted rows into the rows that ``index`` names.

    Parameters
    ----------
    values : Tensor of shape (n, width)
        Rows to add.
    weight : Tensor of shape (n,)
        Multiplicity of each row.
    index : LongTensor of shape (n,)
        Row of the result that each row is added to.
    n_rows : int
        Number of rows of the result.

    Returns
    -------
    Tensor of shape (n_rows, width)
        The sums.
    """
    total = values.new_zeros(*values.shape[:-2], n_rows, values.shape[-1])
    return total.index_add(-2, index, values * weight.unsqueeze(-1))


def weighted_mean(values: Tensor, weight: Tensor, index: Tensor, n_rows: int) -> Tensor:
    """Average weighted rows into the rows that ``index`` names.

    Parameters
    ----------
    values : Tensor of shape (n, width)
        Rows to average.
    weight : Tensor of shape (n,)
        Multiplicity of each row.
    index : LongTensor of shape (n,)
        Row of the result that each row counts for.
    n_rows : int
        Number of rows of the result; each must be named, or it is NaN.

    Returns
    -------
    Tensor of shape (n_rows, width)
        The means.
    """
    total = weight.new_zeros(n_rows).index_add(0, index, weight)
    return weighted_sum(values, weight, index, n_rows) / total.unsqueeze(-1)


class FeatureScale(nn.Module):
    """Shift and scale features by constants that were read off training data; at first, do nothing.

    Parameters
    ----------
    n_features : int
        Width of the features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))

    @torch.no_grad()
    def fit(self, features: Tensor, weight: Tensor) -> None:
        """Take the weighted mean and spread of features (n_structures, n_features)."""
        share = weight / weight.sum()
        mean = share @ features
        std = (share @ (features - mean).square()).sqrt()
        # A feature that is all but constant holds rounding errors; scaled up, they would be noise. Where all
        # are, the widest spread is rounding, too, of numbers as large as the means.
        varies = std > torch.maximum(SMALLEST_SPREAD * std.max(), ROUNDING * mean.abs().max())
        self.mean.copy_(mean)
        self.std.copy_(torch.where(varies, std, torch.ones_like(std)))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n_structures, n_features) to the same shape."""
        return (features - self.mean) / self.std


class MLP(nn.Module):
    """Dense layers with softplus between them: the head that maps features to targets.

    Parameters
    ----------
    n_in : int
        Width of the features.
    widths : sequence of int, default=(32, 32)
        Widths of the hidden layers; empty for a linear head.
    n_out : int, default=1
        Number of targets.
    """

    def __init__(self, n_in: int, widths: Sequence[int] = (32, 32), n_out: int = 1) -> None:
        super().__init__()
        self.n_in = n_in
        self.widths = tuple(widths)
        self.n_out = n_out
        self.scale = FeatureScale(n_in)
        sizes = [n_in, *self.widths, n_out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        return {"n_in": self.n_in, "widths": list(self.widths), "n_out": self.n_out}

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n_structures, n_in) to targets (n_structures, n_out)."""
        features = self.scale(features)
        for layer in self.layers[:-1]:
            features = nn.functional.softplus(layer(features))
        return self.layers[-1](features)
