"""A run's decoder, tuned on dev and kept in the run folder: what `asr tune` does."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr import checkpoint, config, priors
from asr.batch import default_workers
from asr.config import NO_DEV, Config, DecodeConfig, resolve_decode
from asr.decoder_files import Resources
from asr.decoding import Decoder, describe
from asr.emissions import Emissions, read_emissions, write_emissions
from asr.errors import ConfigError, DecodeError
from asr.evaluate import Evaluation, emit, references_of
from asr.files import made_since, write_text_atomic
from asr.manifest import Utterance, read_manifest, require_audio
from asr.recognizer import pick_device
from asr.tune import ALPHA, BETA, Range, Tuning, read_with_references, require_weights, tune_aloud

LM_FILE = "lm.bin"
LEXICON_FILE = "lexicon.txt"
PRIORS_FILE = "priors.txt"
EMISSIONS_FILE = "emissions.npz"


def require_own(folder: Path, given: Mapping[str, Any], *, estimate_priors: bool) -> None:
    """ConfigError where `tune_run` would replace a file that the run's configuration does not name.

    A recipe, whose run folders are its own, does without.
    """
    own = resolve_decode(checkpoint.load_config(folder).decode, folder)
    wanted = replace(own, **given)
    for key, name in _kept(replace(wanted, priors=PRIORS_FILE) if estimate_priors else wanted).items():
        path = (folder / name).absolute()
        if path.exists() and str(path) not in (getattr(own, key), getattr(wanted, key)):
            raise ConfigError(
                f"{folder / name}: would be replaced, and the run's decode.{key} is not this file; move it"
            )


def tune_run(
    folder: Path,
    given: Mapping[str, Any],
    on: Path | Sequence[Path] | None = None,
    *,
    alpha: Range = ALPHA,
    beta: Range = BETA,
    estimate_priors: bool = False,
    device: str = "auto",
    batch_s: float = 120.0,
    say: Callable[[str], object],
) -> Tuning:
    """Search the weights of a language model, and write what the decoder then uses into the run folder.

    Args:
        folder: run folder.
        given: values of `DecodeConfig` that replace the run's own, with absolute paths.
        on: a manifest; or files of log-probabilities, of several the mean; None: the run's `data.dev`. Those of a
            manifest are computed once, and kept in the folder.
        alpha, beta: ranges to search.
        estimate_priors: estimate the priors of labels on these utterances and discount them.
        device, batch_s: for computing log-probabilities.
        say: is called with lines that say what happens.

    Raises:
        ConfigError: no language model is named, or there is nothing to tune on, or a weight cannot be used.
        DecodeError: log-probabilities are without references, or not of the run's labels.
    """
    settings = checkpoint.load_config(folder)
    wanted = replace(resolve_decode(settings.decode, folder), **{**given, "decoder": "beam"})
    if not wanted.lm:
        raise ConfigError(f"{folder}: names no language model (decode.lm): give --lm FILE")
    require_weights(wanted, alpha, beta)
    if on is None or isinstance(on, Path):
        emissions = _computed(folder, settings, on, device, batch_s, say)
    else:
        emissions = _read(folder, settings, on, say)
    decoder = _decoder(folder, wanted, emissions, estimate_priors)
    tuning = tune_aloud(emissions, decoder, alpha, beta, say)
    chosen = tuning.chosen
    _save(folder, settings, decoder.with_weights(chosen.alpha, chosen.beta), say)
    return tuning


def _kept(used: DecodeConfig) -> dict[str, str]:
    """Which settings of a tuned decoder name a file in the run folder, and which one."""
    kept = {"lm": LM_FILE, "lexicon": LEXICON_FILE, "priors": PRIORS_FILE}
    return {key: name for key, name in kept.items() if getattr(used, key)}


def _read(folder: Path, settings: Config, paths: Sequence[Path], say: Callable[[str], object]) -> Emissions:
    """The mean of log-probabilities in files, of the run's own labels and with references."""
    emissions = read_with_references(paths, say)
    tokens = checkpoint.load_tokenizer(folder, settings).tokens
    blank, labels = emissions.vocabulary.blank, list(emissions.vocabulary.labels)
    if blank != 0 or labels[1:] != tokens[1:]:  # the blank may have any name
        raise DecodeError(f"{', '.join(map(str, paths))}: its labels are not those of {folder}")
    return emissions


def _computed(
    folder: Path, settings: Config, manifest: Path | None, device: str, batch_s: float, say: Callable[[str], object]
) -> Emissions:
    """The log-probabilities of a manifest: those in the run folder if of these weights and audio, else computed."""
    if manifest is None and settings.data.dev in ("", NO_DEV):
        raise ConfigError(f"{folder}: was trained without data.dev: give --manifest DEV.jsonl")
    manifest = manifest or Path(settings.data.dev)
    utterances = read_manifest(manifest)
    refs = references_of(utterances, checkpoint.load_tokenizer(folder, settings))
    source = _fingerprint(utterances)
    path = folder / manifest.stem / EMISSIONS_FILE
    weights = folder / checkpoint.WEIGHTS_FILE
    say(f"tuning on {manifest}")
    if weights.exists() and made_since(path, weights):
        kept = read_emissions(path)
        if kept.refs == refs and kept.source == source:
            say(f"log-probabilities: read from {path}")
            return kept
    require_audio(utterances)
    # Greedy, because the run's own decoder is not needed here and may name a file that is gone.
    recognizer = checkpoint.load(folder, pick_device(device), decode={"decoder": "greedy"})
    evaluation = Evaluation(utterances, recognizer, batch_s=batch_s, workers=default_workers(recognizer.device))
    emissions = replace(emit(evaluation, recognizer), source=source)
    write_emissions(path, emissions)
    say(f"log-probabilities: computed, and kept in {path}")
    return emissions


def _fingerprint(utterances: Sequence[Utterance]) -> str:
    """A digest of which audio the utterances are: paths, segments, sizes and times of change."""
    digest = hashlib.blake2b(digest_size=16)
    for item in utterances:
        path = item.audio_filepath.absolute()
        found = path.stat() if path.exists() else None  # a file that is missing is reported when it is read
        changed = (found.st_size, found.st_mtime_ns) if found else None
        digest.update(repr((item.id, str(path), item.offset, item.duration, item.channel, changed)).encode())
    return digest.hexdigest()


def _decoder(folder: Path, wanted: DecodeConfig, emissions: Emissions, estimate_priors: bool) -> Decoder:
    vocabulary = emissions.vocabulary
    if not estimate_priors:
        return Decoder(wanted, vocabulary)
    found = priors.estimate(emissions.log_probs.values(), len(vocabulary.labels))
    resources = replace(Resources.load(replace(wanted, priors=""), vocabulary), priors=found)
    named = replace(wanted, priors=str((folder / PRIORS_FILE).absolute()))  # which `_save` writes
    return Decoder(named, vocabulary, resources)


def _save(folder: Path, settings: Config, decoder: Decoder, say: Callable[[str], object]) -> None:
    """Write what `decoder` uses into the run folder, the configuration last, each file whole or not at all."""
    used, resources = decoder.config, decoder.resources
    if resources.lm is not None and Path(used.lm) != (folder / LM_FILE).absolute():
        resources.lm.save(folder / LM_FILE)
    if used.lexicon and Path(used.lexicon) != (folder / LEXICON_FILE).absolute():
        write_text_atomic(folder / LEXICON_FILE, Path(used.lexicon).read_text(encoding="utf-8-sig"))
    if resources.priors is not None:
        # With the run's own labels: in emissions from elsewhere the blank may have another name.
        priors.write(folder / PRIORS_FILE, checkpoint.load_tokenizer(folder, settings).tokens, resources.priors)
    # Hotwords belong to what is recognised, not to the model: the setting stays as the configuration has it.
    kept = _kept(used)
    files: dict[str, Any] = {**kept, "hotwords": settings.decode.hotwords}
    decode = replace(used, **files)
    write_text_atomic(folder / checkpoint.CONFIG_FILE, config.to_yaml(replace(settings, decode=decode)))
    say(f"{folder}: {', '.join(('config.yaml', *kept.values()))}")
    say(f"{folder} now decodes with: {describe(resolve_decode(decode, folder))}")
