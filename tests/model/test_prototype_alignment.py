"""What FedAS needs, against plain formulas."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fedpsyau_model.alignment import align_to, class_means, class_prototypes, fisher_trace
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import NetworkSettings


@pytest.fixture(scope="module")
def network():
    """Without the AU branch, and in a frozen state that all tests share."""
    return build_network(NetworkSettings.model_validate({"au-branch": False}), 1)


def test_class_means_by_hand():
    features = torch.tensor([[1.0, 0.0], [3.0, 4.0], [10.0, 10.0]])
    means = class_means(features, torch.tensor([2, 2, 0]), 3)
    assert means.tolist() == [[10.0, 10.0], [0.0, 0.0], [2.0, 2.0]]


def test_prototypes_are_means_of_what_the_head_sees(network, make_clips):
    clips = make_clips(9)
    network.train()
    prototypes = class_prototypes(network, clips, 0.5)
    assert network.training
    network.eval()
    head = network.inception.classifier[1]
    logits = network(clips.flow, clips.rois, 0.5).emotion
    for emotion in clips.emotion.unique():
        expected = logits[clips.emotion == emotion].mean(dim=0)
        assert torch.allclose(head(prototypes[emotion]), expected, atol=1e-5)


def test_a_network_at_its_prototypes_has_nothing_to_align(network, make_clips):
    clips = make_clips(4)
    network.eval()
    features = network.features(clips.flow, clips.rois, 0.5)
    prototypes = torch.zeros(3, features.shape[1])
    terms = align_to(prototypes)(network, clips, 0.5)
    assert terms.total.item() == pytest.approx(features.square().mean().item())
    one = clips.subset(torch.tensor([0]))
    prototypes[one.emotion] = features[:1]
    assert align_to(prototypes.detach())(network, one, 0.5).total.item() == pytest.approx(0)


def test_fisher_trace_of_the_last_bias_by_hand(network, make_clips):
    """The gradient of -log p with respect to the bias is p - onehot; batches of 2 and 3 clips."""
    clips = make_clips(5)
    network.requires_grad_(False)
    network.inception.classifier[1].bias.requires_grad_(True)
    network.eval()
    probabilities = network(clips.flow, clips.rois, 0.5).emotion.softmax(dim=1)
    gradients = (probabilities - F.one_hot(clips.emotion, 3)).detach()
    expected = sum(
        len(part) * len(part) * part.mean(dim=0).square().sum().item()
        for part in (gradients[:2], gradients[2:])
    )
    found = fisher_trace(network, clips, 0.5, batch_size=2)
    network.requires_grad_(True)
    assert found == pytest.approx(expected / 5, rel=1e-4)
    assert network.inception.classifier[1].bias.grad is None
