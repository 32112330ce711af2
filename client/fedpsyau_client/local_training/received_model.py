"""What a model of the server must be before this site's network takes it in."""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

import numpy as np

from fedpsyau_model.errors import RequestRefusedError, WeightsMismatchError
from fedpsyau_model.exchange import Tensors, unpack_tensors, without_others
from fedpsyau_model.precision import Form, FormOfTensor, as_received, form_of, form_sent
from fedpsyau_model.settings import Precision

__all__ = ["ExpectedModel"]


#: Characters of a tensor's name that a message shows.
_LONGEST_NAME = 100


class ExpectedModel(dict[str, FormOfTensor]):
    """Shape and type of every tensor that travels, by name; no other ever leaves the site."""

    precision: Precision = "full"
    """In which it comes."""

    @classmethod
    def of(cls, tensors: Form, precision: Precision) -> Self:
        """The model that has tensors like these."""
        model = cls(form_of(tensors))
        model.precision = precision
        return model

    def read(self, model: bytes, *, with_others: bool) -> tuple[Tensors, Tensors]:
        """Read a packed model: the one received, and the others' mean, empty if it did not come.

        with_others: whether the strategy sends the others' mean along. Both are returned in the
        types of this site's network, whatever they came in.

        Raises MalformedMessageError for bytes that are no model, WeightsMismatchError for names,
        shapes or types of another network, RequestRefusedError for values that are not finite.
        """
        received, others = without_others(unpack_tensors(model))
        if others and not with_others:
            raise WeightsMismatchError(
                "The server's model comes with the mean of the others' models, which this strategy "
                "does not send. Both sides need the same fedpsyau version."
            )
        for tensors in (received, others) if others else (received,):
            self._require(tensors)
        return as_received(received, self), as_received(others, self)

    def _require(self, tensors: Tensors) -> None:
        """Refuse too many or too few tensors: what came is what would be sent back."""
        if tensors.keys() != self.keys():
            missing, extra = self.keys() - tensors.keys(), tensors.keys() - self.keys()
            raise WeightsMismatchError(
                f"The server's model does not have the tensors that travel under this strategy: "
                f"missing {_some(missing)}; not to be sent {_some(extra)}. Both sides need the "
                "same fedpsyau version and [network] settings."
            )
        comes = form_sent(self, self.precision)
        for name, tensor in tensors.items():
            shape, dtype = comes[name]
            if (tensor.shape, tensor.dtype) != (shape, dtype):
                raise WeightsMismatchError(
                    f"The server's tensor {name} is {tensor.dtype} {tensor.shape}, and this "
                    f"site expects {dtype} {shape}. Both sides need the same fedpsyau version "
                    "and the same [network] and [exchange] settings."
                )
            if not np.isfinite(tensor).all():
                raise RequestRefusedError(
                    f"The server's tensor {name} holds values that are not finite numbers. Ask the "
                    "coordinator to go on from a round before they came up."
                )


def _some(names: Collection[str]) -> str:
    first = [name if name.isprintable() else ascii(name) for name in sorted(names)[:3]]
    shown = ", ".join(name[:_LONGEST_NAME] for name in first)
    return shown + (" and more" if len(names) > 3 else "") or "none"
