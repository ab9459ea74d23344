"""Runs a manifest through a recogniser: transcripts to score, and the loss."""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.batch import Batch, Batches, BatchOrder, Examples, default_workers, in_parts
from asr.boundaries import Levels, bounded
from asr.calibration import WORDS_FILE, write_words
from asr.config import DecodeConfig
from asr.ctc import ctc_losses, drawn_labels
from asr.decode import Word
from asr.decoding import Decoder
from asr.emissions import Emissions
from asr.errors import ConfigError, ScoringError
from asr.files import require_folder, write_text_atomic
from asr.hypotheses import HYPOTHESES_FILE, Result, read_hypotheses, write_hypotheses
from asr.manifest import Utterance
from asr.pauses import levels_of
from asr.recognizer import Recognizer
from asr.report import render_report
from asr.text import Tokenizer
from asr.wer import score

REPORT_FILE = "report.txt"
MADE_FILE = "evaluation.json"
DRAWS = 20  # texts drawn for an utterance, over which expected errors are averaged


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

        A batch that does not fit in memory comes in parts.

        Raises:
            AudioError: an utterance cannot be read, is shorter than one frame, or does not fit in memory alone; the
                message names it.
        """
        for batch in self.batches:
            yield from in_parts(lambda part: recognizer(part.waves, part.wave_lens), batch, recognizer.device)

    def run(
        self,
        recognizer: Recognizer,
        decoder: Decoder | None = None,
        *,
        keep: dict[str, NDArray[np.float32]] | None = None,
        words: dict[str, Sequence[Word]] | None = None,
        drawn: dict[str, list[str]] | None = None,
    ) -> tuple[list[Result], list[float]]:
        """Recognise every utterance, in manifest order.

        Args:
            recognizer: the model.
            decoder: `recognizer.decoder`, or another; None: greedy. Training always uses greedy, whatever `decode` in
                the configuration says: dev is decoded after each epoch, and the epoch is to be chosen by the acoustic
                model, not by how well it goes with a language model whose weights are tuned on the same utterances.
            keep: filled with the (T', V) log-probabilities of each utterance by its id.
            words: filled with the recognised words of each utterance by its id, with confidences, and the times of
                their sounds.
            drawn: filled with `DRAWS` texts of each utterance by its id, drawn with the probabilities that the model
                gives them; for an utterance, with the same random numbers each time.

        Returns:
            results: one for each utterance.
            losses: CTC loss in nats of each utterance whose labels are given and fit in its frames, in any order.

        Raises:
            AudioError: as `encode`.
            DecodeError: an utterance cannot be decoded; the message names it.
        """
        decoder = decoder or Decoder(DecodeConfig(), recognizer.vocabulary)
        texts: dict[str, str] = {}
        found_losses: list[float] = []
        for batch, log_probs, lens in self.encode(recognizer):
            if self.has_labels:
                losses = ctc_losses(log_probs, lens, batch.labels, batch.label_lens)
                found_losses += losses[torch.isfinite(losses)].tolist()
            rows = log_probs.cpu().numpy()
            found = decoder(rows, lens, names=batch.ids)
            texts.update(zip(batch.ids, (hypotheses[0].text for hypotheses in found), strict=True))
            if keep is not None:
                keep.update(_cut(batch.ids, rows, lens))
            if drawn is not None:
                for name, row in _cut(batch.ids, rows, lens):
                    labels = drawn_labels(row, DRAWS, np.random.default_rng(zlib.crc32(name.encode())))
                    drawn[name] = [recognizer.tokenizer.decode(sequence) for sequence in labels]
            if words is not None:
                levels = _levels(recognizer, batch)
                for name, hypotheses, each in zip(batch.ids, found, levels, strict=True):
                    words[name] = bounded(hypotheses[0].words, each)
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
        return results, found_losses


@dataclass(frozen=True)
class Provenance:
    """What results were made from; `evaluation.json` beside them holds it.

    Attributes:
        manifest: absolute path of what was recognised.
        decode: how it was decoded, with absolute paths; for greedy decoding, which uses no settings, the defaults.
    """

    manifest: Path
    decode: DecodeConfig

    @classmethod
    def of(cls, manifest: Path, decode: DecodeConfig) -> "Provenance":
        """From a manifest as it was named and the decoder's configuration."""
        return cls(manifest.resolve(), decode if decode.decoder == "beam" else DecodeConfig())

    @classmethod
    def read(cls, folder: Path) -> "Provenance | None":
        """What is recorded in a folder of results; None if nothing is, or if another version recorded it."""
        try:
            facts = json.loads((folder / MADE_FILE).read_text(encoding="utf-8"))
            return cls(Path(facts["manifest"]), DecodeConfig(**facts["decode"]))
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, ConfigError):
            return None

    def write(self, folder: Path) -> None:
        facts = {"manifest": str(self.manifest), "decode": asdict(self.decode)}
        write_text_atomic(folder / MADE_FILE, json.dumps(facts, ensure_ascii=False, indent=1) + "\n")


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
    refs = references_of(utterances, recognizer.tokenizer)
    return Emissions(recognizer.vocabulary, {name: log_probs[name] for name in refs}, refs)


def _levels(recognizer: Recognizer, batch: Batch) -> list[Levels]:
    """How loud each utterance is."""
    feats, lens = recognizer.log_mel(batch.waves, batch.wave_lens)
    rows = zip(levels_of(feats), lens.tolist(), strict=True)
    return [recognizer.levels(row[:length]) for row, length in rows]


def _cut(ids: Sequence[str], rows: NDArray[np.float32], lens: Tensor) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name, row, length in zip(ids, rows, lens.tolist(), strict=True):
        yield name, row[:length].copy()  # not a view, which would keep the padded batch


def references_of(utterances: Iterable[Utterance], tokenizer: Tokenizer) -> dict[str, str]:
    """The normalised text of each utterance by its id."""
    return {utterance.id: tokenizer.normalize(utterance.text) for utterance in utterances}


def require_own(
    folder: Path, manifest: Path, references: Mapping[str, str], hint: str = "--out chooses another folder"
) -> None:
    """Refuse a folder that holds results of something else, before hours of recognition and not after them.

    Results of the same manifest may be replaced, even if it has changed since, and so may those of another with the
    same utterances and references.

    Args:
        folder: where results are to be written.
        manifest: what will be recognised.
        references: normalised text by utterance id.
        hint: the end of the message, which says what to do.

    Raises:
        ScoringError: the folder holds results of other utterances, or other files with their names.
        ConfigError: it is not a folder.
    """
    require_folder(folder)
    made = Provenance.read(folder)
    if not (folder / HYPOTHESES_FILE).exists():  # a crash leaves only some of the others, and what they were made from
        foreign = next(
            (path for name in (MADE_FILE, REPORT_FILE, WORDS_FILE) if (path := folder / name).exists()), None
        )
        if foreign is not None and made is None:
            raise ScoringError(f"{foreign}: would be replaced, and is not of asr evaluate; {hint}")
        return
    if made is not None and made.manifest == manifest.resolve():
        return
    previous = read_hypotheses(folder / HYPOTHESES_FILE)
    if {(result.id, result.reference) for result in previous} != set(references.items()):
        before = "other utterances" if made is None else made.manifest
        raise ScoringError(f"{folder}: holds results of {before}, not of {manifest}; {hint}")


def evaluate_into(
    folder: Path,
    utterances: Sequence[Utterance],
    recognizer: Recognizer,
    made: Provenance,
    *,
    batch_s: float,
    keep: dict[str, NDArray[np.float32]] | None = None,
) -> str:
    """Recognise utterances with the recogniser's own decoder and write the results; returns the report.

    Args:
        folder: see `require_own`, which is to be called first.
        utterances, recognizer, batch_s: as for `Evaluation`.
        made: what the results are made from.
        keep: as for `Evaluation.run`.

    Raises:
        AudioError, DecodeError: as `Evaluation.run`.
    """
    evaluation = Evaluation(utterances, recognizer, batch_s=batch_s, workers=default_workers(recognizer.device))
    words: dict[str, Sequence[Word]] = {}
    results, _ = evaluation.run(recognizer, recognizer.decoder, keep=keep, words=words)
    return write_results(folder, results, made, words)


def write_results(
    folder: Path, results: Sequence[Result], made: Provenance, words: Mapping[str, Sequence[Word]] | None = None
) -> str:
    """Write `evaluation.json`, `report.txt`, `words.jsonl` and finally `hypotheses.jsonl`; returns the report.

    Existing results are replaced (see `require_own`): they are removed first, so a crash leaves none, not a mixture.
    """
    report = render_report(score(results))
    (folder / HYPOTHESES_FILE).unlink(missing_ok=True)
    (folder / WORDS_FILE).unlink(missing_ok=True)
    (folder / REPORT_FILE).unlink(missing_ok=True)
    made.write(folder)
    write_text_atomic(folder / REPORT_FILE, report)
    if words is not None:
        write_words(folder / WORDS_FILE, {result.id: words[result.id] for result in results})
    write_hypotheses(folder / HYPOTHESES_FILE, results)
    return report
