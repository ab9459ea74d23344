"""Raw samples on standard input to lines of partial and final results."""

import argparse
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from asr import checkpoint
from asr.commands import common, stream
from asr.commands.stream import add_stream, run_stream
from asr.errors import AudioError, ConfigError
from tiny_run import save_run

RATE_HZ = 16000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("stream") / "run", "encoder.bidirectional=false")


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Puts bytes on standard input, through a pipe that a thread fills."""
    with ExitStack() as stack:

        def put(content: bytes) -> None:
            read, write = os.pipe()

            def fill() -> None:
                with suppress(BrokenPipeError), open(write, "wb") as file:
                    file.write(content)

            thread = threading.Thread(target=fill)
            thread.start()
            stack.callback(thread.join)
            monkeypatch.setattr("sys.stdin", stack.enter_context(open(read)))

        yield put


def arguments_of(run: Path, *given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=run)
    parser.add_argument("--format", choices=("txt", "json"), default="txt")
    common.add_n_best(parser)
    common.add_compute(parser)
    common.add_audio(parser)
    common.add_decoder(parser)
    add_stream(parser)
    return parser.parse_args(list(given))


def speech() -> bytes:
    """Two bursts of noise with a pause between them."""
    wave = np.random.default_rng(1).standard_normal(7 * RATE_HZ)
    level = np.full(len(wave), 1e-4)
    level[RATE_HZ // 2 : 2 * RATE_HZ] = level[4 * RATE_HZ : 5 * RATE_HZ] = 0.1
    return bytes(np.round(32767 * wave * level).astype("<i2").tobytes())


def test_json_lines(run: Path, feed: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]) -> None:
    feed(speech())
    assert run_stream(arguments_of(run, "--sample-rate", "16000", "--format", "json")) == 0
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    final = [record for record in records if record["type"] == "final"]
    assert len(final) == 2
    assert {record["type"] for record in records} == {"partial", "final"}
    for record in final:
        assert record["words"][-1]["end"] == record["end"]
        assert record["latency_s"] == pytest.approx(record["audio_s"] - record["end"], abs=2e-3)
        assert record["text"] == " ".join(word["word"] for word in record["words"])
    assert final[0]["start"] < 2.0 < 3.0 < final[1]["end"]
    assert final[0]["audio_s"] < 7.0
    assert "listening: partial results are at most 0.38 s late" in err


def test_half_a_sample_at_the_end_takes_no_result_away(
    run: Path, feed: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    feed(speech()[: 2 * 5 * RATE_HZ])  # the second burst is heard to its end
    assert run_stream(arguments_of(run, "--sample-rate", "16000")) == 0
    whole = [line.split("\t")[4] for line in capsys.readouterr().out.splitlines() if line.startswith("final")]
    feed(speech()[: 2 * 5 * RATE_HZ + 1])
    with pytest.raises(AudioError, match="standard input ends within a sample"):
        run_stream(arguments_of(run, "--sample-rate", "16000"))
    found = [line.split("\t")[4] for line in capsys.readouterr().out.splitlines() if line.startswith("final")]
    assert len(found) == 2
    assert found == whole


def test_text(run: Path, feed: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]) -> None:
    feed(speech())
    assert run_stream(arguments_of(run, "--sample-rate", "16000")) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {line[0] for line in lines} == {"partial", "final"}
    final = [line for line in lines if line[0] == "final"]
    assert len(final) == 2
    for _, start_s, end_s, latency_s, text in final:
        assert float(start_s) < float(end_s)
        assert float(latency_s) > 0
        assert text
    recognizer = checkpoint.load(run)
    samples = torch.from_numpy(np.frombuffer(speech(), "<i2").astype(np.float32) / 32768)
    online = stream_of(recognizer, samples)
    assert [line[4] for line in final] == online


def stream_of(recognizer: object, samples: torch.Tensor) -> list[str]:
    from asr.online import OnlineRecognizer

    online = OnlineRecognizer(recognizer)  # type: ignore[arg-type]
    return [segment.text for update in (online.accept(samples), online.finish()) for segment in update.segments]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


def test_on_a_terminal_the_partial_line_is_overwritten(
    run: Path, feed: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(speech())
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(stream.os, "get_terminal_size", lambda _: os.terminal_size((20, 10)))
    assert run_stream(arguments_of(run, "--sample-rate", "16000")) == 0
    shown = out.getvalue()
    assert shown.count("\n") == 2  # the final lines alone
    for piece in shown.replace("\n", "\r\x1b[K").split("\r\x1b[K"):
        assert piece.startswith("final\t") or len(piece) < 20


@pytest.mark.parametrize(
    ("given", "content", "error", "message"),
    [
        ((), b"", ConfigError, "--stream needs --sample-rate HZ"),
        (("--sample-rate", "16"), b"", ConfigError, "in 1000..768000, found 16"),
        (("--sample-rate", "16000", "--pause-s", "0"), b"", ConfigError, "pauses of 0 s"),
        (("--sample-rate", "16000", "--chunk-s", "0"), b"", ConfigError, "chunks of 0 s"),
        (("--sample-rate", "16000"), b"\0" * 1001, AudioError, "standard input ends within a sample"),
        (("--sample-rate", "15999"), b"", AudioError, "cannot resample from 15999 Hz"),
    ],
)
def test_what_is_refused(
    run: Path,
    feed: Callable[[bytes], None],
    given: tuple[str, ...],
    content: bytes,
    error: type[Exception],
    message: str,
) -> None:
    feed(content)
    with pytest.raises(error, match=message):
        run_stream(arguments_of(run, *given))


@pytest.mark.parametrize(
    "start",
    [
        b"RIFF",
        b"RIFX",
        b"caff\0\1",
        b"Creative Voice File\x1a",
        b"\x1aE\xdf\xa3",
        b"#!AMR\n",
        b"\0\0\0\x1cftypM4A ",
    ],
)
def test_files_with_a_header_are_refused(run: Path, feed: Callable[[bytes], None], start: bytes) -> None:
    feed(start + bytes(1000))
    with pytest.raises(AudioError, match="standard input is an audio file, wanted raw samples"):
        run_stream(arguments_of(run, "--sample-rate", "16000"))


def test_nothing_on_standard_input(
    run: Path, feed: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    feed(b"")
    assert run_stream(arguments_of(run, "--sample-rate", "16000")) == 0
    assert capsys.readouterr().out == ""
