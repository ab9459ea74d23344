"""Batches of unequal lengths with rubbish in their padding, and the devices that they are tried on."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
)
DEVICES = ["cpu", CUDA]

# What stands in the padding must not matter, so it is noise, far too large, infinite or not a number at all.
RUBBISH = {
    "noise": lambda shape: torch.randn(shape),
    "large": lambda shape: 1e30 * torch.randn(shape),
    "infinite": lambda shape: torch.full(shape, float("inf")),
    "nan": lambda shape: torch.full(shape, float("nan")),
}


def rubbish_batch(rows: Sequence[Tensor], kind: str, extra: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of (L, ...) as (B, longest + extra, ...) with rubbish behind each, and their (B,) int64 lengths."""
    lens = torch.tensor([len(row) for row in rows])
    batch = RUBBISH[kind]((len(rows), int(lens.max()) + extra, *rows[0].shape[1:]))
    for place, row in enumerate(rows):
        batch[place, : len(row)] = row
    return batch, lens


def exact_matrix_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA: convolutions and recurrent layers in float32 proper; TF32's 10 bits would hide a difference of 1e-5."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
