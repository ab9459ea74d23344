"""`asr`: the command line. Heavy imports are inside the commands, so that help is instant."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

import asr
from asr import process
from asr.commands.align import add_align
from asr.commands.average import add_average
from asr.commands.common import FAILED, print_error
from asr.commands.compare import add_compare
from asr.commands.decode import add_decode
from asr.commands.evaluate import add_evaluate
from asr.commands.export import add_export
from asr.commands.inspect import add_inspect
from asr.commands.label import add_label
from asr.commands.lm import add_lm
from asr.commands.pack import add_pack
from asr.commands.prepare import add_prepare
from asr.commands.report import add_report
from asr.commands.splice import add_splice
from asr.commands.train import add_config, add_train
from asr.commands.transcribe import add_transcribe
from asr.commands.tune import add_tune
from asr.errors import TRY_AGAIN, AsrError, ConfigError, Interrupted
from asr.process.signals import end_with_parent, unwinding, use_own_stack


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done; 1: some files failed; 2: bad input; 75: stopped by SIGTERM or SIGHUP with its state saved (start it
    again); 130: stopped by Ctrl-C; 141: the reader of its output went away. SIGTERM with no state to save raises
    SystemExit with 143.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name may hold bytes that are not text
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    arguments = parse(commands(), argv)
    with unwinding():
        code = run_command(lambda: arguments.run(arguments))
    if argv is None and code == TRY_AGAIN:  # the program is ending: another signal must not change its code
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    return code


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line on which `key=value` may stand anywhere, even after options.

    argparse fills a list of positionals only from the first run of them; the rest are added here.
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
    process.set_up()
    use_own_stack()  # Ctrl-C may come while kernels run
    if process.launched():  # before torch is imported, which takes seconds
        end_with_parent()
    if sys.stderr is None:  # it was closed; what is printed to None goes to standard output
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (to the program's end)
    try:
        if (encoding := sys.getfilesystemencoding()) != "utf-8":
            raise ConfigError(f"file names are {encoding} here, wanted UTF-8: set PYTHONUTF8=1")
        code = command()
        if sys.stdout:  # None where it was closed
            sys.stdout.flush()  # a reader that went away is noticed here, not while Python shuts down
        return code
    except BrokenPipeError:  # the reader of our output went away, as in `asr ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # swallows what is still in the buffer
        return 141
    except (AsrError, OSError) as error:
        print_error(error)
        return FAILED
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "asr":
            raise
        print_error(ConfigError(f"{error.name} is not installed; this command needs the whole package (pip install .)"))
        return FAILED
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def commands() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="asr", description="Train, run and score speech recognisers (BLSTM and CTC).")
    parser.add_argument("--version", action="version", version=f"asr {asr.__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="command")
    add_prepare(subparsers.add_parser("prepare", help="turn a published corpus or your own recordings into manifests"))
    add_pack(subparsers.add_parser("pack", help="write a manifest's audio into tar shards"))
    add_splice(subparsers.add_parser("splice", help="make new training sentences from the words of a manifest"))
    add_train(subparsers.add_parser("train", help="train a model"))
    add_evaluate(subparsers.add_parser("evaluate", help="recognise a manifest and score it"))
    add_transcribe(subparsers.add_parser("transcribe", help="turn audio files into text"))
    add_label(subparsers.add_parser("label", help="make a training manifest from recordings without transcripts"))
    add_align(subparsers.add_parser("align", help="find when each word of a given transcript was said"))
    add_report(subparsers.add_parser("report", help="show a run as one HTML page: curves, errors, recordings"))
    add_compare(subparsers.add_parser("compare", help="test the difference between two systems"))
    add_export(subparsers.add_parser("export", help="write a model to pass on: one ONNX file, or a run half the size"))
    add_average(subparsers.add_parser("average", help="average the weights of models that started from the same one"))
    add_lm(subparsers.add_parser("lm", help="train, measure and compile n-gram language models"))
    add_tune(subparsers.add_parser("tune", help="tune a language model's weights on dev and store them in a run"))
    add_decode(subparsers.add_parser("decode", help="turn log-probabilities of any CTC model into text"))
    add_inspect(subparsers.add_parser("inspect", help="show what a model's layers do, and how long they remember"))
    add_config(subparsers.add_parser("config", help="show the configuration that results from a file and overrides"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
