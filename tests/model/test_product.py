"""Products by oneDNN: torch has them, they are right, and nothing needs them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from fedpsyau_model.network.feed_forward import feed_forward
from fedpsyau_model.network.product import Linear, by_onednn, linear, product

SHAPES = [(1, 1, 1), (2, 75, 2048), (130, 2048, 75), (7, 3, 5)]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Within the rounding of float32 sums, of an expectation in float64."""
    scale = float(expected.abs().max().clamp(min=1))
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=2e-6 * scale)


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "before", "after"), SHAPES)
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.filterwarnings("ignore:TF32")
def test_a_product_is_the_sum_of_products(rows, before, after, enabled):
    x, w, b = values(rows, before), values(after, before, seed=1), values(after, seed=2)
    expected = x.double() @ w.double().t()
    with torch.backends.mkldnn.flags(enabled=enabled):
        close(product(x, w), expected)
        close(product(x, w, b), expected + b)
        close(product(x, w, b, relu=True), (expected + b).clamp(min=0))
        # Views whose rows do not lie one after the other.
        close(product(x.t().contiguous().t(), w.t().contiguous().t(), b), expected + b)


def test_there_may_be_no_rows():
    assert product(torch.empty(0, 3), values(5, 3)).shape == (0, 5)
    x = torch.empty(0, 3, requires_grad=True)
    w = values(5, 3).requires_grad_()
    linear(x, w).sum().backward()
    assert not w.grad.any()


@pytest.mark.parametrize(("rows", "before", "after"), SHAPES)
def test_a_linear_layer_and_its_gradients_are_torchs(rows, before, after):
    layer = Linear(before, after)
    arguments = [values(rows, before).requires_grad_(), *layer.parameters()]
    exact = [each.detach().double().requires_grad_() for each in arguments]
    slope = values(rows, after, seed=3)
    expected = F.linear(*exact)
    found = layer(arguments[0])
    close(found.detach(), expected.detach())
    gradients = zip(
        torch.autograd.grad(found, arguments, slope),
        torch.autograd.grad(expected, exact, slope.double()),
        strict=True,
    )
    for own, other in gradients:
        close(own, other)


def test_gradients_of_a_linear_layer_by_finite_differences():
    arguments = [values(*shape).double().requires_grad_() for shape in ((4, 3), (5, 3), (5,))]
    assert torch.autograd.gradcheck(linear, arguments)
    assert torch.autograd.gradcheck(lambda x, w: linear(x, w), arguments[:2])


@pytest.mark.parametrize("rows", [1, 65, 130])
def test_a_feed_forward_in_float32_and_its_gradients_are_the_definitions(rows):
    shapes = ((rows, 75), (512, 75), (512,), (75, 512), (75,))
    arguments = [values(*shape, seed=k).requires_grad_() for k, shape in enumerate(shapes)]
    exact = [each.detach().double().requires_grad_() for each in arguments]
    x, w1, b1, w2, b2 = exact
    expected = F.linear(F.relu(F.linear(x, w1, b1)), w2, b2)
    found = feed_forward(*arguments)
    close(found.detach(), expected.detach())
    slope = values(rows, 75, seed=9)
    gradients = zip(
        torch.autograd.grad(found, arguments, slope),
        torch.autograd.grad(expected, exact, slope.double()),
        strict=True,
    )
    for own, other in gradients:
        close(own, other)


def test_the_same_product_has_the_same_bits():
    x, w = values(130, 2048), values(75, 2048, seed=1)
    assert torch.equal(product(x, w), product(x.clone(), w.clone()))


@pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN"
)
def test_what_is_computed_by_onednn():
    x, w = values(4, 3), values(5, 3)
    assert by_onednn(x)
    assert not by_onednn(x.double())
    assert not by_onednn(x.to("meta"))
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        product(x, w)
    assert "mkldnn::_linear_pointwise" in {event.key for event in profiled.key_averages()}
