"""Lack of memory: how it is told from other errors, and what is let go before another attempt."""

import torch

# torch has a class for CUDA's allocator; that of the CPU, CUDA's libraries and oneDNN raise plain RuntimeErrors. oneDNN
# runs a CPU's LSTM, and does not say what it lacked.
_NO_MEMORY = (
    "can't allocate memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "could not create a primitive",
    "could not execute a primitive",
)


def out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether an error says that there was not enough memory, of the computer or of a CUDA device."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(text in str(error) for text in _NO_MEMORY)


def let_go(device: torch.device) -> None:
    """Return what torch keeps for later; call it outside the `except` clause, as the exception holds memory too."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
