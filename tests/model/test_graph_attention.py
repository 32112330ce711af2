import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedpsyau_model.network.graph_attention import AttentionLayer, AuRelations, DpkGat, attention
from fedpsyau_priors import GraphPrior, graph_priors, published_priors

EDGES = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.bool)
PRIOR = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.2, 0.6], [0.0, 0.9, 0.1]])


def test_attention_by_hand():
    # Row 0: e^0 : e^ln3 = 1 : 3, the non-edge's huge score counts for nothing.
    scores = torch.tensor([[0.0, math.log(3), 100.0], [1.0, 1.0, 1.0], [100.0, 0.0, 0.0]])
    learned = [[1 / 4, 3 / 4, 0], [1 / 3, 1 / 3, 1 / 3], [0, 1 / 2, 1 / 2]]
    mixed = [
        [0.7 * 0.25 + 0.3 * 0.5, 0.7 * 0.75 + 0.3 * 0.5, 0],
        [0.7 / 3 + 0.06, 0.7 / 3 + 0.06, 0.7 / 3 + 0.18],
        [0, 0.35 + 0.27, 0.35 + 0.03],
    ]
    torch.testing.assert_close(attention(scores, EDGES, PRIOR, 0.0), torch.tensor(learned))
    torch.testing.assert_close(attention(scores, EDGES, PRIOR, 0.3), torch.tensor(mixed))
    torch.testing.assert_close(attention(scores, EDGES, PRIOR, 1.0), PRIOR)


@given(
    n=st.integers(1, 12),
    batch=st.integers(0, 3),
    weight=st.floats(0, 1),
    scale=st.sampled_from([0.0, 1.0, 50.0]),
    seed=st.integers(0, 999),
)
def test_rows_sum_to_one_and_non_edges_get_exactly_zero(n, batch, weight, scale, seed):
    generator = np.random.default_rng(seed)
    edges = np.eye(n, dtype=bool) | (generator.random((n, n)) < 0.4)
    prior = np.where(edges, generator.random((n, n)) + 0.01, 0)
    prior /= prior.sum(axis=1, keepdims=True)
    scores = torch.from_numpy(scale * generator.normal(size=(batch, n, n)))
    alpha = attention(scores, torch.from_numpy(edges), torch.from_numpy(prior), weight)
    torch.testing.assert_close(alpha.sum(dim=-1), torch.ones(batch, n, dtype=torch.float64))
    assert (alpha >= 0).all()
    assert (alpha[:, ~torch.from_numpy(edges)] == 0).all()


def test_layer_by_hand():
    # Wx = (2, -2); a_src.Wx = (1, -1); a_dst.Wx = (2, -2); LeakyReLU of the sums:
    # node 0: (3, 0.2 * -1); node 1: (1, 0.2 * -3).
    layer = AttentionLayer(in_features=1, out_features=1, heads=1)
    with torch.no_grad():
        layer.transform.weight.fill_(2.0)
        layer.source.fill_(0.5)
        layer.target.fill_(1.0)
    edges, prior = torch.ones(2, 2, dtype=torch.bool), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    first = 1 / (1 + math.exp(-0.2 - 3))
    second = 1 / (1 + math.exp(-0.6 - 1))
    nodes = torch.tensor([[[1.0], [-1.0]]])
    learned = torch.tensor([[[4 * first - 2], [4 * second - 2]]])
    torch.testing.assert_close(layer(nodes, edges, prior, 0.0), learned)
    # The prior alone: node 0 sees itself, node 1 the mean of both.
    torch.testing.assert_close(layer(nodes, edges, prior, 1.0), torch.tensor([[[2.0], [0.0]]]))


def test_heads_are_independent_and_side_by_side():
    torch.manual_seed(0)
    both = AttentionLayer(in_features=4, out_features=5, heads=2)
    alone = AttentionLayer(in_features=4, out_features=5, heads=1)
    with torch.no_grad():
        alone.transform.weight.copy_(both.transform.weight[5:])
        alone.source.copy_(both.source[1:])
        alone.target.copy_(both.target[1:])
    nodes = torch.randn(2, 3, 4)
    torch.testing.assert_close(
        both(nodes, EDGES, PRIOR, 0.2)[..., 5:], alone(nodes, EDGES, PRIOR, 0.2)
    )


def test_a_node_without_neighbours_ignores_the_others():
    prior = GraphPrior(np.eye(3, dtype=bool), np.eye(3, dtype=np.float32))
    graph = DpkGat(prior, beta=0.3, dropout=0.5).eval()
    features = torch.randn(1, 3, 25)
    changed = features.clone()
    changed[:, 1:] += 1
    torch.testing.assert_close(graph(features, 1.0)[:, 0], graph(changed, 1.0)[:, 0])
    assert not torch.allclose(graph(features, 1.0)[:, 1], graph(changed, 1.0)[:, 1])


def test_the_extrinsic_prior_fades_with_its_weight():
    features = torch.randn(2, 12, 25)
    graphs = AuRelations(graph_priors(published_priors()), beta=0.3, dropout=0.5).eval()
    full, faded = graphs(features, 1.0), graphs(features, 0.0)
    assert not torch.allclose(full, faded, atol=1e-5)
    without = AuRelations(graph_priors(published_priors()), beta=0.0, dropout=0.5).eval()
    without.load_state_dict(graphs.state_dict())
    torch.testing.assert_close(without(features, 1.0), faded)


@pytest.mark.parametrize("graph", ["upper", "lower", "whole"])
def test_shipped_priors_are_what_attention_asks_for(graph):
    prior = getattr(graph_priors(published_priors()), graph)
    assert prior.edges.diagonal().all()
    assert (prior.prior[~prior.edges] == 0).all()
    np.testing.assert_allclose(prior.prior.sum(axis=1), 1, atol=1e-6)
