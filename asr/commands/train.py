"""`asr train` and `asr config`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from asr.commands.common import conf_and_overrides, print_note
from asr.errors import ConfigError
from asr.files import require_folder
from asr.process.signals import ending_at_once

if TYPE_CHECKING:
    from asr.config import Config

_TRAIN = """Trains a model into a self-contained run folder, RUN. The learning rate rises, then falls as a cosine that
ends with the last epoch, so a run cannot be made longer afterwards: train anew with more epochs, by asr train
RUN/config.yaml train.epochs=N --out OTHER."""


def add_train(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr train`."""
    parser.description = _TRAIN
    parser.add_argument("conf", nargs="?", help="YAML configuration")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="configuration values, such as train.epochs=20"
    )
    parser.add_argument("-o", "--out", type=Path, help="run folder (default: runs/<name of the configuration>)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with an interrupted run, to its last epoch")
    parser.add_argument(
        "--auto-resume",
        action="store_true",
        help="go on if the run folder holds this same run, else start it: for jobs that are started again",
    )
    parser.set_defaults(run=_train)


def _train(arguments: argparse.Namespace) -> int:
    with ending_at_once():
        return _train_to_the_end(arguments)


def _train_to_the_end(arguments: argparse.Namespace) -> int:
    from asr import checkpoint
    from asr.config import require_utf8
    from asr.process.distributed import leads, leave, restarted
    from asr.train import Trainer
    from asr.training.state import state_files
    from asr.wer import HARDLY_ANYTHING

    conf, overrides = conf_and_overrides(arguments)
    if arguments.resume is not None:
        if conf is not None or arguments.out is not None:
            raise ConfigError("--resume RUN has its own configuration and folder; leave out CONF and --out")
        out = arguments.resume
        require_utf8("--resume", str(out.absolute()))
        _resume(out, overrides)
    else:
        out = arguments.out
        if out is None:
            if conf is None:
                raise ConfigError("give a configuration (asr train conf/NAME.yaml), or --out RUN for the built-in one")
            out = Path("runs") / conf.stem
        require_utf8("--out", str(out.absolute()))
        require_folder(out)
        settings = _settings(conf, overrides)
        # Processes that torchrun has restarted after one of them died resume what they began, whatever was asked for.
        if (arguments.auto_resume or (restarted() and _launched_before(out))) and state_files(out):
            _go_on(out, settings)
        else:
            Trainer(settings, out).run()
    leave()
    if leads():
        _, best = checkpoint.load_tensors(out / checkpoint.WEIGHTS_FILE)  # read in full: damage is better reported now
        dev = (
            f"dev WER {best['dev_wer_percent']:.2f}% after epoch" if "dev_wer_percent" in best else "without dev, epoch"
        )
        print(f"trained: {out}, {dev} {best['epoch']}")
        if best.get("dev_wer_percent", 0.0) > HARDLY_ANYTHING:
            trained = checkpoint.load_config(out)
            ways = ["for more epochs", "on more recordings"]
            if not trained.train.init_from:
                ways.append("from the weights of another model")
            elif not trained.data.vocabulary:
                ways.append("with the labels of its first model, if they can spell the texts (data.vocabulary=RUN)")
            hint = f"{', '.join(ways[:-1])} or {ways[-1]} (docs/training.md, When recordings are few)"
            print_note(f"hardly a word of dev is recognised: train {hint}")
    return 0


def _launched_before(out: Path) -> bool:
    """Whether the torchrun that started this process also started the newest training in `out`."""
    from asr.process.distributed import join, launch
    from asr.train import LAUNCH_FILE

    file = out / LAUNCH_FILE
    same = file.is_file() and file.read_text(encoding="utf-8") == launch()
    return join().gather(same)[0]  # rank 0 wrote it


def _resume(out: Path, overrides: Sequence[str]) -> None:
    """Resume the run in `out` up to its last epoch; a finished one is left alone."""
    from asr import checkpoint, config

    saved = checkpoint.load_config(out)  # a clear error when RUN is no run folder
    for override in overrides:
        if override.startswith(("decode.", "decode=")):
            raise ConfigError(
                f"{override}: changes nothing in training and is not kept; asr tune RUN chooses a decoder"
            )
    settings = config.load(out / checkpoint.CONFIG_FILE, overrides)
    if overrides:  # the decoder's paths stay relative to the run folder
        settings = replace(config.with_absolute_paths(settings), decode=settings.decode)
    epochs = settings.train.epochs
    if epochs != saved.train.epochs:
        raise ConfigError(
            f"{out}: its learning rate falls over train.epochs={saved.train.epochs}, so it cannot go on to {epochs}; "
            f"train anew: asr train {out / checkpoint.CONFIG_FILE} train.epochs={epochs} --out OTHER"
        )
    _go_on(out, settings)


def _go_on(out: Path, settings: "Config") -> None:
    from asr import checkpoint
    from asr.process.distributed import join
    from asr.train import Trainer
    from asr.training.state import agree_on_state, is_finished, require_finished_whole, require_same
    from asr.training.trainset import data_origin

    saved = checkpoint.load_config(out)
    require_same(saved, settings, out)
    if not saved.data.train:  # a shrunk model
        raise ConfigError(
            f"{out}: is a model without its training state; a new run can start from it: train.init_from={out}"
        )
    agree_on_state(join(), out)
    if is_finished(out, settings.train.epochs):
        other = settings.data != saved.data or settings.text != saved.text
        require_finished_whole(out, settings, data_origin if other else None)
        print(f"{out}: was trained to its last epoch, {settings.train.epochs}; nothing is left to do", file=sys.stderr)
    else:
        Trainer(settings, out, resume=True).run()


def _settings(conf: Path | None, overrides: Sequence[str]) -> "Config":
    """The configuration of a new run, paths absolute; a CONF that is another run's leaves that run its decoder.

    What `asr tune` found for one model is not another's, and a run folder names no file of another one.
    """
    from asr import checkpoint, config
    from asr.text import TOKENS_FILE

    settings = config.load(conf, overrides)
    if conf is not None and conf.name == checkpoint.CONFIG_FILE and (conf.parent / TOKENS_FILE).is_file():
        own = config.load(None, [override for override in overrides if override.startswith("decode.")]).decode
        if own != settings.decode:
            print_note(f"{conf.parent} keeps its decoder; asr tune gives the new run one of its own")
        settings = replace(settings, decode=own)
    return config.with_absolute_paths(settings)


def add_config(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr config`."""
    parser.add_argument("conf", nargs="?", help="YAML configuration (default: the built-in values)")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.set_defaults(run=_config)


def _config(arguments: argparse.Namespace) -> int:
    from asr import config

    conf, overrides = conf_and_overrides(arguments)
    print(config.to_yaml(config.load(conf, overrides)), end="")
    return 0
