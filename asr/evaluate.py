"""A manifest through a recogniser: transcripts to score, and the loss."""

from collections.abc import Sequence
from pathlib import Path

import torch

from asr.batch import Batches, BatchOrder, Examples
from asr.ctc import ctc_losses
from asr.errors import ScoringError
from asr.files import write_text_atomic
from asr.manifest import Utterance
from asr.recognizer import Recognizer
from asr.report import render_report
from asr.wer import Result, read_hypotheses, score, write_hypotheses

HYPOTHESES_FILE = "hypotheses.jsonl"
REPORT_FILE = "report.txt"


class Evaluation:
    """Greedy recognition of one set of utterances, repeatable as the weights change.

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
    def run(self, recognizer: Recognizer) -> tuple[list[Result], float]:
        """Recognise every utterance, in manifest order.

        Returns:
            results: one for each utterance.
            loss: mean CTC loss in nats of the utterances whose labels fit in their frames; NaN when there is none.

        Raises:
            AudioError: an utterance cannot be read or is shorter than one frame; the message names it.
        """
        texts: dict[str, str] = {}
        loss, counted = 0.0, 0
        for batch in self.batches:
            moved = batch.to(recognizer.device)
            log_probs, lens = recognizer(moved.waves, moved.wave_lens)
            if self.has_labels:
                losses = ctc_losses(log_probs, lens, moved.labels, moved.label_lens)
                finite = losses[torch.isfinite(losses)]
                loss, counted = loss + float(finite.sum()), counted + len(finite)
            hypotheses = recognizer.decode(log_probs, lens)
            texts.update(zip(batch.ids, (hypothesis.text for hypothesis in hypotheses), strict=True))
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
