import copy

import numpy as np
import pytest
import torch
from torch import nn

from fedpsyau_model.errors import WeightsMismatchError
from fedpsyau_model.model_state import (
    batch_norm_statistic_names,
    integer_names,
    load_state_arrays,
    shared_names,
    state_arrays,
    trainable_names,
)
from fedpsyau_model.network import build_network
from fedpsyau_model.settings import NetworkSettings


class Odd(nn.Module):
    """Names that lie: a plain buffer called like a statistic, a batch norm called otherwise."""

    def __init__(self):
        super().__init__()
        self.calm = nn.BatchNorm1d(2)
        self.stateless = nn.BatchNorm2d(2, track_running_stats=False)
        self.batch_norm = nn.Linear(2, 2)
        self.batch_norm.bias.requires_grad_(False)
        self.register_buffer("running_mean", torch.zeros(3))
        self.register_buffer("steps", torch.tensor(4))
        self.register_buffer("passing", torch.zeros(3), persistent=False)


STATISTICS = ("calm.running_mean", "calm.running_var", "calm.num_batches_tracked")
TRAINED = ("calm.weight", "calm.bias", "stateless.weight", "stateless.bias", "batch_norm.weight")


def network(seed=0):
    return build_network(NetworkSettings(), seed)


def test_entries_are_told_apart_by_type_not_by_name():
    model = Odd()
    assert batch_norm_statistic_names(model) == STATISTICS
    assert set(integer_names(model)) == {"calm.num_batches_tracked", "steps"}
    assert trainable_names(model) == TRAINED


def test_what_is_shared():
    local = {*TRAINED, "batch_norm.bias", "running_mean"}
    assert set(shared_names(Odd(), "local")) == local
    assert set(shared_names(Odd(), "shared")) == local | {"calm.running_mean", "calm.running_var"}


def test_a_batch_norm_at_the_top_has_plain_names():
    assert "running_mean" in batch_norm_statistic_names(nn.BatchNorm1d(2))


def test_every_statistic_of_the_network_is_found():
    model = network()
    names = [n for n in model.state_dict() if n.rpartition(".")[2].startswith(("running", "num_"))]
    assert list(batch_norm_statistic_names(model)) == names
    assert len(names) == 3 * 31
    assert set(trainable_names(model)) | set(names) == model.state_dict().keys()


def test_state_goes_and_comes_back_bit_by_bit():
    first, second = network(0), network(1)
    arrays = state_arrays(first)
    assert list(arrays) == list(first.state_dict())
    assert all(array.flags.c_contiguous for array in arrays.values())
    load_state_arrays(second, arrays)
    for name, value in second.state_dict().items():
        assert torch.equal(value, first.state_dict()[name])


def test_arrays_are_copies():
    model = nn.Linear(2, 2)
    arrays = state_arrays(model)
    before = copy.deepcopy(arrays)
    with torch.no_grad():
        model.weight += 1
    np.testing.assert_array_equal(arrays["weight"], before["weight"])
    load_state_arrays(model, arrays)
    with torch.no_grad():
        model.weight += 1
    np.testing.assert_array_equal(arrays["weight"], before["weight"])


def test_read_only_and_strided_arrays_can_be_loaded():
    model = nn.Linear(2, 3)
    weight = np.arange(6, dtype=np.float32).reshape(2, 3).T
    weight.setflags(write=False)
    load_state_arrays(model, {"weight": weight, "bias": np.zeros(3, dtype=np.float32)})
    np.testing.assert_array_equal(model.weight.detach().numpy(), weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "bias is missing"),
        ({"extra": np.zeros(1)}, "extra is not known here"),
        ({"bias": np.zeros(4, np.float32)}, r"bias should be float32 \(3,\) and is float32 \(4,\)"),
        ({"bias": np.zeros(3)}, r"bias should be float32 \(3,\) and is float64 \(3,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(change, message):
    model = nn.Linear(2, 3)
    before = state_arrays(model)
    arrays = {name: array + 1 for name, array in before.items()} | change
    with pytest.raises(WeightsMismatchError, match=message):
        load_state_arrays(model, {n: array for n, array in arrays.items() if array is not None})
    for name, array in state_arrays(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_a_long_list_of_problems_is_cut():
    with pytest.raises(WeightsMismatchError, match=r"and \d+ more"):
        load_state_arrays(network(), {})
