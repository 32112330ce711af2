from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks._plain_network import plain_over_points
from fedpsyau_model.calibration import calibrate_batch_norm
from fedpsyau_model.clip_tensors import ClipTensors
from fedpsyau_model.network import AuGatDsi, build_network
from fedpsyau_model.settings import NetworkSettings

MakeClips = Callable[..., ClipTensors]


def batch_norms(network: nn.Module) -> dict[str, _BatchNorm]:
    return {name: m for name, m in network.named_modules() if isinstance(m, _BatchNorm)}


@pytest.fixture
def network() -> AuGatDsi:
    return build_network(NetworkSettings(), 0)


def test_statistics_are_those_of_what_each_layer_gets(
    network: AuGatDsi, make_clips: MakeClips
) -> None:
    """One batch: mean and unbiased variance, over clips and positions, of each layer's input.

    The inputs are those of the plain rendition, in which every layer is a module that is called.
    """
    clips = make_clips(24)
    plain = plain_over_points(network)
    for layer in batch_norms(plain).values():
        layer.train()
    inputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            inputs[name] = arguments[0].detach().clone()

        return hook

    for name, layer in batch_norms(plain).items():
        layer.register_forward_pre_hook(keep(name))
    with torch.no_grad():
        plain(clips.flow, clips.rois, 0.5)
    calibrate_batch_norm(network, clips, 0.5)
    assert inputs.keys() == batch_norms(network).keys()
    for name, layer in batch_norms(network).items():
        seen = inputs[name].transpose(0, 1).flatten(1)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        torch.testing.assert_close(layer.running_mean, seen.mean(dim=1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var, seen.var(dim=1), rtol=1e-4, atol=1e-8)


def test_earlier_statistics_leave_no_trace(network: AuGatDsi, make_clips: MakeClips) -> None:
    clips = make_clips(150)
    calibrate_batch_norm(network, clips, 0.0)
    first = {name: value.clone() for name, value in network.state_dict().items()}
    for layer in batch_norms(network).values():
        assert layer.running_mean is not None
        layer.running_mean.fill_(7.0)
    calibrate_batch_norm(network, clips, 0.0)
    assert all(torch.equal(value, first[name]) for name, value in network.state_dict().items())


def test_weights_mode_momentum_and_random_state_stay(
    network: AuGatDsi, make_clips: MakeClips
) -> None:
    weights = {name: value.clone() for name, value in network.named_parameters()}
    momenta = [layer.momentum for layer in batch_norms(network).values()]
    random_state = torch.get_rng_state()
    network.train()
    calibrate_batch_norm(network, make_clips(5), 0.0)
    assert network.training
    assert all(module.training for module in network.modules())
    assert [layer.momentum for layer in batch_norms(network).values()] == momenta
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(v, weights[n]) for n, v in network.named_parameters())


@pytest.mark.parametrize("count", [1, 64, 65, 600])
def test_any_number_of_clips(network: AuGatDsi, make_clips: MakeClips, count: int) -> None:
    """One clip still has many positions; more than 512 are thinned out."""
    calibrate_batch_norm(network, make_clips(count), 0.0)
    for layer in batch_norms(network).values():
        assert layer.running_var is not None
        assert torch.isfinite(layer.running_var).all()
