import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import fedpsyau_priors as priors
from fedpsyau_model.action_units import AUS

VARIANTS = ("published", "extended", "complete")


def edge(graph, first, second, aus=AUS):
    return bool(graph.edges[aus.index(first), aus.index(second)])


@pytest.mark.parametrize("intrinsic", VARIANTS)
@pytest.mark.parametrize(("region", "size"), [("upper", 6), ("lower", 6), ("whole", 12)])
def test_every_graph_is_a_distribution_over_symmetric_edges(intrinsic, region, size):
    graph = getattr(priors.graph_priors(priors.published_priors(intrinsic)), region)
    assert graph.edges.shape == graph.prior.shape == (size, size)
    assert graph.edges.dtype == np.bool_
    assert graph.prior.dtype == np.float32
    assert (graph.edges == graph.edges.T).all()
    assert graph.edges.diagonal().all()
    assert (graph.prior[~graph.edges] == 0).all()
    assert (graph.prior >= 0).all()
    np.testing.assert_allclose(graph.prior.sum(axis=1), 1, atol=1e-6)
    for array in (graph.edges, graph.prior):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0


def test_prior_of_au1_in_the_upper_face_by_hand():
    # Neighbours of AU1: 1, 2, 4, 5, with 1420, 1170, 62 and 751 clips.
    row = priors.graph_priors(priors.published_priors("published")).upper.prior[0]
    np.testing.assert_allclose(row, np.array([1420, 1170, 62, 751, 0, 0]) / 3403, rtol=1e-6)


def test_prior_of_au9_in_the_whole_face_by_hand():
    # Neighbours of AU9: 2 (closure), 4, 6, 7 across, 9 and 10 below: 0, 107, 12, 28, 162, 18 clips.
    graph = priors.graph_priors(priors.published_priors("published")).whole
    expected = dict.fromkeys(AUS, 0.0) | {4: 107, 6: 12, 7: 28, 9: 162, 10: 18}
    row = np.array([expected[au] for au in AUS]) / 327
    np.testing.assert_allclose(graph.prior[AUS.index(9)], row, rtol=1e-6)
    assert {au for au in AUS if edge(graph, 9, au)} == {2, 4, 6, 7, 9, 10}


def test_whole_graph_is_the_union_of_the_three_published_matrices():
    graphs = priors.graph_priors(priors.published_priors("published"))
    assert (graphs.whole.edges[:6, :6] == priors.intrinsic_upper()).all()
    assert (graphs.whole.edges[6:, 6:] == priors.intrinsic_lower()).all()
    across = (priors.intrinsic_cross() | priors.intrinsic_cross().T)[:6, 6:]
    assert (graphs.whole.edges[:6, 6:] == across).all()


def test_asymmetric_pair_is_an_edge_both_ways():
    whole = priors.graph_priors(priors.published_priors("published")).whole
    assert edge(whole, 2, 9)
    assert edge(whole, 9, 2)


def test_au4_au7_is_an_edge_only_when_extended():
    published, extended = (
        priors.graph_priors(priors.published_priors("published")),
        priors.graph_priors(priors.published_priors("extended")),
    )
    assert not edge(published.upper, 4, 7)
    assert not edge(published.whole, 4, 7)
    for graph in (extended.upper, extended.whole):
        assert edge(graph, 4, 7)
        assert edge(graph, 7, 4)
    added = extended.whole.edges ^ published.whole.edges
    assert added.sum() == 2
    assert (extended.lower.edges == published.lower.edges).all()


def test_complete_graph_has_every_pair_and_the_published_attention_as_prior():
    graphs = priors.graph_priors(priors.published_priors("complete"))
    assert graphs.whole.edges.all()
    np.testing.assert_allclose(graphs.whole.prior, priors.attention("whole"), rtol=1e-6)
    np.testing.assert_allclose(graphs.lower.prior, priors.attention("lower"), rtol=1e-6)


def test_attention_by_hand():
    # Row AU15: 6+8+27+4+9+6 in the upper face, 0+7+14+7+196+24 in the lower.
    assert priors.attention("whole")[10, 10] == pytest.approx(196 / 308)
    assert priors.attention("lower")[4, 4] == pytest.approx(196 / 248)
    # Row AU4 within the upper face: 62+16+3443+145+135+1239.
    assert priors.attention("upper")[2, 5] == pytest.approx(1239 / 5040)


@given(
    st.integers(0, 6).flatmap(
        lambda n: arrays(np.float64, (n, n), elements=st.floats(0, 1e6, allow_subnormal=False))
    )
)
def test_normalised_rows_sum_to_one_at_any_size(counts):
    counts = counts + np.eye(len(counts))
    rows = priors.normalise_rows(counts)
    assert rows.shape == counts.shape
    np.testing.assert_allclose(rows.sum(axis=1), 1)


def test_a_row_without_counts_is_refused_by_number():
    with pytest.raises(priors.PriorError, match=r"Rows 1 .*add a small number"):
        priors.normalise_rows([[1, 2], [0, 0]])


@pytest.mark.parametrize("counts", [[[1.0, -1.0], [1.0, 1.0]], [[np.nan, 1.0], [1.0, 1.0]]])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(priors.PriorError, match="finite and not negative"):
        priors.normalise_rows(counts)


def test_a_matrix_of_another_size_than_the_edges_is_refused():
    with pytest.raises(priors.PriorError, match="differ in shape"):
        priors.prior_over_edges(np.ones((3, 3)), np.ones((2, 2), dtype=bool))


def test_oddities_name_both_pairs():
    assert [oddity.pair for oddity in priors.oddities()] == [(2, 9), (4, 7)]
    asymmetric, commonest = (oddity.note for oddity in priors.oddities())
    assert "row AU2 says 0, row AU9 says 1" in asymmetric
    assert "1239 clips" in commonest


def test_published_priors_are_the_shipped_matrices_by_name():
    published = priors.published_priors()
    assert published.name == priors.PUBLISHED
    assert (published.counts == priors.cooccurrence_counts()).all()
    assert (published.edges == priors.intrinsic_edges("published")).all()
    for array in (published.counts, published.edges):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0


def test_the_fingerprint_is_of_the_matrices_and_not_of_the_name():
    first = priors.published_priors()
    assert first.fingerprint() == priors.own_priors("another name").fingerprint()
    more = priors.cooccurrence_counts().copy()
    more[0, 0] += 1
    others = [
        priors.published_priors("extended"),
        priors.own_priors("", cooccurrence=more),
        priors.own_priors("", smoothing=0.1),
        priors.own_priors("", coordinated=np.eye(12, dtype=int)),
    ]
    assert len({each.fingerprint() for each in (first, *others)}) == 5


def test_own_matrices_reach_the_graphs():
    counts = 3 * np.eye(12, dtype=int)
    counts[0, 1] = counts[1, 0] = 1
    coordinated = np.zeros((12, 12), dtype=int)
    coordinated[1, 0] = 1  # the diagonal and the other direction follow
    own = priors.own_priors("own", cooccurrence=counts, coordinated=coordinated)
    graphs = priors.graph_priors(own)
    np.testing.assert_allclose(graphs.upper.prior[0], [0.75, 0.25, 0, 0, 0, 0])
    assert graphs.whole.edges.sum() == 14
    smoothed = priors.own_priors("own", cooccurrence=counts, coordinated=coordinated, smoothing=1)
    # Edges of AU1 are AU1 and AU2, with 3 + 1 and 1 + 1 clips.
    np.testing.assert_allclose(priors.graph_priors(smoothed).upper.prior[0][:2], [4 / 6, 2 / 6])


def test_own_matrices_that_cannot_be_used_are_refused():
    with pytest.raises(priors.PriorError, match="No clip shows AU2, AU4"):
        priors.own_priors("own", cooccurrence=np.diag([1, 0, 0] + [1] * 9))
    with pytest.raises(priors.PriorError, match=r"shape \(3, 3\)"):
        priors.own_priors("own", coordinated=np.eye(3))
    with pytest.raises(priors.PriorError, match="nothing but 0 and 1"):
        priors.own_priors("own", coordinated=np.full((12, 12), np.nan))
