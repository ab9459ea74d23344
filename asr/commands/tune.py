"""`asr tune`: the weights of a language model on dev, written into the run folder."""

import argparse
import hashlib
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.commands.common import HARDLY_ANYTHING, add_compute, add_decoder, batch_seconds, given_decoder, print_note
from asr.errors import ConfigError, DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asr.config import Config
    from asr.decoding import Decoder
    from asr.emissions import Emissions
    from asr.manifest import Utterance

LM_FILE = "lm.bin"
LEXICON_FILE = "lexicon.txt"
PRIORS_FILE = "priors.txt"
EMISSIONS_FILE = "emissions.npz"

_TUNE = """Searches for the weights alpha and beta of the language model that give the fewest expected word errors on
dev: on a grid of 9 by 9, then on one four times as fine around the best point. The expected word errors are those of
the 20 best hypotheses, weighted by their probabilities: on a small dev set the errors of the best hypothesis alone are
the same for many settings. The log-probabilities of the model are computed once and kept in RUN/DEV/emissions.npz. The
settings found are written into RUN/config.yaml and the language model into RUN/lm.bin (a lexicon into RUN/lexicon.txt,
priors into RUN/priors.txt), so that the folder needs nothing else. From then on RUN decodes with them in every command
that is not given --decoder greedy."""


def add_tune(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr tune`."""
    parser.description = _TUNE
    parser.add_argument("model", type=Path, metavar="RUN", help="run folder")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--manifest", type=Path, metavar="DEV.jsonl", help="utterances to tune on (default: the run's data.dev)"
    )
    source.add_argument(
        "--emissions",
        type=Path,
        nargs="+",
        metavar="FILE.npz",
        help="log-probabilities to tune on, with references in the JSON beside them; several files: their mean",
    )
    for name, low, high in (("alpha", 0.0, 3.2), ("beta", -2.0, 6.0)):
        parser.add_argument(
            f"--{name}",
            type=float,
            nargs=2,
            default=(low, high),
            metavar=("LOW", "HIGH"),
            dest=f"{name}_range",
            help=f"range of {name} to search ({low:g} {high:g})",
        )
    parser.add_argument(
        "--estimate-priors",
        action="store_true",
        help="estimate the priors of labels on these utterances and discount them, with --prior-weight",
    )
    add_compute(parser)
    add_decoder(parser, "decoder", "alpha", "beta", "hotwords")
    parser.set_defaults(run=_tune)


def _tune(arguments: argparse.Namespace) -> int:
    from asr import checkpoint, priors
    from asr.config import resolve_decode
    from asr.decoder_files import Resources
    from asr.decoding import Decoder
    from asr.tune import at_the_end, tune

    folder = arguments.model
    batch_seconds(arguments)
    settings = checkpoint.load_config(folder)
    wanted = replace(resolve_decode(settings.decode, folder), **{**given_decoder(arguments), "decoder": "beam"})
    if arguments.estimate_priors and arguments.priors:
        raise ConfigError("give --estimate-priors or --priors FILE, not both")
    if not wanted.lm:
        raise ConfigError(f"{folder}: names no language model (decode.lm): give --lm FILE")
    alpha, beta = tuple(arguments.alpha_range), tuple(arguments.beta_range)
    for end in (0, 1):
        replace(wanted, alpha=alpha[end], beta=beta[end])  # ConfigError where a weight cannot be used
    emissions = _emissions(arguments, settings)
    if arguments.estimate_priors:
        found = priors.estimate(emissions.log_probs.values(), len(emissions.vocabulary.labels))
        resources = replace(Resources.load(replace(wanted, priors=""), emissions.vocabulary), priors=found)
        wanted = replace(wanted, priors=str((folder / PRIORS_FILE).absolute()))  # which `_save` writes
    else:
        resources = Resources.load(wanted, emissions.vocabulary)
    decoder = Decoder(wanted, emissions.vocabulary, resources)
    started = time.perf_counter()
    tuning = tune(emissions, decoder, alpha, beta)
    took_s = time.perf_counter() - started
    print(f"{len(tuning.trials)} settings on {len(emissions.refs)} utterances in {took_s:.1f} s", file=sys.stderr)
    print(tuning.render(), end="")
    chosen = tuning.chosen
    for name, value, limits in (("alpha", chosen.alpha, alpha), ("beta", chosen.beta, beta)):
        if at_the_end(value, limits) and (name, value) != ("alpha", 0.0):  # the least that there is
            print_note(f"{name} {value:g} is at the end of its range; --{name} LOW HIGH widens it")
    if chosen.words.percent > HARDLY_ANYTHING:
        print_note("hardly a word is recognised, so the weights mean little: the model comes first")
    _save(folder, settings, decoder.with_weights(chosen.alpha, chosen.beta))
    return 0


def _emissions(arguments: argparse.Namespace, settings: "Config") -> "Emissions":
    """The log-probabilities to tune on, of the run's own labels and with references."""
    from asr import checkpoint
    from asr.ensemble import read_ensemble

    if arguments.emissions is None:
        return _computed(arguments, settings)
    emissions = read_ensemble(arguments.emissions)
    files = ", ".join(map(str, arguments.emissions))
    print(f"tuning on {files}", file=sys.stderr)
    if not emissions.refs:
        raise DecodeError(f"{files}: the JSON beside it has no refs; tuning needs reference texts")
    tokens = checkpoint.load_tokenizer(arguments.model, settings).tokens
    blank, labels = emissions.vocabulary.blank, list(emissions.vocabulary.labels)
    if blank != 0 or labels[1:] != tokens[1:]:  # the blank may have any name
        raise DecodeError(f"{files}: its labels are not those of {arguments.model}")
    return emissions


def _computed(arguments: argparse.Namespace, settings: "Config") -> "Emissions":
    """The log-probabilities of a manifest: those in the run folder if of these weights and audio, else computed."""
    from asr import checkpoint
    from asr.batch import default_workers
    from asr.config import NO_DEV
    from asr.emissions import read_emissions, write_emissions
    from asr.evaluate import Evaluation, emit, references_of
    from asr.files import made_since
    from asr.manifest import read_manifest
    from asr.recognizer import pick_device

    folder = arguments.model
    if arguments.manifest is None and settings.data.dev in ("", NO_DEV):
        raise ConfigError(f"{folder}: was trained without data.dev: give --manifest DEV.jsonl")
    manifest = arguments.manifest or Path(settings.data.dev)
    utterances = read_manifest(manifest)
    tokenizer = checkpoint.load_tokenizer(folder, settings)
    refs = references_of(utterances, tokenizer)
    source = _fingerprint(utterances)
    path = folder / manifest.stem / EMISSIONS_FILE
    weights = folder / checkpoint.WEIGHTS_FILE
    print(f"tuning on {manifest}", file=sys.stderr)
    if weights.exists() and made_since(path, weights):
        kept = read_emissions(path)
        if kept.refs == refs and kept.source == source:
            print(f"log-probabilities: read from {path}", file=sys.stderr)
            return kept
    # Greedy, because the run's own decoder is not needed here and may name a file that is gone.
    recognizer = checkpoint.load(folder, pick_device(arguments.device), decode={"decoder": "greedy"})
    workers = default_workers(recognizer.device)
    evaluation = Evaluation(utterances, recognizer, batch_s=batch_seconds(arguments), workers=workers)
    emissions = replace(emit(evaluation, recognizer), source=source)
    write_emissions(path, emissions)
    print(f"log-probabilities: computed, and kept in {path}", file=sys.stderr)
    return emissions


def _fingerprint(utterances: "Sequence[Utterance]") -> str:
    """A digest of which audio the utterances are: paths, segments, sizes and times of change."""
    digest = hashlib.blake2b(digest_size=16)
    for item in utterances:
        path = item.audio_filepath.absolute()
        found = path.stat() if path.exists() else None  # a file that is missing is reported when it is read
        changed = (found.st_size, found.st_mtime_ns) if found else None
        digest.update(repr((item.id, str(path), item.offset, item.duration, item.channel, changed)).encode())
    return digest.hexdigest()


def _save(folder: Path, settings: "Config", decoder: "Decoder") -> None:
    """Write what `decoder` uses into the run folder, the configuration last, each file whole or not at all."""
    from asr import checkpoint, config, priors
    from asr.config import resolve_decode
    from asr.decoding import describe
    from asr.files import write_text_atomic

    used, resources = decoder.config, decoder.resources
    if resources.lm is not None and Path(used.lm) != (folder / LM_FILE).absolute():
        resources.lm.save(folder / LM_FILE)
    kept = {}
    if used.lexicon:
        kept["lexicon"] = LEXICON_FILE
        if Path(used.lexicon) != (folder / LEXICON_FILE).absolute():
            write_text_atomic(folder / LEXICON_FILE, Path(used.lexicon).read_text(encoding="utf-8-sig"))
    if resources.priors is not None:
        kept["priors"] = PRIORS_FILE
        # With the run's own labels: in emissions from elsewhere the blank may have another name.
        priors.write(folder / PRIORS_FILE, checkpoint.load_tokenizer(folder, settings).tokens, resources.priors)
    # Hotwords belong to what is recognised, not to the model: the setting stays as the configuration has it.
    files: dict[str, Any] = {"lm": LM_FILE, **kept, "hotwords": settings.decode.hotwords}
    decode = replace(used, **files)
    write_text_atomic(folder / checkpoint.CONFIG_FILE, config.to_yaml(replace(settings, decode=decode)))
    print(f"{folder}: {', '.join(('config.yaml', LM_FILE, *kept.values()))}", file=sys.stderr)
    print(f"{folder} now decodes with: {describe(resolve_decode(decode, folder))}", file=sys.stderr)
