import pytest
import torch

from vaenotes.errors import ParameterError
from vaenotes.graph import GraphNetwork, parent_matrix

NODES = ("a", "b", "c")


def test_parent_matrix_has_a_row_for_each_receiving_node():
    matrix = parent_matrix(NODES, (("a", "c"), ("b", "c")))
    assert matrix.tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 0]]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ((("a", "b"), ("b", "c"), ("c", "a")), "edges must form no cycle, got "),
        ((("a", "d"),), r"edges must be \(parent, child\) pairs of a, b, c, got \('a', 'd'\)"),
    ],
)
def test_bad_edges_are_one_clear_line(edges, message):
    with pytest.raises(ParameterError, match=message) as caught:
        parent_matrix(NODES, edges)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shared", [True, False])
def test_graph_network_equals_its_definition_written_as_loops(shared):
    parents = parent_matrix(NODES, (("a", "c"), ("a", "b"), ("b", "c")))
    network = GraphNetwork(parents, inputs=2, hidden=4, outputs=3, shared=shared)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    features = torch.randn(7, 3, 2, generator=generator)

    def layer(module, inputs):  # average over {i, parents of i} of (h_j W_j + b_j)
        outputs = []
        for node in range(3):
            neighbours = [node, *parents[node].nonzero().flatten().tolist()]
            messages = []
            for other in neighbours:
                copy = 0 if shared else other
                messages.append(inputs[:, other] @ module.weight[copy] + module.bias[copy])
            outputs.append(torch.stack(messages).mean(0))
        return torch.stack(outputs, dim=1)

    expected = layer(network.second, layer(network.first, features).tanh())
    torch.testing.assert_close(network(features), expected)
