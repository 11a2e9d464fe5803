"""What the published ALIGNN code calls its parameters, and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# Published name of each part, and ours; numbers of layers are counted from 0 there and from 1 here.
_DENSE = {"layer.0": "linear", "layer.1": "norm"}
_CONVOLUTION = {
    "src_gate": "source_gate",
    "dst_gate": "target_gate",
    "edge_gate": "link_gate",
    "bn_edges": "link_norm",
    "src_update": "own",
    "dst_update": "message",
    "bn_nodes": "node_norm",
}
_EMBEDDINGS = {"1": "hidden", "2": "output"}
_DENSE_PATTERN = "|".join(map(re.escape, _DENSE))
_CONVOLUTION_PATTERN = "|".join(_CONVOLUTION)

_ATOMS = re.compile(rf"atom_embedding\.({_DENSE_PATTERN})\.")
_SCALARS = re.compile(rf"(edge|angle)_embedding\.([12])\.({_DENSE_PATTERN})\.")
_LINE_GRAPH = re.compile(rf"alignn_layers\.(\d+)\.(node_update|edge_update)\.({_CONVOLUTION_PATTERN})\.")
_GRAPH = re.compile(rf"gcn_layers\.(\d+)\.({_CONVOLUTION_PATTERN})\.")
_HEAD = re.compile(r"fc\.")


def our_name(published: str) -> str:
    """Return our name of a published parameter or statistic; an unknown name stays as it is.

    ======================================  ================================================
    published                               here
    ======================================  ================================================
    atom_embedding.layer.{0,1}              stages.embedding.atoms.{linear,norm}
    edge_embedding.{1,2}.layer.{0,1}        stages.embedding.bonds.{hidden,output}.{linear,norm}
    angle_embedding.{1,2}.layer.{0,1}       stages.embedding.angles.{hidden,output}.{linear,norm}
    alignn_layers.N.{node,edge}_update      stages.alignn_{N + 1}.{node,edge}_update
    gcn_layers.N                            stages.gcn_{N + 1}.node_update
    fc                                      the head's only layer
    ======================================  ================================================

    In a convolution, src_gate, dst_gate and edge_gate are source_gate, target_gate and link_gate; src_update
    is own, dst_update is message; bn_nodes and bn_edges are node_norm and link_norm.
    """
    if match := _ATOMS.match(published):
        ours = f"backbone.stages.embedding.atoms.{_DENSE[match[1]]}."
    elif match := _SCALARS.match(published):
        kind = {"edge": "bonds", "angle": "angles"}[match[1]]
        ours = f"backbone.stages.embedding.{kind}.{_EMBEDDINGS[match[2]]}.{_DENSE[match[3]]}."
    elif match := _LINE_GRAPH.match(published):
        ours = f"backbone.stages.alignn_{int(match[1]) + 1}.{match[2]}.{_CONVOLUTION[match[3]]}."
    elif match := _GRAPH.match(published):
        ours = f"backbone.stages.gcn_{int(match[1]) + 1}.node_update.{_CONVOLUTION[match[2]]}."
    elif match := _HEAD.match(published):
        ours = "head.layers.0."
    else:
        return published
    return ours + published[match.end() :]


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a published state dict under our names, without the centres of its Gaussians."""
    return {our_name(name): tensor for name, tensor in state.items() if not name.endswith(".centers")}
