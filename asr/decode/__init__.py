"""CTC decoding of log-probabilities from any acoustic model; needs numpy, never torch."""

from asr.decode.greedy import greedy
from asr.decode.hypothesis import Hypothesis

__all__ = ["Hypothesis", "greedy"]
