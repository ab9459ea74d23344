"""A manifest through a recogniser: transcripts to score, and the loss."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.batch import Batch, Batches, BatchOrder, Examples
from asr.config import DecodeConfig
from asr.ctc import ctc_losses
from asr.decoding import Decoder
from asr.emissions import Emissions
from asr.errors import ScoringError
from asr.files import write_text_atomic
from asr.manifest import Utterance
from asr.recognizer import Recognizer
from asr.report import render_report
from asr.wer import Result, read_hypotheses, score, write_hypotheses

HYPOTHESES_FILE = "hypotheses.jsonl"
REPORT_FILE = "report.txt"


class Evaluation:
    """Recognition of one set of utterances, repeatable as the weights change.

    Args:
        utterances: what to recognise; references are normalised like training transcripts.
        recognizer: any recogniser with the configuration that will be evaluated.
        batch_s: padded seconds of audio in a batch.
        workers: loading processes.
        labels: encoded references, for the loss; None: no loss.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        recognizer: Recognizer,
        *,
        batch_s: float,
        workers: int = 0,
        labels: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.utterances = utterances
        self.has_labels = labels is not None
        references = labels if labels is not None else [[] for _ in utterances]
        self.batches = Batches(
            Examples(utterances, references, recognizer.config.audio, recognizer.log_mel.fft_samples),
            BatchOrder([utterance.duration for utterance in utterances], batch_s, shuffle=False),
            workers=workers,
            pin_memory=recognizer.device.type == "cuda",
        )

    @torch.inference_mode()
    def encode(self, recognizer: Recognizer) -> Iterator[tuple[Batch, Tensor, Tensor]]:
        """Batches with their (B, T', V) float32 log-probabilities and (B,) lengths.

        Raises:
            AudioError: an utterance cannot be read or is shorter than one frame; the message names it.
        """
        for batch in self.batches:
            moved = batch.to(recognizer.device)
            yield moved, *recognizer(moved.waves, moved.wave_lens)

    def run(
        self,
        recognizer: Recognizer,
        decoder: Decoder | None = None,
        *,
        keep: dict[str, NDArray[np.float32]] | None = None,
    ) -> tuple[list[Result], float]:
        """Recognise every utterance, in manifest order.

        Args:
            recognizer: the model.
            decoder: `recognizer.decoder`, or another; None: greedy. Training leaves it at that, whatever `decode` in
                the configuration says: dev is decoded after each epoch, and the epoch is to be chosen by the acoustic
                model, not by how well it goes with a language model whose weights are tuned on the same utterances.
            keep: is given the (T', V) log-probabilities of each utterance by its id.

        Returns:
            results: one for each utterance.
            loss: mean CTC loss in nats of the utterances whose labels fit in their frames; NaN when there is none.

        Raises:
            AudioError: as `encode`.
            DecodeError: an utterance cannot be decoded; the message names it.
        """
        decoder = decoder or Decoder(DecodeConfig(), recognizer.vocabulary)
        texts: dict[str, str] = {}
        loss, counted = 0.0, 0
        for batch, log_probs, lens in self.encode(recognizer):
            if self.has_labels:
                losses = ctc_losses(log_probs, lens, batch.labels, batch.label_lens)
                finite = losses[torch.isfinite(losses)]
                loss, counted = loss + float(finite.sum()), counted + len(finite)
            rows = log_probs.cpu().numpy()
            found = decoder(rows, lens, names=batch.ids)
            texts.update(zip(batch.ids, (hypotheses[0].text for hypotheses in found), strict=True))
            if keep is not None:
                keep.update(_cut(batch.ids, rows, lens))
        results = [
            Result(
                id=utterance.id,
                speaker=utterance.speaker,
                reference=recognizer.tokenizer.normalize(utterance.text),
                hypothesis=texts[utterance.id],
                duration=utterance.duration,
            )
            for utterance in self.utterances
        ]
        return results, loss / counted if counted else float("nan")


def emit(evaluation: Evaluation, recognizer: Recognizer) -> Emissions:
    """The log-probabilities of every utterance, in manifest order; AudioError as `Evaluation.encode`."""
    found: dict[str, NDArray[np.float32]] = {}
    for batch, log_probs, lens in evaluation.encode(recognizer):
        found.update(_cut(batch.ids, log_probs.cpu().numpy(), lens))
    return emissions_of(evaluation.utterances, found, recognizer)


def emissions_of(
    utterances: Sequence[Utterance], log_probs: Mapping[str, NDArray[np.float32]], recognizer: Recognizer
) -> Emissions:
    """What `Evaluation.run` kept, with the references, ready to be written."""
    refs = {utterance.id: recognizer.tokenizer.normalize(utterance.text) for utterance in utterances}
    return Emissions(recognizer.vocabulary, {name: log_probs[name] for name in refs}, refs)


def _cut(ids: Sequence[str], rows: NDArray[np.float32], lens: Tensor) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name, row, length in zip(ids, rows, lens.tolist(), strict=True):
        yield name, row[:length].copy()  # not a view, which would hold the padded batch


def write_results(folder: Path, results: Sequence[Result]) -> str:
    """Write `hypotheses.jsonl` and `report.txt` and return the report; the hypotheses are complete once they exist.

    Raises:
        ScoringError: the folder holds results on other utterances.
    """
    if (folder / HYPOTHESES_FILE).exists():
        previous = read_hypotheses(folder / HYPOTHESES_FILE)
        if not same_references(previous, results):
            raise ScoringError(f"{folder}: holds results on other utterances; --out chooses another folder")
    report = render_report(score(results))
    write_text_atomic(folder / REPORT_FILE, report)
    write_hypotheses(folder / HYPOTHESES_FILE, results)
    return report


def same_references(a: Sequence[Result], b: Sequence[Result]) -> bool:
    """Whether two lists of results are of the same utterances with the same references, in any order."""
    return {(item.id, item.reference) for item in a} == {(item.id, item.reference) for item in b}
