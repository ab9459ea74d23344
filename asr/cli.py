"""`asr`: the command line. Heavy imports stand inside the commands, so that help is instant."""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import asr
from asr.errors import AsrError, ConfigError, Interrupted

if TYPE_CHECKING:
    from asr.recognizer import Recognizer

FAILED = 2  # nothing could be done
PARTLY_FAILED = 1  # some of many files failed


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 some files failed, 2 bad input, 128 + n stopped by signal n."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = parse(_parser(), argv)
    return run_command(lambda: arguments.run(arguments))


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line on which `key=value` may stand anywhere, also behind options.

    argparse fills a list of positionals from the first run of them only; what it leaves over is added here.
    """
    arguments, rest = parser.parse_known_args(argv)
    unknown = [item for item in rest if item.startswith("-") or "=" not in item or not hasattr(arguments, "overrides")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def run_command(command: Callable[[], int]) -> int:
    """Run `command` and turn the project's errors, and the system's, into one line and exit code 2."""
    # GNU OpenMP's threads spin for milliseconds where they wait for each other. On a core that another program uses too
    # that makes training ten times slower; this shorter spin costs a few per cent on a quiet machine. It is read when
    # torch is first imported, which is why commands import it inside.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        code = command()
        if sys.stdout:  # None where it was closed
            sys.stdout.flush()  # a reader that went away is found out here and not while Python shuts down
        return code
    except BrokenPipeError:  # the reader of our output went away, as in `asr ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is still in the buffer
        return 141
    except (AsrError, OSError) as error:
        _print_error(error)
        return FAILED
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signal
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _print_error(error: Exception) -> None:
    # A file name, or the message of a library, may hold a line break.
    print("error:", " ".join(str(error).splitlines()), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="asr", description="Train, run and score speech recognisers (BLSTM and CTC).")
    parser.add_argument("--version", action="version", version=f"asr {asr.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_prepare(commands.add_parser("prepare", help="turn a published corpus or your own recordings into manifests"))
    _add_train(commands.add_parser("train", help="train a model"))
    _add_evaluate(commands.add_parser("evaluate", help="recognise a manifest and score it"))
    _add_transcribe(commands.add_parser("transcribe", help="turn audio files into text"))
    _add_compare(commands.add_parser("compare", help="test the difference between two systems"))
    _add_config(commands.add_parser("config", help="show the configuration that a file and overrides give"))
    return parser


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", help="an4, yesno, digits, librispeech, ljspeech, kaldi or csv")
    parser.add_argument("--source", type=Path, help="archive or folder (default: download from the official address)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the manifests")
    parser.add_argument("--dev-share", type=float, default=0.1, help="share of training speakers for dev (%(default)s)")
    parser.add_argument("--test-share", type=float, default=0.0, help="the same for a test split (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the speakers held out (%(default)s)")
    parser.add_argument("--allow-partial", action="store_true", help="accept a corpus with other counts than published")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="what the corpus takes, as train_parts=dev-clean"
    )
    parser.set_defaults(run=_prepare)


def _prepare(arguments: argparse.Namespace) -> int:
    from asr.corpora import prepare

    summary = prepare(
        arguments.corpus,
        source=arguments.source,
        out=arguments.out,
        dev_share=arguments.dev_share,
        test_share=arguments.test_share,
        seed=arguments.seed,
        allow_partial=arguments.allow_partial,
        **_pairs(arguments.overrides),
    )
    print(summary.render())
    return 0


def _pairs(options: Sequence[str]) -> dict[str, str]:
    for option in options:
        name = option.split("=")[0]
        if name in ("corpus", "source", "out", "dev_share", "test_share", "seed", "allow_partial"):
            raise ConfigError(f"{option!r} is spelled --{name.replace('_', '-')} here; see asr prepare --help")
        if "=" not in option:
            raise ConfigError(f"option {option!r} is not of the form key=value")
    return dict(option.split("=", 1) for option in options)


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("conf", nargs="?", help="YAML configuration")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="configuration values, as train.epochs=20")
    parser.add_argument("--out", type=Path, help="run folder (default: runs/<name of the configuration>)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with an interrupted run")
    parser.set_defaults(run=_train)


def _train(arguments: argparse.Namespace) -> int:
    from asr import checkpoint, config
    from asr.train import Trainer

    conf, overrides = _conf_and_overrides(arguments)
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


def _conf_and_overrides(arguments: argparse.Namespace) -> tuple[Path | None, list[str]]:
    # argparse takes the first positional for CONF, which may be left out or stand behind key=value.
    given = [item for item in (arguments.conf, *arguments.overrides) if item is not None]
    conf = next((item for item in given if "=" not in item.split("/")[0]), None)
    if conf is None:
        return None, given
    given.remove(conf)
    return Path(conf), given


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, help="what to recognise, with reference texts")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument("--out", type=Path, help="folder for hypotheses.jsonl and report.txt (RUN/<manifest's name>)")
    _add_compute(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from asr.batch import default_workers
    from asr.evaluate import Evaluation, write_results
    from asr.manifest import read_manifest

    recognizer = _load_model(arguments)
    utterances = read_manifest(arguments.manifest)
    workers = default_workers(recognizer.device)
    results, _ = Evaluation(utterances, recognizer, batch_s=arguments.batch_s, workers=workers).run(recognizer)
    out = arguments.out or arguments.model / arguments.manifest.stem
    print(write_results(out, results).split("\n", 1)[0])
    print(f"{out}: hypotheses.jsonl, report.txt", file=sys.stderr)
    return 0


def _add_compute(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(%(default)s)")
    parser.add_argument("--batch-s", type=float, default=120.0, help="padded seconds of audio in a batch (%(default)s)")
    parser.add_argument("--channels", choices=("auto", "first", "mean"), help="what to do with several (the model's)")
    parser.add_argument("--max-duration-s", type=float, help="longest audio to take (the model's, an hour by default)")


def _load_model(arguments: argparse.Namespace) -> "Recognizer":
    from asr import checkpoint
    from asr.recognizer import pick_device

    given = {"channels": arguments.channels, "max_duration_s": arguments.max_duration_s}
    audio = {key: value for key, value in given.items() if value is not None}
    return checkpoint.load(arguments.model, pick_device(arguments.device), audio=audio)


def _add_transcribe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("audio", nargs="+", help="audio files, and folders to search for audio files")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument(
        "--format", choices=("txt", "json"), default="txt", help="a line a file: path TAB text, or JSON (%(default)s)"
    )
    _add_compute(parser)
    parser.set_defaults(run=_transcribe)


def _transcribe(arguments: argparse.Namespace) -> int:
    from asr.transcribe import Failure, find_audio, transcribe

    recognizer = _load_model(arguments)
    paths, others = find_audio(arguments.audio)
    if others:
        print(
            f"note: {len(others)} files are not audio by their names and were left out: {others[0]} ...",
            file=sys.stderr,
        )
    failed = 0
    for result in transcribe(recognizer, paths, batch_s=arguments.batch_s):
        if isinstance(result, Failure):
            failed += 1
            _print_error(result.error)
        elif arguments.format == "json":
            facts = {"audio_filepath": str(result.path), "duration": round(result.duration, 3), "text": result.text}
            print(json.dumps(facts, ensure_ascii=False), flush=True)
        else:
            print(f"{result.path}\t{result.text}", flush=True)
    if failed == len(paths):
        return FAILED
    return PARTLY_FAILED if failed else 0


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, help="hypotheses.jsonl of one system")
    parser.add_argument("b", type=Path, help="hypotheses.jsonl of the other, on the same references")
    parser.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from asr.report import render_comparison
    from asr.wer import compare, read_hypotheses

    comparison = compare(read_hypotheses(arguments.a), read_hypotheses(arguments.b))
    print(render_comparison(comparison, str(arguments.a), str(arguments.b)), end="")
    return 0


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("conf", nargs="?", help="YAML configuration (default: the built-in values)")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.set_defaults(run=_config)


def _config(arguments: argparse.Namespace) -> int:
    from asr import config

    conf, overrides = _conf_and_overrides(arguments)
    print(config.to_yaml(config.load(conf, overrides)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
