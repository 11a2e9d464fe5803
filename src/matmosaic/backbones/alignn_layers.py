"""Layers of ALIGNN; all take multiplicities of atoms, bonds and angles as weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from matmosaic.backbones.alignn_kernels import Links, Normalisation, dense_silu, gated_mean
from matmosaic.backbones.layers import WeightedBatchNorm


class RadialBasis(nn.Module):
    r"""Expand numbers in Gaussians, :math:`\exp(-(d - \mu_k)^2 / s)`, with the spacing *s* of the centres.

    The published code divides by the spacing, not by its square.

    Parameters
    ----------
    start, stop : float
        Centres of the first and the last Gaussian, in the unit of the numbers.
    n_features : int
        Number of Gaussians, at least 2.
    """

    centers: Tensor

    def __init__(self, start: float, stop: float, n_features: int) -> None:
        super().__init__()
        self.gamma = (n_features - 1) / (stop - start)
        self.register_buffer("centers", torch.linspace(start, stop, n_features), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Map numbers (n,) to features (n, n_features)."""
        return (values.unsqueeze(1) - self.centers).square_().mul_(-self.gamma).exp_()


class DenseBlock(nn.Module):
    """A linear map, batch normalisation and SiLU.

    Parameters
    ----------
    n_in, n_out : int
        Widths before and after.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.norm = WeightedBatchNorm(n_out)

    def forward(self, x: Tensor, places: Tensor, *, constant: Tensor | None = None) -> Tensor:
        """Map rows ``x`` (n, n_in) with multiplicities ``places`` (n,) to (n, n_out).

        ``constant`` (n_in,) says which inputs are the same in all rows: in front of batch statistics
        their weights are a bias.
        """
        bias, weight = _bias(self.linear, self.norm), self.linear.weight
        if constant is not None and self.norm.training:
            weight = torch.where(constant, weight.detach(), weight)
        return dense_silu(x, weight, bias, Normalisation(self.norm, places))


class EdgeGatedConvolution(nn.Module):
    r"""Edge-gated graph convolution with residuals.

    With features *h* of nodes and *e* of links from *j* to *i* that occur :math:`w_{ij}` times,

    .. math:: g_{ij} &= A h_j + B h_i + C e_{ij}

              h_i' &= h_i + \mathrm{SiLU}\Big(\mathrm{BN}\Big(U h_i +
              \frac{\sum_j w_{ij} \sigma(g_{ij}) \odot V h_j}
              {\sum_j w_{ij} \sigma(g_{ij}) + 10^{-6}}\Big)\Big)

              e_{ij}' &= e_{ij} + \mathrm{SiLU}(\mathrm{BN}(g_{ij}))

    Parameters
    ----------
    width : int
        Features per node and per link.

    References
    ----------
    Choudhary, DeCost, npj Comput. Mater. 7, 185 (2021), DOI 10.1038/s41524-021-00650-1.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.source_gate = nn.Linear(width, width)
        self.target_gate = nn.Linear(width, width)
        self.link_gate = nn.Linear(width, width)
        self.link_norm = WeightedBatchNorm(width)
        self.own = nn.Linear(width, width)
        self.message = nn.Linear(width, width)
        self.node_norm = WeightedBatchNorm(width)

    def forward(
        self, nodes: Tensor, node_places: Tensor, links: Tensor, graph: Links, *, last: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return new features of nodes and of links.

        Parameters
        ----------
        nodes : Tensor of shape (n_nodes, width)
            Features.
        node_places : Tensor of shape (n_nodes,)
            How many equal nodes there are.
        links : Tensor of shape (n_links, width)
            Features.
        graph : Links
            What the links connect.
        last : bool, default=False
            Whether no one will ask for the links; they are None then.
        """
        if not len(nodes):  # There are no statistics of nothing: graphs may be without bonds.
            return nodes, None if last else links
        mean, links_after = self._gated_mean(nodes, links, graph, last)
        update = linear(nodes, self.own.weight, _bias(self.own, self.node_norm)) + mean
        return nodes + silu(self.node_norm(update, node_places)), links_after

    def _gated_mean(
        self, nodes: Tensor, links: Tensor, graph: Links, last: bool
    ) -> tuple[Tensor, Tensor | None]:
        # What is linear in a node is computed per node, not per link, and three biases are added once.
        bias = self.source_gate.bias + self.target_gate.bias + self.link_gate.bias
        message_bias = _bias(self.message, self.node_norm)
        mean, lost, links_after = gated_mean(
            linear(nodes, self.source_gate.weight),
            linear(nodes, self.target_gate.weight, bias),
            linear(nodes, self.message.weight, message_bias),
            links,
            self.link_gate.weight,
            graph,
            None if last else Normalisation(self.link_norm, graph.places),
        )
        if self.node_norm.training:
            # A mean has its bias but for the share that is lost to EPSILON. Batch statistics take the bias
            # away; the share is what is left of its gradient, and would drown in rounding errors of the rest.
            mean = mean + (message_bias - self.message.bias) * lost
        return mean, links_after


def _bias(layer: nn.Linear, norm: WeightedBatchNorm) -> Tensor:
    """Return a layer's bias; in front of batch statistics, which take it away, without a gradient.

    The gradient would be rounding errors, which Adam scales up to whole steps.
    """
    return layer.bias.detach() if norm.training else layer.bias
