"""New sentences from the words of old ones: recordings are cut in pauses between words and put together anew.

A model trained on few recordings learns their sentences by heart: which letter follows which, and how often. In
sentences that nobody said it has to rely more on the sound. A previously trained model finds the words (Lam et al. 2021
do likewise for whole-word replacements).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path

import soundfile
from torch import Tensor

from asr.align import align_text
from asr.augment import utterance_generator
from asr.errors import ConfigError, ManifestError
from asr.evaluate import Evaluation
from asr.files import atomic_path, require_folder, write_text_atomic
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.process.lock import locked
from asr.progress import Progress
from asr.recognizer import Recognizer
from asr.splicing.pieces import Piece, cut
from asr.splicing.succession import Stock, Succession, assemble
from asr.training.trainset import LabelledSet, unusable

MANIFEST_FILE = "train.jsonl"
AUDIO_FOLDER = "spliced"
PLAN_FILE = "spliced.json"
_NAME = re.compile(r"spliced-\d{6,}")  # id of a sentence
# A speaker with a few fast words may yield sentences that cannot be learnt. If so many more than half of all sentences
# are refused, that is no accident.
_REFUSED = 100


@dataclass(frozen=True)
class Plan:
    """Which sentences to make; stored beside them in `spliced.json`.

    Attributes:
        hours: total duration.
        seconds: shortest and longest sentence, to a whole piece; see `asr.splicing.succession.assemble`.
        order: of the n-gram model of the transcripts that decides which word follows which; 1: any order of words.
        seed: of the choice of pieces.
    """

    hours: float
    seconds: tuple[float, float]
    order: int = 3
    seed: int = 0

    @classmethod
    def read(cls, folder: Path) -> "Plan | None":
        """The plan stored beside sentences; None where there is none, or another version wrote it."""
        try:
            facts = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
            return cls(**{**facts, "seconds": tuple(facts["seconds"])})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Spliced:
    """What was made: counts of speakers, pieces, utterances left whole and sentences, and seconds of the sentences."""

    speakers: int
    pieces: int
    whole: int
    sentences: int
    seconds: float

    def render(self) -> str:
        """The counts in a line."""
        return (
            f"{self.sentences} sentences, {self.seconds / 3600:.2f} h, of {self.pieces} pieces by {self.speakers} "
            f"speakers ({self.whole} utterances had no pause to be cut at)"
        )


def splice(utterances: Sequence[Utterance], recognizer: Recognizer, out: Path, plan: Plan) -> Spliced:
    """Write new sentences as FLAC files, and a manifest with the utterances and them.

    Args:
        utterances: what to cut; words of different speakers are never mixed. Without a speaker, all count as one.
        recognizer: aligns the transcripts.
        out: folder for `train.jsonl`, `spliced.json` and `spliced/`; what an earlier call wrote there is replaced.
        plan: what to make.

    Raises:
        AudioError: an utterance cannot be read; the message names it.
        TextError: a transcript cannot be aligned; the message names the utterance.
        ManifestError: an utterance has an id of the form that spliced sentences get.
        ConfigError: another process writes to `out`, it holds a `train.jsonl` that was not made here, or the pieces
            make no sentences that training would take.
    """
    for utterance in utterances:
        if _NAME.fullmatch(utterance.id):
            raise ManifestError(
                f"utterance {utterance.id}: this is an id of spliced sentences; was this manifest spliced before?"
            )
    if plan.seconds[0] > recognizer.config.train.max_utterance_s:
        raise ConfigError(
            f"sentences of {plan.seconds[0]:g} s and more are longer than train.max_utterance_s="
            f"{recognizer.config.train.max_utterance_s:g} of the model, so training would refuse them"
        )
    if not _is_ours(out / MANIFEST_FILE):
        raise ConfigError(f"{out / MANIFEST_FILE}: would be overwritten; choose another folder")
    require_folder(out)
    with locked(out) as alone:
        if not alone:
            raise ConfigError(f"{out}: another process is writing sentences there")
        return _splice(utterances, recognizer, out, plan)


def _is_ours(manifest: Path) -> bool:
    """Whether a manifest may be written over: there is none, or the last of its records is a spliced sentence."""
    if not manifest.exists():
        return True
    records = read_manifest(manifest, with_texts=False)
    return _NAME.fullmatch(records[-1].id) is not None


def _splice(utterances: Sequence[Utterance], recognizer: Recognizer, out: Path, plan: Plan) -> Spliced:
    rate_hz = recognizer.config.audio.sample_rate_hz
    pieces: dict[str, list[Piece]] = {}
    whole = 0
    for utterance, found in cut_all(utterances, recognizer):
        pieces.setdefault(utterance.speaker or "", []).extend(found)
        whole += len(found) == 1
    made: list[Utterance] = []
    total_s = 0.0
    succession = Succession([recognizer.tokenizer.normalize(item.text) for item in utterances], plan.order)
    stocks = {speaker: Stock(pieces[speaker], succession) for speaker in sorted(pieces)}
    sentences = _sentences(stocks, recognizer, out / AUDIO_FOLDER, plan)
    sentences = chain([next(sentences)], sentences)  # raises where there are none
    (out / MANIFEST_FILE).unlink(missing_ok=True)  # an old one must never stand beside new audio
    with Progress(round(3600 * plan.hours), "s") as progress:
        while total_s < 3600 * plan.hours:
            utterance, wave = next(sentences)
            with atomic_path(utterance.audio_filepath) as temporary:
                soundfile.write(temporary, wave.numpy(), rate_hz, format="FLAC", subtype="PCM_16")
            made.append(utterance)
            before, total_s = round(total_s), total_s + utterance.duration
            for _ in range(before, min(round(total_s), round(3600 * plan.hours))):
                progress.step({"sentences": str(len(made))})
    write_text_atomic(out / PLAN_FILE, json.dumps(asdict(plan)) + "\n")
    write_manifest(out / MANIFEST_FILE, [*utterances, *made])
    for path in set((out / AUDIO_FOLDER).glob("spliced-*.flac")) - {sentence.audio_filepath for sentence in made}:
        path.unlink()  # of an earlier call that made more
    return Spliced(len(pieces), sum(map(len, pieces.values())), whole, len(made), total_s)


def _sentences(
    stocks: Mapping[str, Stock], recognizer: Recognizer, folder: Path, plan: Plan
) -> Iterator[tuple[Utterance, Tensor]]:
    """Endless sentences, of each speaker in turn, without those that training at the model's settings would refuse."""
    speakers, rate_hz = list(stocks), recognizer.config.audio.sample_rate_hz
    refused = 0
    for number in count():
        name, speaker = f"spliced-{number:06d}", speakers[number % len(speakers)]
        sentence = assemble(stocks[speaker], utterance_generator(plan.seed, 0, name), plan.seconds, rate_hz)
        utterance = Utterance(
            name, folder / f"{name}.flac", len(sentence.wave) / rate_hz, sentence.text, speaker=speaker or None
        )
        reason = _reason_against(utterance, recognizer)
        if reason is None:
            yield utterance, sentence.wave
            continue
        refused += 1
        if refused > _REFUSED + number // 2:
            raise ConfigError(f"{refused} of {number + 1} sentences could not be trained on, the last: {reason}")


def _reason_against(utterance: Utterance, recognizer: Recognizer) -> str | None:
    """Why training would refuse an utterance; one with a word that the model has no labels for is not judged."""
    tokenizer = recognizer.tokenizer
    unknown = tokenizer.out_of_vocabulary(utterance.text)
    judged = not unknown or recognizer.config.text.allow_oov
    labels = [] if not judged else tokenizer.encode(utterance.text, where=f"utterance {utterance.id}")
    return unusable(LabelledSet([utterance], [labels], [unknown]), recognizer.config, recognizer).get(utterance.id)


def cut_all(utterances: Sequence[Utterance], recognizer: Recognizer) -> Iterator[tuple[Utterance, list[Piece]]]:
    """The pieces of each utterance, in the order of batches of similar length."""
    by_id = {utterance.id: utterance for utterance in utterances}
    rate_hz = recognizer.config.audio.sample_rate_hz
    evaluation = Evaluation(utterances, recognizer, batch_s=recognizer.config.train.batch_s, workers=0)
    for batch, log_probs, lens in evaluation.encode(recognizer):
        rows = zip(batch.ids, batch.waves.cpu(), batch.wave_lens.tolist(), log_probs.cpu(), lens.tolist(), strict=True)
        for name, wave, samples, row, frames in rows:
            utterance = by_id[name]
            text = recognizer.tokenizer.normalize(utterance.text)
            aligned = align_text(
                row[:frames], text, recognizer.tokenizer, recognizer.vocabulary, where=f"utterance {name}"
            )
            yield utterance, cut(wave[:samples].clone(), aligned.words, recognizer.frame_s, rate_hz)
