import numpy as np
import pytest

from fedpsyau_client.synthetic.label_statistics import (
    au_set_model,
    draw_au_sets,
    emotion_shares,
)
from fedpsyau_model.action_units import AUS
from fedpsyau_model.emotions import EMOTIONS
from fedpsyau_priors import cooccurrence_counts

SURPRISE = EMOTIONS.index("surprise")


def test_shares_of_emotions():
    casme3 = dict(zip(EMOTIONS, emotion_shares("casme3") * 699, strict=True))
    assert casme3["happiness"] == pytest.approx(55)
    assert casme3["surprise"] == pytest.approx(187)
    assert casme3["contempt"] == 0
    assert emotion_shares("dfme") @ np.full(7, 7275) == pytest.approx(7275)


@pytest.mark.parametrize("source", ["dfme", "casme3"])
def test_the_model_is_a_distribution(source):
    probabilities = au_set_model(source).probabilities
    assert probabilities.shape == (7, 4096)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_casme3_sets_have_the_counted_frequencies_by_emotion():
    rates = au_set_model("casme3").au_rates()
    assert rates[SURPRISE, AUS.index(1)] == pytest.approx(100 / 187, abs=0.01)
    assert rates[EMOTIONS.index("anger"), AUS.index(14)] == pytest.approx(45 / 64, abs=0.01)
    assert rates[EMOTIONS.index("happiness"), AUS.index(12)] == pytest.approx(5 / 55, abs=0.01)


def test_drawn_dfme_sets_have_the_published_pair_statistics():
    generator = np.random.default_rng(0)
    emotions = generator.choice(len(EMOTIONS), 40_000, p=emotion_shares("dfme"))
    sets = draw_au_sets("dfme", emotions, generator).astype(float)
    drawn = sets.T @ sets / len(sets)
    np.testing.assert_allclose(drawn, cooccurrence_counts() / 7526, atol=0.03)


def test_pairs_that_exclude_each_other_are_hardly_drawn_and_partners_are():
    generator = np.random.default_rng(1)
    sets = draw_au_sets("dfme", np.full(20_000, SURPRISE), generator)
    both = (sets[:, AUS.index(1)] & sets[:, AUS.index(2)]).mean()
    assert both > 0.55
    assert (sets[:, AUS.index(2)] & sets[:, AUS.index(4)]).mean() < 0.03


def test_emotions_draw_different_sets():
    rates = au_set_model("dfme").au_rates()
    smile, brow = AUS.index(12), AUS.index(4)
    happy, disgust = EMOTIONS.index("happiness"), EMOTIONS.index("disgust")
    assert rates[happy, smile] > 10 * rates[disgust, smile]
    assert rates[disgust, brow] > 4 * rates[happy, brow]
