"""`asr train` and `asr config`."""

import argparse
from pathlib import Path

from asr.commands.common import conf_and_overrides
from asr.errors import ConfigError


def add_train(parser: argparse.ArgumentParser) -> None:
    """The arguments of `asr train`."""
    parser.add_argument("conf", nargs="?", help="YAML configuration")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration values, as train.epochs=20")
    parser.add_argument("--out", type=Path, help="run folder (default: runs/<name of the configuration>)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with an interrupted run")
    parser.set_defaults(run=_train)


def _train(arguments: argparse.Namespace) -> int:
    from asr import checkpoint, config
    from asr.train import Trainer

    conf, overrides = conf_and_overrides(arguments)
    if arguments.resume is not None:
        if conf is not None or arguments.out is not None:
            raise ConfigError("--resume RUN brings its own configuration and folder; leave CONF and --out away")
        out = arguments.resume
        checkpoint.load_config(out)  # a clear error when RUN is no run folder
        settings = config.load(out / checkpoint.CONFIG_FILE, overrides)
    else:
        out = arguments.out
        if out is None:
            if conf is None:
                raise ConfigError("give a configuration (asr train conf/NAME.yaml), or --out RUN for the built-in one")
            out = Path("runs") / conf.stem
        settings = config.with_absolute_paths(config.load(conf, overrides))
    Trainer(settings, out, resume=arguments.resume is not None).run()
    best = checkpoint.load_facts(out / checkpoint.WEIGHTS_FILE)
    print(f"trained: {out}, dev WER {best['dev_wer_percent']:.2f}% after epoch {best['epoch']}")
    return 0


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
