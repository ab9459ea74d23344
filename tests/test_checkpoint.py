"""The run folder: what goes in comes out, and whatever is wrong with it is refused by file and tensor."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from asr import checkpoint
from asr.checkpoint import CONFIG_FILE, WEIGHTS_FILE, load_tensors, save_tensors
from asr.errors import CheckpointError
from asr.recognizer import Recognizer
from asr.text import TOKENS_FILE, build_tokenizer
from conftest import ROOT
from tones import tiny

OUTPUT = "encoder.output.weight"


def make(folder: Path, *overrides: str) -> Recognizer:
    """A run folder with random weights, and the recogniser they are from."""
    settings = tiny(Path("train.jsonl"), Path("dev.jsonl"), "features.normalization=global", *overrides)
    torch.manual_seed(3)
    recognizer = Recognizer(settings, build_tokenizer(["abc d"], settings.text)).eval()
    recognizer.normalizer.fit([(torch.randn(2, 30, 16) * 3 - 7, torch.tensor([30, 20]))])
    checkpoint.start_run(folder, settings, recognizer.tokenizer)
    checkpoint.save_weights(folder, recognizer.state_dict(), {"epoch": 4, "step": 40, "dev_wer_percent": 12.5})
    return recognizer


@pytest.mark.parametrize("overrides", [(), ("encoder.cell=gru", "encoder.projection=5", "encoder.bidirectional=false")])
def test_a_loaded_model_gives_the_same_numbers(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    recognizer = make(tmp_path / "run", *overrides)
    loaded = checkpoint.load(str(tmp_path / "run"))
    assert not loaded.training
    assert loaded.config == recognizer.config
    assert loaded.tokenizer.tokens == recognizer.tokenizer.tokens
    waves, lens = torch.randn(2, 4000) / 10, torch.tensor([4000, 3000])
    with torch.no_grad():
        wanted, wanted_lens = recognizer(waves, lens)
        found, found_lens = loaded(waves, lens)
    assert torch.equal(found, wanted)
    assert torch.equal(found_lens, wanted_lens)
    assert found.exp().sum(2).allclose(torch.tensor(1.0))


def test_the_folder_is_readable_without_this_project(tmp_path: Path) -> None:
    recognizer = make(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG_FILE, TOKENS_FILE, WEIGHTS_FILE]
    assert (tmp_path / TOKENS_FILE).read_text() == "<blank>\n<space>\na\nb\nc\nd\n"
    with safe_open(tmp_path / WEIGHTS_FILE, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
    assert facts["dev_wer_percent"] == 12.5
    assert facts["versions"]["torch"] == torch.__version__
    assert load_file(tmp_path / WEIGHTS_FILE).keys() == recognizer.state_dict().keys()


def test_tensors_there_and_back(tmp_path: Path) -> None:
    tensors = {
        "part of another": torch.arange(12.0).view(3, 4)[:, 1],
        "transposed": torch.arange(6).view(2, 3).t(),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "bytes": torch.get_rng_state(),
    }
    save_tensors(tmp_path / "t.safetensors", tensors, {"name": "zwölf\n", "numbers": [1, 2.5]})
    found, facts = load_tensors(tmp_path / "t.safetensors")
    assert facts == {"name": "zwölf\n", "numbers": [1, 2.5]}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CONFIG_FILE, TOKENS_FILE, WEIGHTS_FILE])
def test_missing_files_are_named(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{tmp_path}.*{re.escape(name)}"):
        checkpoint.load(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: run folder is missing"):
        checkpoint.load(tmp_path / "nowhere")


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_truncated_weights(tmp_path: Path, keep: int) -> None:
    make(tmp_path)
    weights = tmp_path / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: damaged or not a safetensors file") as raised:
        checkpoint.load(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_flipped_bit_in_the_facts(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    checkpoint.save_tensors(path, {"a": torch.ones(2)}, {"epoch": 1})
    content = bytearray(path.read_bytes())
    content[content.index(b'epoch\\": 1') + 9] ^= 2
    path.write_bytes(content)
    for read in (checkpoint.load_tensors, checkpoint.load_facts):
        with pytest.raises(CheckpointError, match=r"state\.safetensors: damaged: its facts do not have the checksum"):
            read(path)


def test_weights_in_another_format(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"\x80\x04\x95 this could be a pickle, and is never opened as one")
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: damaged or not a safetensors file"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (CONFIG_FILE, "encoder: {layrs: 3}", "unknown key 'encoder.layrs'; did you mean 'encoder.layers'"),
        (CONFIG_FILE, "encoder: {layers: 0}", "encoder.layers must be in 1..16384, found 0"),
        (CONFIG_FILE, "encoder: [", "not valid YAML"),
        (TOKENS_FILE, "a\nb\n", "the first token must be <blank>, found 'a'"),
        (TOKENS_FILE, "<blank>\na\na\n", "token 'a' stands more than once"),
    ],
)
def test_damaged_text_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    make(tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(CheckpointError, match=rf"run.*{message}"):
        checkpoint.load(tmp_path / "run")


# --- tensors ----------------------------------------------------------------------------------------------------------


def without_output(tensors: dict[str, Tensor]) -> None:
    del tensors[OUTPUT]


def with_another(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.attention.weight"] = torch.zeros(2)


def wrong_shape(tensors: dict[str, Tensor]) -> None:
    tensors[OUTPUT] = tensors[OUTPUT][:, :-1]


def with_nan(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.output.bias"][2] = torch.nan


def with_infinity(tensors: dict[str, Tensor]) -> None:
    tensors["normalizer.std"][0] = torch.inf


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_output, "tensor encoder.output.weight is missing"),
        (with_another, "tensor encoder.attention.weight is not part of the configured model"),
        (wrong_shape, r"tensor encoder.output.weight has shape \(6, 31\), the configuration wants \(6, 32\)"),
        (with_nan, "tensor encoder.output.bias holds values that are not finite"),
        (with_infinity, "tensor normalizer.std holds values that are not finite"),
    ],
)
def test_wrong_tensors_are_named(tmp_path: Path, damage: Callable[[dict[str, Tensor]], None], message: str) -> None:
    make(tmp_path)
    tensors, facts = load_tensors(tmp_path / WEIGHTS_FILE)
    damage(tensors)
    save_tensors(tmp_path / WEIGHTS_FILE, tensors, facts)
    with pytest.raises(CheckpointError, match=rf"weights\.safetensors: {message}"):
        checkpoint.load(tmp_path)


def test_configuration_of_another_model(tmp_path: Path) -> None:
    make(tmp_path)
    conf = tmp_path / CONFIG_FILE
    conf.write_text(conf.read_text().replace("layers: 1", "layers: 2"))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: tensor encoder\.layers\.1\.\S+ is missing"):
        checkpoint.load(tmp_path)


def test_vocabulary_of_another_model(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / TOKENS_FILE).write_text("<blank>\na\nb\n")
    with pytest.raises(CheckpointError, match=r"the vocabulary has 3 tokens, the weights have 6 outputs"):
        checkpoint.load(tmp_path)


def test_a_refused_file_changes_no_weight(tmp_path: Path) -> None:
    recognizer = make(tmp_path)
    before = {name: tensor.clone() for name, tensor in recognizer.state_dict().items()}
    tensors = {name: tensor + 1 for name, tensor in before.items()}
    with_nan(tensors)
    with pytest.raises(CheckpointError):
        checkpoint.load_weights(recognizer, tensors, where=tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in recognizer.state_dict().items())


def test_nothing_in_the_package_reads_or_writes_pickles() -> None:
    sources = [*(ROOT / "asr").rglob("*.py"), *(ROOT / "recipes").rglob("*.py")]
    assert len(sources) > 20
    forbidden = re.compile(r"\bpickle|\btorch\.(load|save)\b|\bjoblib|\bshelve|allow_pickle|(?<![.\w])(eval|exec)\(")
    assert [path.name for path in sources if forbidden.search(path.read_text(encoding="utf-8"))] == []
