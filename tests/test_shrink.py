"""A model with its matrices in float16: half the size, the same commands, almost the same numbers."""

from pathlib import Path

import pytest
import torch

import asr
from asr import checkpoint
from asr.errors import CheckpointError
from asr.training.shrink import shrink
from tiny_run import error_line, save_run, succeed, write_audio, write_texts


def weights(folder: Path) -> Path:
    return folder / checkpoint.WEIGHTS_FILE


def test_log_probabilities_are_close_and_float32(tmp_path: Path) -> None:
    run, out = save_run(tmp_path / "run", "features.normalization=global"), tmp_path / "small"
    shrink(run, out)
    before, after = checkpoint.load(run), checkpoint.load(out)
    assert {tensor.dtype for tensor in after.state_dict().values()} == {torch.float32}
    generator = torch.Generator().manual_seed(1)
    waves, lens = 0.1 * torch.randn(2, 16000, generator=generator), torch.tensor([16000, 9000])
    with torch.inference_mode():
        (wanted, _), (found, _) = before(waves, lens), after(waves, lens)
    difference = (wanted - found).abs().max().item()
    assert 0 < difference < 0.05  # the weights of the tiny run's output are 30 times those of a new model
    kept = dict(before.state_dict())
    for name, tensor in after.state_dict().items():
        assert torch.allclose(tensor, kept[name], rtol=2**-11, atol=1e-7)
        if tensor.ndim == 1:
            assert torch.equal(tensor, kept[name])


def test_half_the_size(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "encoder.width=64")
    shrink(run, tmp_path / "small")
    assert weights(tmp_path / "small").stat().st_size < 0.55 * weights(run).stat().st_size


def test_the_commands_take_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = save_run(tmp_path / "run"), tmp_path / "small"
    _, printed = succeed(capsys, "export", run, "--format", "float16", "-o", out)
    assert printed.startswith(f"{out}: weights of 0.0 MB, before 0.0 MB")
    audio, manifest = write_audio(tmp_path / "b.wav"), write_texts(tmp_path / "m.jsonl", "abba", "cab")
    expected, _ = succeed(capsys, "transcribe", "--model", run, audio)
    assert succeed(capsys, "transcribe", "--model", out, audio)[0] == expected
    scored, _ = succeed(capsys, "evaluate", manifest, "--model", run)
    assert succeed(capsys, "evaluate", manifest, "--model", out)[0] == scored
    assert asr.load(out).transcribe(audio).text == asr.load(run).transcribe(audio).text


def test_the_card_and_the_licence_go_with_it(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    for name in ("README.md", "LICENSE"):
        (run / name).write_text(f"the {name}\n", encoding="utf-8")
    shrink(run, tmp_path / "small")
    assert (tmp_path / "small" / "README.md").read_text(encoding="utf-8") == "the README.md\n"
    assert (tmp_path / "small" / "LICENSE").read_text(encoding="utf-8") == "the LICENSE\n"


def test_nothing_in_it_names_a_path_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hotwords = tmp_path / "words.txt"
    hotwords.write_text("abba\n", encoding="utf-8")
    run = save_run(
        tmp_path / "run",
        "data.train=/elsewhere/train.jsonl",
        "augment.noise_dir=/elsewhere",
        "train.init_from=/elsewhere",
        "decode.decoder=beam",
        f"decode.hotwords={hotwords}",
    )
    out = tmp_path / "small"
    shrink(run, out)
    assert sorted(path.name for path in out.iterdir()) == [
        "config.yaml",
        "hotwords.txt",
        "tokens.txt",
        "weights.safetensors",
    ]
    hotwords.unlink()
    settings = checkpoint.load_config(out)
    assert settings.decode.hotwords == "hotwords.txt"
    line = error_line(capsys, "train", "--resume", out)
    assert (
        line
        == f"error: {out}: is a model without its training state; a new run can start from it: train.init_from={out}"
    )
    assert "elsewhere" not in (out / checkpoint.CONFIG_FILE).read_text(encoding="utf-8")
    assert checkpoint.load(out).decoder.config.decoder == "beam"
    facts = checkpoint.load_facts(weights(out))
    assert (facts["step"], facts["precision"]) == (0, "float16")


def test_a_weight_beyond_the_range(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    tensors, facts = checkpoint.load_tensors(weights(run))
    tensors["encoder.output.weight"][0, 0] = 1e6
    checkpoint.save_weights(run, tensors, facts)
    with pytest.raises(CheckpointError, match=r"tensor encoder\.output\.weight holds 1e\+06, more than float16 can"):
        shrink(run, tmp_path / "small")
    assert not weights(tmp_path / "small").exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A project's own README, say, which that of the model would replace."""
    run, out = save_run(tmp_path / "run"), tmp_path / "project"
    (run / "README.md").write_text("the model\n", encoding="utf-8")
    out.mkdir()
    succeed(capsys, "export", run, "--format", "float16", "-o", out)  # it is empty
    succeed(capsys, "export", run, "--format", "float16", "-o", out)  # it is an earlier export
    weights(out).unlink()
    (out / "README.md").write_text("mine\n", encoding="utf-8")
    line = error_line(capsys, "export", run, "--format", "float16", "-o", out)
    assert line == f"error: {out}: is not empty; choose another folder"
    assert (out / "README.md").read_text(encoding="utf-8") == "mine\n"
    line = error_line(capsys, "export", run, "--format", "float16", "-o", out / "README.md")
    assert line == f"error: {out / 'README.md'}: is a file, wanted a folder"


def test_a_training_run_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save_run(tmp_path / "run")
    before = weights(run).read_bytes()
    assert "holds another model" in error_line(capsys, "export", run, "--format", "float16", "-o", run)
    other = save_run(tmp_path / "other")
    (other / "states").mkdir()
    assert "holds another model" in error_line(capsys, "export", run, "--format", "float16", "-o", other)
    assert weights(run).read_bytes() == before
    line = error_line(capsys, "export", run, "--format", "float16", "--quantize", "int8", "-o", tmp_path / "x")
    assert line == "error: --quantize int8 is for --format onnx, found --format float16"
