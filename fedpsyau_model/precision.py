"""Models that travel in fewer bytes, and what their rounding leaves for the next time.

Under ``half`` every float32 tensor travels as float16, both ways. Under ``delta`` the server's
model does, and the site answers with the difference to it in 8 bits, one scale for each row.
Integers travel as they are. A sender keeps what rounding took from each value, and adds it before
it rounds the next time, so that over the rounds nothing is lost (error feedback: Seide et al.,
Interspeech 2014; Karimireddy et al., ICML 2019).

Pure functions of arrays. Each is made of operations that IEEE 754 rounds in one way, so that server
and site come to the same bits on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

import numpy as np

from fedpsyau_model.exchange import Tensors
from fedpsyau_model.settings import Precision

__all__ = [
    "LARGEST_HALF",
    "Encoded",
    "Form",
    "FormOfTensor",
    "HasForm",
    "as_half",
    "as_quantised_difference",
    "as_received",
    "as_sent",
    "as_trained",
    "as_trained_sent",
    "form_of",
    "form_sent",
    "form_trained_sent",
    "scale_name",
    "with_difference",
]

#: The largest value of float16; what is beyond it is sent as this.
LARGEST_HALF: Final = float(np.finfo(np.float16).max)

#: Steps on either side of zero of the 8-bit difference; -128 is not used.
STEPS: Final = 127

#: What comes before the name of a tensor in that of its scales.
_SCALE = "scale/"


class HasForm(Protocol):
    """An array, or what is known of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sides."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""


class FormOfTensor(NamedTuple):
    """Shape and type of a tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype


#: Forms of a model's tensors by name.
Form = Mapping[str, HasForm]


class Encoded(NamedTuple):
    """Tensors as they travel, and what rounding took from them, by the model's own names.

    residual: float32, empty where nothing is rounded.
    """

    tensors: Tensors
    residual: Tensors


def form_of(tensors: Form) -> dict[str, FormOfTensor]:
    """Forms of tensors, without their values."""
    return {name: FormOfTensor(each.shape, each.dtype) for name, each in tensors.items()}


def scale_name(name: str) -> str:
    """Name under which the scales of a quantised tensor travel."""
    return _SCALE + name


# What travels, by the agreed precision ------------------------------------------------------------


def form_sent(model: Form, precision: Precision) -> dict[str, FormOfTensor]:
    """Forms in which the server sends a model of these forms."""
    forms = form_of(model)
    if precision == "full":
        return forms
    return {
        name: FormOfTensor(form.shape, np.dtype(np.float16)) if _is_rounded(form) else form
        for name, form in forms.items()
    }


def form_trained_sent(model: Form, precision: Precision) -> dict[str, FormOfTensor]:
    """Forms in which a site sends back a model of these forms."""
    if precision != "delta":
        return form_sent(model, precision)
    forms: dict[str, FormOfTensor] = {}
    for name, form in form_of(model).items():
        if _is_rounded(form):
            forms[name] = FormOfTensor(form.shape, np.dtype(np.int8))
            forms[scale_name(name)] = FormOfTensor(_rows(form.shape), np.dtype(np.float32))
        else:
            forms[name] = form
    return forms


def as_sent(model: Tensors, precision: Precision, residual: Tensors) -> Encoded:
    """Encode a model of the server. residual: what its last one to that site left."""
    return Encoded(model, {}) if precision == "full" else as_half(model, residual)


def as_received(sent: Tensors, model: Form) -> Tensors:
    """Decode a model of the server, in whatever precision it came, to the model's own types.

    sent: has the forms of `form_sent`. This is the very model that the site trains.
    """
    return {name: tensor.astype(model[name].dtype, copy=False) for name, tensor in sent.items()}


def as_trained_sent(
    trained: Tensors, precision: Precision, received: Tensors, residual: Tensors
) -> Encoded:
    """Encode a site's model. residual: what its answer in the round before left."""
    if precision == "delta":
        return as_quantised_difference(trained, received, residual)
    return as_sent(trained, precision, residual)


def as_trained(sent: Tensors, precision: Precision, received: Tensors) -> Tensors:
    """Decode a site's model.

    sent: has the forms of `form_trained_sent`. received: what the site had received. Scales may be
    so large that the result is not finite.
    """
    if precision == "delta":
        return with_difference(sent, received)
    return as_received(sent, received)


# Kernels ------------------------------------------------------------------------------------------


def as_half(tensors: Tensors, residual: Tensors) -> Encoded:
    """Round float32 tensors plus `residual` to the nearest float16, ties to even.

    residual: for some of the tensors; 0 for the others. What is beyond float16's range is clipped
    to it, what is not finite stays so, and neither leaves a residual: it could never be made good.
    """
    sent, left = {}, {}
    for name, tensor in tensors.items():
        if not _is_rounded(tensor):
            sent[name] = tensor
            continue
        intended = _intended(tensor, residual.get(name))
        fits = np.abs(intended) <= LARGEST_HALF  # not so of NaN
        if fits.all():
            sent[name] = intended.astype(np.float16)
            left[name] = np.asarray(intended - sent[name].astype(np.float32))
            continue
        clipped = np.clip(intended, -LARGEST_HALF, LARGEST_HALF)
        kept = np.where(np.isfinite(intended), clipped, intended)
        sent[name] = kept.astype(np.float16)
        left[name] = np.where(fits, clipped - clipped.astype(np.float16), np.float32(0))
    return Encoded(sent, left)


def as_quantised_difference(tensors: Tensors, base: Tensors, residual: Tensors) -> Encoded:
    """Quantise float32 differences ``tensors - base + residual`` to 8 bits, row by row.

    The scale of a row (first axis; a vector or number is one row) is a 127th of its largest
    magnitude, so that no value is off by more than half a scale. A row that is not finite has the
    scale NaN, and leaves no residual.
    """
    sent, left = {}, {}
    for name, tensor in tensors.items():
        if not _is_rounded(tensor):
            sent[name] = tensor
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            intended = _intended(np.asarray(tensor - base[name]), residual.get(name))
            rows = _by_row(intended)
            scale = np.abs(rows).max(axis=1, initial=0) / np.float32(STEPS)
        scale[~np.isfinite(scale)] = np.nan
        steps = np.zeros_like(rows)
        usable = scale > 0  # not so of NaN
        np.divide(rows, scale[:, None], out=steps, where=usable[:, None])
        steps = np.clip(np.rint(steps), -STEPS, STEPS)
        unsent = np.where(np.isfinite(scale)[:, None], rows - steps * scale[:, None], 0)
        sent[name] = steps.astype(np.int8).reshape(tensor.shape)
        sent[scale_name(name)] = scale.reshape(_rows(tensor.shape))
        left[name] = unsent.astype(np.float32, copy=False).reshape(tensor.shape)
    return Encoded(sent, left)


def with_difference(sent: Tensors, base: Tensors) -> Tensors:
    """Add to `base` what `as_quantised_difference` made; tensors of other types as they came."""
    model = {}
    for name, tensor in base.items():
        if not _is_rounded(tensor):
            model[name] = sent[name]
            continue
        scale = sent[scale_name(name)]
        scale = scale.reshape(scale.shape + (1,) * (tensor.ndim - scale.ndim))
        with np.errstate(over="ignore", invalid="ignore"):  # whoever decodes looks for such values
            model[name] = np.asarray(tensor + sent[name].astype(np.float32) * scale)
    return model


def _is_rounded(form: HasForm) -> bool:
    return form.dtype == np.float32


def _intended(values: np.ndarray, residual: np.ndarray | None) -> np.ndarray:
    return values if residual is None else np.asarray(values + residual)


def _by_row(values: np.ndarray) -> np.ndarray:
    """A tensor as a matrix, one line for each scale."""
    scales = math.prod(_rows(values.shape))
    return values.reshape(scales, values.size // scales if scales else 0)


def _rows(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a tensor's scales: one for each row; one in all for a vector or a number."""
    return shape[:1] if len(shape) > 1 else ()
