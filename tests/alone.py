"""One recording recognised by itself: nothing that reads ahead, makes batches, cuts or streams stands in between."""

import torch
from torch import Tensor

from asr.decode import Hypothesis
from asr.recognizer import Recognizer, pad_waves


@torch.inference_mode()
def recognise(recognizer: Recognizer, wave: Tensor) -> Hypothesis:
    """The best hypothesis of (S,) samples."""
    return recognizer.decode(*recognizer(*pad_waves([wave])))[0]
