"""DAGs over latent nodes, and the layers that pass messages along them.

A DAG is given as `edges`, pairs (parent, child) of node names, and used as matrices with a
row for each receiving node: entry [child, parent].
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from vaenotes.errors import check_edges

Edges = tuple[tuple[str, str], ...]


def parent_matrix(nodes: Sequence[str], edges: Edges) -> Tensor:
    """(node, node) matrix of 0 and 1: entry [child, parent] is 1 for every edge.

    Raises ParameterError if an edge names an unknown node or stands twice, or edges form a cycle.
    """
    check_edges(edges, nodes)
    matrix = torch.zeros(len(nodes), len(nodes))
    for parent, child in edges:
        matrix[nodes.index(child), nodes.index(parent)] = 1.0
    return matrix


class GraphLayer(nn.Module):
    """(image, node, inputs) -> (image, node, outputs): one linear map, then an average.

    out_i = average over j in {i, parents of i} of (h_j W_j + b_j), with one W, b for all nodes
    (`shared`) or one per node.
    """

    averaging: Tensor

    def __init__(self, parents: Tensor, inputs: int, outputs: int, shared: bool):
        super().__init__()
        copies = 1 if shared else len(parents)
        self.fan_in = inputs
        self.weight = nn.Parameter(torch.empty(copies, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(copies, outputs))
        neighbours = parents + torch.eye(len(parents))  # each node, and its parents
        self.register_buffer("averaging", neighbours / neighbours.sum(-1, keepdim=True))

    def forward(self, features: Tensor) -> Tensor:
        nodes, (_, inputs, outputs) = self.averaging.shape[-1], self.weight.shape
        # Averaging and weights fold into one dense matrix: one product instead of two.
        weight = self.weight.expand(nodes, inputs, outputs)
        folded = torch.einsum("ij,jab->jaib", self.averaging, weight)
        folded = folded.reshape(nodes * inputs, nodes * outputs)
        bias = self.averaging @ self.bias.expand(nodes, outputs)
        return (features.flatten(-2) @ folded).unflatten(-1, (nodes, outputs)) + bias


class GraphNetwork(nn.Module):
    """(image, node, inputs) -> (image, node, outputs): two graph layers, tanh between."""

    # Where the outputs are means and log-variances of a code: see gauge.py.
    GAUGE: ClassVar[Mapping[str, str]] = {
        "second.weight": "output weight",
        "second.bias": "output bias",
    }

    def __init__(self, parents: Tensor, inputs: int, hidden: int, outputs: int, shared: bool):
        super().__init__()
        self.first = GraphLayer(parents, inputs, hidden, shared)
        self.second = GraphLayer(parents, hidden, outputs, shared)

    def forward(self, features: Tensor) -> Tensor:
        # Never in half precision: these few numbers are the log-variances that are studied here.
        with torch.autocast(features.device.type, enabled=False):
            return self.second(self.first(features.to(self.first.weight.dtype)).tanh())
