"""The gate of a mixture of experts: learned weights of the experts that are active."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Gate(nn.Module):
    r"""Weigh experts by :math:`G = \mathrm{softmax}(\mathrm{KeepTopK}(\theta, k))`.

    The scores :math:`\theta` do not depend on the structure. Only the *k* largest get a gradient.

    Parameters
    ----------
    scores : Tensor of shape (n_experts,)
        Initial scores; ones are the even start of the paper.
    n_active : int
        Number *k* of experts whose weight is not 0.

    References
    ----------
    Chang, Wang, Ertekin, npj Comput. Mater. 8, 242 (2022), DOI 10.1038/s41524-022-00929-x.

    Examples
    --------
    >>> gate = Gate(torch.tensor([0.0, 2.0, 2.0]), n_active=2)
    >>> gate.active(), gate.all_weights()
    ([1, 2], tensor([0.0000, 0.5000, 0.5000]))
    """

    def __init__(self, scores: Tensor, n_active: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores.clone())
        self.n_active = n_active

    @torch.no_grad()
    def start_from(self, scores: np.ndarray) -> None:
        """Set the scores (n_experts,)."""
        self.scores.copy_(torch.as_tensor(scores))

    def active(self) -> list[int]:
        """Return the experts with the largest scores, in their own order; the first win a tie."""
        if self.n_active == len(self.scores):
            return list(range(len(self.scores)))
        order = self.scores.detach().argsort(descending=True, stable=True)
        return sorted(order[: self.n_active].tolist())

    def forward(self, active: list[int]) -> Tensor:
        """Return the weights (n_active,) of the active experts; they sum to 1."""
        everyone = len(active) == len(self.scores)
        return (self.scores if everyone else self.scores[active]).softmax(0)

    def penalty(self) -> Tensor:
        r"""Return :math:`(G \cdot G - 1)^2`, which is smallest when one expert has all the weight."""
        weights = self(self.active())
        return (weights @ weights - 1.0) ** 2

    @torch.no_grad()
    def all_weights(self) -> Tensor:
        """Return the weights (n_experts,) of all experts, 0 for those that are not active."""
        active = self.active()
        weights = torch.zeros_like(self.scores)
        weights[active] = self(active)
        return weights
