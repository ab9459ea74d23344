"""The stages that recipes share: prepare, train, decode and score, each skipped when its output is complete."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import CheckpointError, ConfigError, CorpusError, Interrupted
from asr.files import atomic_path, digest_of, made_since, write_text_atomic
from asr.process.signals import ending_at_once

if TYPE_CHECKING:  # torch comes with these: functions import them, once `run_command` has set it up
    from asr.config import Config

MADE_FROM_FILE = "made_from.json"


def corpus_stage(data: Path, corpus: str, source: Path | None, *, allow_partial: bool = False, **options: Any) -> None:
    """Run `asr prepare` into `data`, once; see `asr.corpora.prepare` for the arguments."""
    from asr.corpora import is_prepared, prepare

    require_corpus(data, corpus, allow_partial=allow_partial)
    prepare_stage(
        data,
        lambda: prepare(corpus, source=source, out=data, allow_partial=allow_partial, **options).render(),
        {"source": str(source.resolve()) if source else None, **options},
        stale=not is_prepared(data, source),
    )


def roots_of(data: Path) -> list[Path]:
    """The folders that may hold the corpus which `corpus_stage` has prepared in `data`."""
    from asr.corpora.common import child_folders

    source = read_record(data / MADE_FROM_FILE)["source"]
    return [Path(source)] if source and Path(source).is_dir() else child_folders(data / "source")


def require_corpus(data: Path, corpus: str, *, allow_partial: bool = False) -> None:
    """Raise CorpusError if the manifests that are complete in `data` are of another corpus, or of only a part of it."""
    from asr.corpora import SUMMARY_FILE

    complete = data / SUMMARY_FILE
    if not complete.is_file():
        return
    summary = json.loads(complete.read_text(encoding="utf-8"))
    found = summary.get("corpus", "demo")  # which named none in earlier versions
    if found != corpus:
        raise CorpusError(f"{data}: holds the corpus {found}, not {corpus}; choose another folder")
    if summary.get("partial") and not allow_partial:
        raise CorpusError(
            f"{data}: holds only a part of the corpus (where a recipe has --allow-partial, it goes on with that); "
            "--out chooses another folder"
        )


def prepare_stage(
    data: Path, make: Callable[[], str], made_from: Mapping[str, str | None], *, stale: bool = False
) -> None:
    """Make the manifests in `data`, and show the text that `make` returns, unless they are complete there.

    Args:
        data: folder of the manifests.
        make: makes the manifests.
        made_from: what decides their content; None for what was not given.
        stale: what they were made from has changed since: complete or not, they are made anew.

    Raises:
        CorpusError: `data` is complete and was made from something else.
    """
    from asr.corpora import SUMMARY_FILE

    record = data / MADE_FROM_FILE
    if (data / SUMMARY_FILE).is_file() and record.is_file():
        before = read_record(record)
        for key, value in made_from.items():
            if value is not None and before.get(key) != value:
                raise CorpusError(
                    f"{data}: was made from {key}={before.get(key)}, not {value}; --out chooses another folder"
                )
        if not stale:
            say(f"prepare: complete in {data}, skipped")
            return
    say(f"prepare: {data}")
    print(make(), file=sys.stderr)
    write_text_atomic(record, json.dumps(dict(made_from)) + "\n")


def run_experiment(data: Path, model: Path, settings: "Config") -> None:
    """Train on `data`, then recognise and score its test; complete stages are skipped."""
    train_stage(model, with_data(settings, data))
    score_stage(model, data / "test.jsonl", model / "test")


def with_data(settings: "Config", data: Path, train: Path | None = None) -> "Config":
    """The configuration with the manifests of a prepared corpus, or another one to train on, all paths absolute.

    `data.dev=none` is kept.

    Raises:
        ConfigError: it names other manifests.
    """
    from asr.config import NO_DEV, with_absolute_paths

    given = settings.data
    dev = NO_DEV if given.dev == NO_DEV else str(data / "dev.jsonl")
    own = replace(given, train=str(train or data / "train.jsonl"), dev=dev)
    for key, found, wanted in (("train", given.train, own.train), ("dev", given.dev, own.dev)):
        if found and Path(found).resolve() != Path(wanted).resolve():
            raise ConfigError(f"data.{key}={found}: the recipe takes its own, {wanted}; asr train takes any")
    return with_absolute_paths(replace(settings, data=own))


def train_stage(model: Path, settings: "Config") -> None:
    """Train into `model` on manifests; goes on where an interrupted training stopped.

    Raises:
        ConfigError: `model` holds a run with other settings, or one that would ignore those of the decoder.
        CheckpointError: it holds a complete one whose files are damaged or another run's, or that was trained on other
            data than the manifests hold now.
    """
    from asr import checkpoint
    from asr.train import Trainer
    from asr.training.state import is_finished, require_decoder, require_finished_whole, require_same, state_files
    from asr.training.trainset import data_origin

    resume = bool(state_files(model))
    finished = is_finished(model, settings.train.epochs)
    try:
        if resume:
            require_same(checkpoint.load_config(model), settings, model)
        if finished:
            require_finished_whole(model, settings, data_origin)
    except (CheckpointError, ConfigError) as error:
        raise type(error)(f"{error}; --out chooses another folder, and removing {model} trains anew") from error
    if resume:
        require_decoder(checkpoint.load_config(model), settings, model)
    if finished:
        say(f"train: complete in {model}, skipped")
        return
    say(f"train: {model}")
    try:
        with ending_at_once():
            Trainer(settings, model, resume=resume).run()
    except Interrupted as stop:
        told = str(stop).partition(";")[0]
        raise Interrupted(f"{told}; start the same command again to go on", stop.signal) from stop


def splice_stage(manifest: Path, model: Path, out: Path, *, hours: float, seconds: tuple[float, float]) -> None:
    """Run `asr splice` into `out`, once for this manifest and for these weights; see `asr.splicing.sentences`."""
    from asr import checkpoint
    from asr.manifest import read_manifest
    from asr.recognizer import pick_device
    from asr.splicing.sentences import MANIFEST_FILE, Plan, splice

    plan, record, made_from = Plan(hours, seconds), out / MADE_FROM_FILE, {"recordings": digest_of(manifest, "sha256")}
    newer = made_since(out / MANIFEST_FILE, model / checkpoint.WEIGHTS_FILE)
    if newer and Plan.read(out) == plan and read_record(record) == made_from:
        say(f"splice: complete in {out}, skipped")
        return
    say(f"splice: {out}")
    record.unlink(missing_ok=True)
    recognizer = checkpoint.load(model, pick_device("auto"))
    print(splice(read_manifest(manifest), recognizer, out, plan).render(), file=sys.stderr)
    write_text_atomic(record, json.dumps(made_from) + "\n")


def score_stage(model: Path, manifest: Path, out: Path) -> None:
    """Recognise a manifest with the trained model as its configuration says, and print score and decoder.

    Raises:
        ScoringError: `out` holds results of other utterances.
    """
    from asr import checkpoint
    from asr.config import resolve_decode
    from asr.decoding import describe
    from asr.evaluate import Provenance, evaluate_into, references_of, require_own
    from asr.hypotheses import HYPOTHESES_FILE, read_hypotheses
    from asr.manifest import read_manifest
    from asr.recognizer import pick_device
    from asr.report import summary_line
    from asr.wer import score

    hypotheses = out / HYPOTHESES_FILE
    made_from = [model / checkpoint.WEIGHTS_FILE, model / checkpoint.CONFIG_FILE]  # `asr tune` writes the latter
    utterances = read_manifest(manifest)
    settings = checkpoint.load_config(model)
    tokenizer = checkpoint.load_tokenizer(model, settings)
    references = references_of(utterances, tokenizer)
    require_own(out, manifest, references, "move that folder away, and run the recipe again")
    made = Provenance.of(manifest, resolve_decode(settings.decode, model))
    newer = made_since(hypotheses, *made_from)
    results = read_hypotheses(hypotheses) if newer and Provenance.read(out) == made else []
    if results and {result.id: result.reference for result in results} == references:
        say(f"score: complete in {out}, skipped")
        summary = summary_line(score(results))
    else:
        say(f"score: {out}")
        recognizer = checkpoint.load(model, pick_device(settings.train.device))
        report = evaluate_into(out, utterances, recognizer, made, batch_s=settings.train.batch_s)
        summary = report.split("\n", 1)[0]
    print(f"{out.name}: {summary}; {describe(made.decode)}")


def language_model_stage(
    data: Path,
    model: Path,
    out: Path,
    order: int,
    texts: Sequence[Path] = (),
    lexicon: Path | None = None,
    *,
    priors: bool = False,
) -> None:
    """Make a copy of `model` in `out` that decodes with a word n-gram model of its training transcripts.

    It is made as `asr lm train` makes it, and weighed on dev as `asr tune` does.

    Args:
        data: folder with train.jsonl and dev.jsonl.
        model, out: run folders.
        order: words in the longest n-gram.
        texts: files of other sentences, one a line, that it learns from as well.
        lexicon: the words that may be recognised; None: any.
        priors: whether to discount the priors of the labels, as they are on dev.

    Raises:
        CorpusError: `out` is complete and was made from other texts, with another lexicon, or with and without priors.
    """
    from asr import checkpoint
    from asr.config import resolve_decode
    from asr.lm import estimate, write_arpa
    from asr.text import normalize
    from asr.tune_run import tune_run

    weights, record = model / checkpoint.WEIGHTS_FILE, out / MADE_FROM_FILE
    files = [*texts, lexicon] if lexicon else list(texts)
    made_from = {str(file.resolve()): digest_of(file, "sha256") for file in files}
    newer = made_since(out / checkpoint.CONFIG_FILE, weights)
    if newer and (decode := checkpoint.load_config(out).decode).decoder == "beam":  # what `asr tune` writes at its end
        before = read_record(record)
        if sorted(before.values()) != sorted(made_from.values()):
            raise CorpusError(
                f"{out}: was made from other files ({', '.join(before) or 'none'}), or other content of these; --out "
                "chooses another folder"
            )
        if bool(decode.priors) != priors:
            raise CorpusError(
                f"{out}: was made with{'out' if priors else ''} priors of labels; --out chooses another folder"
            )
        say(f"language model: complete in {out}, skipped")
        return
    say(f"language model: {out}")
    settings = checkpoint.load_config(model)
    # Greedy until it is tuned, even if the model itself was; a lexicon lies where the model has it.
    decode = replace(resolve_decode(settings.decode, model), decoder="greedy", priors="")
    checkpoint.start_run(out, replace(settings, decode=decode), checkpoint.load_tokenizer(model, settings))
    if made_from:
        write_text_atomic(record, json.dumps(made_from) + "\n")
    with atomic_path(out / weights.name) as temporary:
        shutil.copyfile(weights, temporary)
    with tempfile.TemporaryDirectory() as folder:
        arpa = Path(folder) / "train.arpa"
        written = partial(normalize, config=settings.text)
        write_arpa(estimate([data / "train.jsonl", *texts], order, normalize=written), arpa)
        given = {"lm": str(arpa), **({"lexicon": str(lexicon.absolute())} if lexicon else {})}
        told = partial(print, file=sys.stderr)
        tuning = tune_run(out, given, data / "dev.jsonl", estimate_priors=priors, say=told)
    print(tuning.render(), end="")


def read_record(record: Path) -> dict[str, Any]:
    """What a stage has recorded that its output was made from; empty where it has recorded nothing."""
    return dict(json.loads(record.read_text(encoding="utf-8"))) if record.is_file() else {}


def say(text: str) -> None:
    """Print a line about the stages on standard error: only results go to standard output."""
    print(f"[{text}]", file=sys.stderr, flush=True)
