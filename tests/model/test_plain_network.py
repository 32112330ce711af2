"""The network against a plain rendition of its definition, in double precision."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks._plain_network import PlainNetwork, plain_over_points
from fedpsyau_model.network import AuGatDsi, build_network
from fedpsyau_model.network.feed_forward import feed_forward
from fedpsyau_model.network.normed_convolution import (
    convolve,
    normed,
    normed_convolution,
    normed_weights,
)
from fedpsyau_model.network.patch_matrix import patch_matrix, patch_taps
from fedpsyau_model.network.pieces import pieces
from fedpsyau_model.network.pooling import pool_neighbours, pool_quarters
from fedpsyau_model.settings import NetworkSettings


@pytest.fixture(scope="module")
def network() -> AuGatDsi:
    """A network whose weights, biases and statistics are all far from their initial values."""
    model = build_network(NetworkSettings.model_validate({"dropout": 0.0}), 1).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.mul_(1 + torch.rand(value.shape, generator=generator))
            elif value.is_floating_point():
                value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return model


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("batch", [1, 3])
def test_eval_mode_gives_the_logits_of_161_slots(network, make_clips, batch):
    clips = make_clips(batch)
    plain = PlainNetwork(network).eval()
    inputs = (clips.flow.double(), clips.rois.double(), 0.7)
    with torch.inference_mode():
        for found, expected in zip(network(*inputs), plain(*inputs), strict=True):
            close(found, expected)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_logits_gradients_and_statistics(network, make_clips, training):
    clips = make_clips(4)
    model = copy.deepcopy(network).train(training)
    plain = plain_over_points(network).train(training)
    gradients = []
    for each in (model, plain):
        rois = clips.rois.double().requires_grad_()
        logits = torch.cat(each(clips.flow.double(), rois, 0.7), dim=1)
        weights = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64)
        (logits.flatten() * weights).sum().backward()
        gradients.append({name: value.grad for name, value in each.named_parameters()})
        gradients[-1] |= {"rois": rois.grad, "logits": logits.detach()}
    found, expected = gradients
    for name in expected:
        close(found[name], expected[name])
    for name, value in plain.state_dict().items():
        close(model.state_dict()[name].double(), value.double())


@pytest.mark.parametrize("rows", [0, 1, 96, 250])
def test_a_feed_forward_in_pieces_is_the_whole(rows):
    generator = torch.Generator().manual_seed(rows)

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    arguments = [values(rows, 5), values(40, 5), values(40), values(3, 40), values(3)]
    x, w1, b1, w2, b2 = arguments
    expected = F.linear(F.relu(F.linear(x, w1, b1)), w2, b2)
    found = feed_forward(*arguments)
    close(found, expected)
    close(feed_forward(*(value.detach() for value in arguments)), expected.detach())
    slope = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    ours, torchs = (torch.autograd.grad(y, arguments, slope) for y in (found, expected))
    for own, other in zip(ours, torchs, strict=True):
        close(own, other)


def test_gradients_of_the_feed_forward_by_finite_differences():
    torch.manual_seed(0)
    shapes = [(7, 3), (11, 3), (11,), (2, 11), (2,)]
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(feed_forward, arguments)


@pytest.mark.parametrize("rows", [0, 1, 9, 10, 11])
def test_pieces_hold_every_row_once(rows):
    cut = pieces(rows, 10 // torch.get_num_threads(), torch.device("cpu"))
    assert [index for piece in cut for index in range(piece.start, piece.stop)] == list(range(rows))
    assert pieces(rows, 1, torch.device("cuda")) == [slice(0, rows)]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_patch_matrix_is_the_convolution(size):
    torch.manual_seed(size)
    maps, weight = torch.randn(3, 4, size, size), torch.randn(2, 4, 3, 3)
    matrix = patch_matrix(weight, patch_taps(size))
    found = maps.permute(0, 2, 3, 1).flatten(1) @ matrix.t()
    expected = F.conv2d(maps, weight, padding=1).flatten(1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 3, 5, 5), (1, 2, 3, 3), (1, 1, 1, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("gradient", [True, False])
def test_pooling_is_torchs(shape, layout, gradient):
    maps = torch.randn(shape).contiguous(memory_format=layout).requires_grad_(gradient)
    assert torch.equal(pool_neighbours(maps), F.max_pool2d(maps, 3, stride=1, padding=1))
    assert torch.equal(pool_quarters(maps), F.max_pool2d(maps, 2, ceil_mode=True))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_layers_side_by_side_keep_their_own_statistics(momentum):
    torch.manual_seed(0)
    layers = [normed_convolution(3, count, 3).double() for count in (2, 5)]
    for layer in layers:
        layer[1].momentum = momentum
        nn.init.normal_(layer[1].weight)
        nn.init.normal_(layer[1].bias)
    alone = copy.deepcopy(layers)
    weights = [normed_weights(layer) for layer in layers]
    for training in (True, True, False):
        for layer in (*layers, *alone):
            layer.train(training)
        maps = torch.randn(4, 3, 6, 6, dtype=torch.float64)
        found = normed(convolve(maps, *weights), *(each.norm for each in weights))
        close(found, torch.cat([layer(maps) for layer in alone], dim=1))
    for layer, other in zip(layers, alone, strict=True):
        for name, value in other.state_dict().items():
            close(layer.state_dict()[name].double(), value.double())
