"""What a decoder returns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hypothesis:
    """One transcript of one utterance.

    Attributes:
        text: the labels joined, the word separator written as one space and trimmed at the ends.
        tokens: label indices, without blanks.
        token_frames: for each token the frame in which it is first emitted.
        score: natural log of the score that the decoder maximised (greedy: the probability of the best path).
    """

    text: str
    tokens: tuple[int, ...]
    token_frames: tuple[int, ...]
    score: float
