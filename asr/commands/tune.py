"""`asr tune`: the weights of a language model on dev, written into the run folder, if there is one."""

import argparse
import sys
from functools import partial
from pathlib import Path

from asr.commands.common import add_compute, add_decoder, batch_seconds, decode_config, given_decoder
from asr.errors import ConfigError

ALPHA, BETA = (0.0, 3.2), (-2.0, 6.0)  # asr.tune has them too, but imports numpy

_TUNE = """Searches for the weights alpha and beta of the language model that give the fewest expected word errors on
dev: on a grid of 9 by 9, then on one four times as fine around the best point. The expected word errors are those of
the 20 best hypotheses, weighted by their probabilities: on a small dev set the errors of the best hypothesis alone are
the same for many settings. The log-probabilities of the model are computed once and kept in RUN/DEV/emissions.npz. The
settings found are written into RUN/config.yaml and the language model into RUN/lm.bin (a lexicon into RUN/lexicon.txt,
priors into RUN/priors.txt), so that the folder needs nothing else. From then on RUN decodes with them in every command
that is not given --decoder greedy. Without RUN, the weights for the log-probabilities of any model (--emissions) are
printed as flags for `asr decode`, and nothing is written."""


def add_tune(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr tune`."""
    parser.description = _TUNE
    parser.add_argument("model", type=Path, nargs="?", metavar="RUN", help="run folder (with --emissions: or none)")
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
    for name, low, high in (("alpha", *ALPHA), ("beta", *BETA)):
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
    if arguments.model is None:
        return _tune_files(arguments)
    from asr.tune_run import require_own, tune_run

    if arguments.estimate_priors and arguments.priors:
        raise ConfigError("give --estimate-priors or --priors FILE, not both")
    given = given_decoder(arguments)
    require_own(arguments.model, given, estimate_priors=arguments.estimate_priors)
    tuning = tune_run(
        arguments.model,
        given,
        arguments.emissions or arguments.manifest,
        alpha=tuple(arguments.alpha_range),
        beta=tuple(arguments.beta_range),
        estimate_priors=arguments.estimate_priors,
        device=arguments.device,
        batch_s=batch_seconds(arguments),
        say=partial(print, file=sys.stderr),
    )
    print(tuning.render(), end="")
    return 0


def _tune_files(arguments: argparse.Namespace) -> int:
    """The weights for log-probabilities from elsewhere, without loading torch."""
    from asr.tune import tune_files

    if not arguments.emissions:
        raise ConfigError("give RUN, a run folder, or --emissions FILE.npz, the log-probabilities of any model")
    if arguments.estimate_priors:
        raise ConfigError("--estimate-priors needs RUN, where the priors are kept")
    tuning = tune_files(
        arguments.emissions,
        decode_config(given_decoder(arguments)),
        tuple(arguments.alpha_range),
        tuple(arguments.beta_range),
        say=partial(print, file=sys.stderr),
    )
    print(tuning.render(), end="")
    print(f"--alpha {tuning.chosen.alpha:g} --beta {tuning.chosen.beta:g}")
    return 0
