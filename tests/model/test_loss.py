import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from fedpsyau_model.loss import add_proximal_gradient, inverse_frequency_weights, recognition_loss
from fedpsyau_model.network import NetworkOutput
from fedpsyau_model.settings import LossSettings

LN3 = math.log(3)


def output(au_logit=0.0, au_aux_logit=0.0):
    # Two clips; the true class 0 has probability 1/2, then class 2 has 3/5.
    emotion = torch.tensor([[math.log(2), 0.0, 0.0], [0.0, 0.0, LN3]], requires_grad=True)
    return NetworkOutput(emotion, torch.full((2, 12), au_logit), torch.full((2, 12), au_aux_logit))


def loss_of(network_output, au, au_known, weights=None, settings=None):
    return recognition_loss(
        network_output,
        torch.tensor([0, 2]),
        au,
        torch.tensor(au_known).unsqueeze(1).expand(-1, 12) if np.ndim(au_known) == 1 else au_known,
        weights,
        settings or LossSettings(),
    )


def test_loss_by_hand():
    # sigmoid(ln 3) = 3/4: an active AU costs ln 4/3, an inactive one ln 4; three of 24 are active.
    au = torch.zeros(2, 12)
    au[0, :3] = 1
    terms = loss_of(output(au_logit=LN3), au, [True, True])
    emotion = (math.log(2) + math.log(5 / 3)) / 2
    after = (3 * math.log(4 / 3) + 21 * math.log(4)) / 24
    before = math.log(2)
    assert terms.emotion.item() == pytest.approx(emotion)
    assert terms.au.item() == pytest.approx(after)
    assert terms.au_aux.item() == pytest.approx(before)
    assert terms.total.item() == pytest.approx(0.8 * emotion + 0.2 * after + 0.2 * before)


def test_each_weight_of_the_settings_is_used():
    settings = LossSettings(alpha1=1.0, alpha2=10.0, alpha3=100.0)
    terms = loss_of(output(LN3), torch.zeros(2, 12), [True, True], settings=settings)
    expected = terms.emotion + 10 * terms.au + 100 * terms.au_aux
    torch.testing.assert_close(terms.total, expected)


def test_class_weights_by_hand():
    terms = loss_of(output(), torch.zeros(2, 12), [True, True], torch.tensor([0.5, 7.0, 2.0]))
    expected = (0.5 * math.log(2) + 2 * math.log(5 / 3)) / 2
    assert terms.emotion.item() == pytest.approx(expected)


def test_clips_without_au_labels_do_not_count():
    au = torch.zeros(2, 12)
    au[1] = float("nan")
    terms = loss_of(output(LN3), au, [True, False])
    assert terms.au.item() == pytest.approx(math.log(4))
    assert terms.au_aux.item() == pytest.approx(math.log(2))


def test_aus_that_no_coder_looked_for_do_not_count():
    # Of the first clip only three AUs were coded and are active, of the second only one, inactive.
    au = torch.full((2, 12), float("nan"))
    known = torch.zeros(2, 12, dtype=torch.bool)
    au[0, :3], au[1, 11] = 1, 0
    known[0, :3], known[1, 11] = True, True
    terms = loss_of(output(LN3), au, known)
    assert terms.au.item() == pytest.approx((3 * math.log(4 / 3) + math.log(4)) / 4)


def test_a_batch_without_any_au_label_gives_zero_and_no_gradient():
    logits = torch.randn(2, 12, requires_grad=True)
    network_output = NetworkOutput(output().emotion, logits, logits)
    terms = loss_of(network_output, torch.full((2, 12), float("nan")), [False, False])
    assert terms.au.item() == 0
    assert terms.au_aux.item() == 0
    terms.total.backward()
    assert torch.equal(logits.grad, torch.zeros(2, 12))


def test_a_network_without_au_logits_has_the_emotion_term_only():
    terms = loss_of(NetworkOutput(output().emotion, None, None), torch.ones(2, 12), [True, True])
    assert terms.au.item() == terms.au_aux.item() == 0
    torch.testing.assert_close(terms.total, 0.8 * terms.emotion)


def test_inverse_frequency_by_hand():
    weights = inverse_frequency_weights(torch.tensor([0, 0, 0, 2]), class_count=4)
    torch.testing.assert_close(weights, torch.tensor([4 / 6, 0.0, 2.0, 0.0]))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_inverse_frequency_agrees_with_scikit_learn(labels):
    weights = inverse_frequency_weights(torch.tensor(labels), class_count=7)
    present = np.unique(labels)
    expected = compute_class_weight("balanced", classes=present, y=labels)
    np.testing.assert_allclose(weights[present], expected, rtol=1e-6)
    assert weights.sum().item() == pytest.approx(expected.sum())
    assert weights[torch.tensor(labels)].mean().item() == pytest.approx(1)


def test_proximal_gradient_and_value_agree_with_autograd():
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (2, 1, 3)]
    parameters = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    received = [torch.randn(shape, generator=generator) for shape in shapes]
    gradients = [torch.randn(shape, generator=generator) for shape in shapes]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    value = add_proximal_gradient(parameters, received, weight=0.3)
    pairs = list(zip(parameters, received, strict=True))
    term = 0.3 / 2 * sum((w - g).pow(2).sum() for w, g in pairs)
    torch.testing.assert_close(value, term.detach())
    for (w, g), before, slope in zip(
        pairs, gradients, torch.autograd.grad(term, parameters), strict=True
    ):
        torch.testing.assert_close(w.grad - before, 0.3 * (w.detach() - g))
        torch.testing.assert_close(w.grad - before, slope)


def test_at_the_received_model_the_proximal_term_is_zero():
    parameter = torch.ones(4, requires_grad=True)
    parameter.grad = torch.zeros(4)
    assert add_proximal_gradient([parameter], [torch.ones(4)], weight=5.0).item() == 0
    assert torch.equal(parameter.grad, torch.zeros(4))
