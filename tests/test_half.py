"""float16 inside, float32 outside, for gradients of any size."""

import pytest
import torch

from asr.half import Half


@pytest.mark.parametrize("size", [1e-20, 1e-9, 1.0, 1e9, 1e20])
def test_gradients_of_any_size_come_back(size: float) -> None:
    torch.manual_seed(1)
    inputs, weights = torch.randn(40, 8, requires_grad=True), torch.randn(8, 8, requires_grad=True)
    upstream = size * torch.randn(40, 8)
    half = Half()
    half.raised(half.lowered(inputs) @ half.lowered(weights)).backward(upstream)
    for found, expected in ((inputs.grad, upstream @ weights.T), (weights.grad, inputs.T @ upstream)):
        assert found is not None
        assert found.dtype == torch.float32
        assert (found - expected).norm() < 1e-3 * expected.norm()


def test_no_gradient_is_none() -> None:
    inputs = torch.randn(3, requires_grad=True)
    half = Half()
    half.raised(2 * half.lowered(inputs)).backward(torch.zeros(3))
    assert torch.equal(inputs.grad, torch.zeros(3))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_what_is_not_finite_stays_so(value: float) -> None:
    inputs = torch.randn(3, requires_grad=True)
    half = Half()
    half.raised(2 * half.lowered(inputs)).backward(torch.tensor([1.0, value, 1.0]))
    assert not torch.isfinite(inputs.grad).all()  # type: ignore[arg-type]
