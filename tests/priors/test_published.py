import numpy as np
import pytest

import fedpsyau_priors as priors
from fedpsyau_model.action_units import AUS, LOWER_AUS, UPPER_AUS


def at(matrix, first, second, aus=AUS):
    return matrix[aus.index(first), aus.index(second)]


def test_au_order_is_the_models():
    assert priors.action_units() == AUS


@pytest.mark.parametrize(
    ("matrix", "shape"),
    [
        (priors.intrinsic_upper, (6, 6)),
        (priors.intrinsic_lower, (6, 6)),
        (priors.intrinsic_cross, (12, 12)),
        (priors.cooccurrence_counts, (12, 12)),
    ],
)
def test_shapes_and_read_only(matrix, shape):
    assert matrix().shape == shape
    with pytest.raises(ValueError, match="read-only"):
        matrix()[0, 0] = 7


def test_counts_read_off_the_published_table():
    counts = priors.cooccurrence_counts()
    assert at(counts, 1, 1) == 1420
    assert at(counts, 1, 2) == 1170
    assert at(counts, 4, 7) == 1239
    assert at(counts, 12, 6) == 552
    assert at(counts, 2, 9) == 0
    assert at(counts, 17, 17) == 484
    assert (counts == counts.T).all()


def test_intrinsic_pairs_read_off_the_published_tables():
    upper, lower = priors.intrinsic_upper(), priors.intrinsic_lower()
    assert at(upper, 1, 5, UPPER_AUS) == 1
    assert at(upper, 4, 7, UPPER_AUS) == 0
    assert at(upper, 6, 7, UPPER_AUS) == 1
    assert at(lower, 9, 10, LOWER_AUS) == 1
    assert at(lower, 10, 12, LOWER_AUS) == 0
    assert at(priors.intrinsic_cross(), 6, 12) == 1
    assert at(priors.intrinsic_cross(), 4, 12) == 0
    assert (upper == upper.T).all()
    assert (lower == lower.T).all()


def test_diagonal_blocks_of_the_cross_matrix_are_identities():
    cross = priors.intrinsic_cross()
    assert (cross[:6, :6] == np.eye(6)).all()
    assert (cross[6:, 6:] == np.eye(6)).all()


def test_only_au2_au9_is_asymmetric():
    cross = priors.intrinsic_cross()
    assert at(cross, 2, 9) == 0
    assert at(cross, 9, 2) == 1
    assert priors.asymmetric_pairs(cross) == [(AUS.index(2), AUS.index(9))]
