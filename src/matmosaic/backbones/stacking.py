"""Run several backbones of one architecture at once, on arrays with a leading axis of networks.

Networks one after the other are many small operations, and on a GPU each costs its launch, however little it
does. Stacked, they are as many operations as one network. Parameters stay those of each network: they are
stacked anew in every pass, and gradients and running statistics go back to where they belong.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch_geometric.data import Data

from matmosaic.backbones.base import Backbone, replace


def stacking_key(backbone: Backbone, *, start: int = 0) -> Hashable | None:
    """Return a key that backbones share if they can run at once from a stage on.

    Parameters
    ----------
    backbone : Backbone
        With its trainable parameters and its mode already chosen.
    start : int, default=0
        Its first stage to run.

    Returns
    -------
    hashable or None
        Of class and options, stages and shapes, and of what is trained and in which mode; None if a stage
        does not say ``stackable = True``, or none is left to run.
    """
    stages = _tail(backbone, start)
    if not stages or not all(getattr(stage, "stackable", False) for stage in stages):
        return None
    if type(backbone).forward is not Backbone.forward:
        return None
    trained = tuple(one.requires_grad for stage in stages for one in stage.parameters())
    modes = tuple(part.training for stage in stages for part in stage.modules())
    # Those of adapters do not follow from class and options.
    kinds = tuple((type(stage), *(one.shape for one in stage.state_dict().values())) for stage in stages)
    options = json.dumps(backbone.options(), sort_keys=True)
    return type(backbone), options, kinds, start, trained, modes


def stacked_features(
    backbones: Sequence[Backbone], graphs: Sequence[Data], *, start: int = 0
) -> list[Tensor]:
    """Return the features of several backbones, computed at once.

    Parameters
    ----------
    backbones : sequence of Backbone
        With equal :func:`stacking_key`, not None.
    graphs : sequence of torch_geometric.data.Data
        One per backbone, as its stages from ``start`` on take them: the same rows of one table, so that
        only features differ.
    start : int, default=0
        The first stage to run.

    Returns
    -------
    list of Tensor of shape (n_structures, n_features)
        ``graph.u`` of each. Gradients and running statistics are those of one after the other; forward
        hooks of the stages are not called for each.
    """
    graph = _stacked_graph(graphs)
    for stages in zip(*(_tail(backbone, start) for backbone in backbones), strict=True):
        graph = _run(stages, graph)
    return list(graph.u.unbind())


def _tail(backbone: Backbone, start: int) -> list[nn.Module]:
    return list(backbone.stages.values())[start:]


def _stacked_graph(graphs: Sequence[Data]) -> Data:
    """Stack what differs between graphs; what all share stays as it is, without the axis of networks."""
    first = graphs[0]
    own = [name for name in first.keys() if any(graph[name] is not first[name] for graph in graphs)]  # noqa: SIM118
    return replace(first, **{name: torch.stack([graph[name] for graph in graphs]) for name in own})


def _run(stages: Sequence[nn.Module], graph: Data) -> Data:
    """Run one stage of all networks."""
    states = [stage.state_dict(keep_vars=True) for stage in stages]
    stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    result = functional_call(stages[0], stacked, (graph,))
    if any(part.training for part in stages[0].modules()):
        buffers = [name for name, value in states[0].items() if not isinstance(value, nn.Parameter)]
        for name in buffers:
            torch._foreach_copy_([state[name] for state in states], list(stacked[name].unbind()))
    return result
