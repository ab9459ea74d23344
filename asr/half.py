"""A computation in float16 whose gradients keep float32's range."""

from typing import Any

import torch
from torch import Tensor


class Half:
    """Converts float32 to float16 and back, for a computation whose gradients would not fit into float16.

    In the backward pass the gradients of the outputs are multiplied by a power of two that makes the largest about an
    eighth, and those of the inputs are divided by it: float16 then loses two millionths of the largest.
    """

    scale: Tensor

    def lowered(self, values: Tensor) -> Tensor:
        """An input of the computation, float32 of any shape, in float16."""
        result: Tensor = _Lowered.apply(values, self)  # type: ignore[no-untyped-call]
        return result

    def raised(self, values: Tensor) -> Tensor:
        """The output of the computation, float16 of any shape, in float32; an object has one, from all its inputs."""
        result: Tensor = _Raised.apply(values, self)  # type: ignore[no-untyped-call]
        return result


class _Lowered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, half: Half) -> Tensor:
        ctx.half = half
        return values.half()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return grads[0].float() / ctx.half.scale, None


class _Raised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, half: Half) -> Tensor:
        ctx.half = half
        return values.float()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        largest = grads[0].abs().amax().clamp_min(1e-30)
        ctx.half.scale = torch.exp2(-3 - torch.ceil(torch.log2(largest)))
        return (grads[0] * ctx.half.scale).half(), None
