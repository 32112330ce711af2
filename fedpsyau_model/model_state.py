"""What a model's state consists of, and how it becomes arrays that travel and comes back.

Entries of a state_dict are told apart by the type of their module and tensor, never by their name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedpsyau_model.errors import WeightsMismatchError

#: More problems than these are counted, not listed.
_LISTED_PROBLEMS = 5


def trainable_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the parameters that training changes, in the order of the state_dict."""
    return tuple(name for name, value in model.named_parameters() if value.requires_grad)


def batch_norm_statistic_names(model: nn.Module) -> tuple[str, ...]:
    """Names of running means, running variances and batch counters of every batch norm."""
    return tuple(
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for name, _ in module.named_buffers(recurse=False)
    )


def integer_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the entries that are whole numbers or truth values, which no mean makes sense of."""
    return tuple(
        name
        for name, value in model.state_dict().items()
        if not (value.is_floating_point() or value.is_complex())
    )


def shared_names(model: nn.Module, batch_norm: Literal["local", "shared"]) -> tuple[str, ...]:
    """Names of what a site shares, in the order of the state_dict.

    Integer entries stay where they are, as no mean makes sense of them; so do batch-norm
    statistics if `batch_norm` is ``"local"``.
    """
    own = set(integer_names(model))
    if batch_norm == "local":
        own.update(batch_norm_statistic_names(model))
    return tuple(name for name in model.state_dict() if name not in own)


def state_arrays(model: nn.Module) -> dict[str, np.ndarray]:
    """Copy the whole state_dict as contiguous NumPy arrays, in its order."""
    return {
        name: np.array(value.detach().cpu().numpy(), order="C")
        for name, value in model.state_dict().items()
    }


def load_state_arrays(model: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Set the model's state to `arrays`, copying them; its device stays.

    Raises WeightsMismatchError, and changes nothing, unless `arrays` has exactly the model's
    names, shapes and dtypes.
    """
    state = model.state_dict()
    problems = [f"{name} is missing" for name in state if name not in arrays]
    problems += [f"{name} is not known here" for name in arrays if name not in state]
    for name in state.keys() & arrays.keys():
        expected = _description(state[name].shape, str(state[name].dtype).removeprefix("torch."))
        found = _description(arrays[name].shape, str(arrays[name].dtype))
        if found != expected:
            problems.append(f"{name} should be {expected} and is {found}")
    if problems:
        raise WeightsMismatchError(_explain(problems))
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(torch.from_numpy(np.array(arrays[name], order="C")))


def _description(shape: tuple[int, ...], dtype: str) -> str:
    return f"{dtype} {tuple(shape)}"


def _explain(problems: list[str]) -> str:
    listed = sorted(problems)[:_LISTED_PROBLEMS]
    more = len(problems) - len(listed)
    return (
        f"These weights do not fit the network: {'; '.join(listed)}"
        f"{f'; and {more} more' if more else ''}. They were made with other [network] settings or "
        "another version of fedpsyau. Use the settings that the weights were trained with."
    )
