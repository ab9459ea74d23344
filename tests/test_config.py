"""Configuration files and overrides: every key is used or refused, every value has its type and range."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import Config, DecodeConfig, load, resolve_decode, to_yaml, with_absolute_paths
from asr.errors import ConfigError
from asr.overrides import flatten
from conftest import ROOT

FILES = sorted((ROOT / "conf").glob("*.yaml"))


def written(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_loads_and_says_only_what_differs(path: Path) -> None:
    loaded, defaults = flatten(load(path)), flatten(Config())
    assert loaded != defaults
    text = yaml.safe_load(path.read_text(encoding="utf-8"))
    keys = {f"{room}.{key}" for room, values in text.items() for key in values}
    assert {key for key in loaded if loaded[key] != defaults[key]} <= keys


def test_there_are_files_to_load() -> None:
    assert {"demo", "yesno", "an4", "digits", "librispeech"} <= {path.stem for path in FILES}


def test_no_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load(None) == Config()
    assert load(written(tmp_path, "")) == Config()


def test_file_then_overrides(tmp_path: Path) -> None:
    path = written(tmp_path, "train: {epochs: 7, seed: 3}\naugment:\n  speeds: [0.9, 1]\n  noise_snr_db: [5, 25]\n")
    found = load(path, ["train.epochs=9", "train.epochs=11", "data.train=/my data/a=b.jsonl"])
    assert (found.train.epochs, found.train.seed) == (11, 3)
    assert found.augment.speeds == (0.9, 1.0)
    assert found.augment.noise_snr_db == (5.0, 25.0)
    assert found.data.train == "/my data/a=b.jsonl"
    assert load(path, ["augment.speeds=[]"]).augment.speeds == ()


@pytest.mark.parametrize(
    ("word", "value"), [("yes", True), ("no", False), ("on", True), ("True", True), ("false", False)]
)
def test_words_for_true_and_false(tmp_path: Path, word: str, value: bool) -> None:
    assert load(written(tmp_path, f"train: {{skip_unusable: {word}}}")).train.skip_unusable is value
    assert load(None, [f"encoder.bidirectional={word}"]).encoder.bidirectional is value


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("encoder.layrs", "encoder.layers"),  # a letter is missing
        ("encodr.layers", "encoder"),  # the room is misspelled
        ("train.layers", "encoder.layers"),  # the wrong room
        ("layers", "encoder.layers"),  # no room
        ("train.lerning_rate", "train.learning_rate"),
        ("Train.epochs", "train"),
        ("decode.beam_sise", "decode.beam_size"),
        ("alpha", "decode.alpha"),
    ],
)
def test_unknown_keys_are_refused_with_the_right_one(tmp_path: Path, key: str, suggestion: str) -> None:
    room, _, leaf = key.rpartition(".")
    path = written(tmp_path, f"{room}: {{{leaf}: 3}}" if room else f"{leaf}: 3")
    with pytest.raises(ConfigError, match=rf"c\.yaml: unknown key '.*'; did you mean '{suggestion}'\?"):
        load(path)
    with pytest.raises(ConfigError, match=rf"^override '{key}=3': unknown key '.*'; did you mean '{suggestion}'\?"):
        load(None, [f"{key}=3"])


def test_an_unknown_key_that_is_like_no_other() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'zzz'$"):
        load(None, ["zzz=1"])


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("train.epochs=yes", "train.epochs: Value 'True' of type 'bool'"),
        ("train.epochs=2.5", "train.epochs: Value '2.5' of type 'float'"),
        ("train.epochs=", "train.epochs: Value ''"),
        ("train.epochs=null", "train.epochs: .*None"),
        ("train.epochs=three", "train.epochs: Value 'three'"),
        ("train.epochs=[3]", "train.epochs: "),
        ("train.skip_unusable=maybe", "train.skip_unusable: Value 'maybe'"),
        ("train.learning_rate=fast", "train.learning_rate: Value 'fast'"),
        ("text.case=null", "text.case: .*None"),
        ("text.case=[a]", "text.case: "),
        ("text.case={a: 1}", "text.case: "),
        ("text.case=no", "text.case: Invalid value 'False', expected one of .*'lower', 'upper', 'keep'"),
        ("text.case=LOWER", "text.case: Invalid value 'LOWER'"),
        ("encoder.subsampling=3", r"encoder.subsampling: Invalid value '3', expected one of \[1, 2, 4, 8\]"),
        ("encoder.subsampling=true", "encoder.subsampling: Invalid value 'True'"),
        ("encoder.cell=qrnn", "encoder.cell: Invalid value 'qrnn'"),
        ("augment.speeds=1.1", "augment.speeds: "),
        ("augment.speeds=null", "augment.speeds: "),
        ("augment.speeds=[fast]", "fast"),
        ("augment.noise_snr_db=[1, 2, 3]", "wanted 2 elements, found 3"),
        ("decode.decoder=beem", "decode.decoder: Invalid value 'beem', expected one of .*'greedy', 'beam'"),
        ("decode.lm_unit=char", "decode.lm_unit: Invalid value 'char', expected one of .*'auto', 'word', 'token'"),
        ("decode.beam_size=1.5", "decode.beam_size: Value '1.5' of type 'float'"),
        ("encoder=5", "int"),
        ("encoder=null", "encoder: "),
        ("train", "is not of the form key=value"),
        ("=5", "Key '' not in"),
        ("train.epochs=[a", "not valid YAML"),
    ],
)
def test_wrong_types_are_refused_by_key(override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as raised:
        load(None, [override])
    assert str(raised.value).startswith(f"override {override!r}")
    assert "\n" not in str(raised.value)


def test_references_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may be called so; and a configuration of others shall not copy a secret of the environment."""
    monkeypatch.setenv("TOKEN", "secret")
    for path in ("a${b}c/train.jsonl", "${oc.env:TOKEN}", "${data.dev}"):
        assert load(None, [f"data.train={path}"]).data.train == path
        (tmp_path / "conf.yaml").write_text(to_yaml(load(None, [f"data.train={path}"])))
        assert load(tmp_path / "conf.yaml").data.train == path
    with pytest.raises(ConfigError, match=r"epochs: wanted a value, found '\$\{train.seed\}': references are not read"):
        load(None, ["train.epochs=${train.seed}"])


@pytest.mark.parametrize(
    "override",
    [
        "audio.sample_rate_hz=999",
        "audio.max_duration_s=0",
        "features.mel_bins=7",
        "features.mel_bins=1025",
        "features.window_ms=1001",
        "features.hop_ms=0",
        "features.hop_ms=26",
        "features.low_hz=-1",
        "features.high_hz=8001",
        "features.high_hz=19",
        "text.bpe_size=3",
        "text.bpe_size=3000000000",
        "augment.speeds=[1.0,0.4]",
        "augment.gain_db=-1",
        "augment.noise_probability=1.1",
        "augment.noise_snr_db=[3,2]",
        "augment.reverb_probability=-0.1",
        "augment.reverb_s=[0.6,0.1]",
        "augment.reverb_s=[0,0.1]",
        "augment.telephone_probability=1.1",
        "augment.filter_db=-1",
        "augment.warp=0.6",
        "augment.freq_masks=-1",
        "augment.time_masks=1001",
        "augment.time_mask_share=2",
        "augment.crop_share=0.5",
        "encoder.layers=0",
        "encoder.projection=-1",
        "encoder.dropout=1",
        "encoder.weight_dropout=-0.1",
        "encoder.chunk_frames=-1",
        "train.label_smoothing=1",
        "encoder.forget_bias=.nan",
        "encoder.forget_bias=101",
        "train.epochs=0",
        "train.batch_s=0",
        "train.learning_rate=0",
        "train.learning_rate=.nan",
        "train.learning_rate=.inf",
        "train.grad_clip=-1",
        "train.warmup_steps=-1",
        "train.weight_decay=.inf",
        "train.final_rate_share=1.5",
        "train.ema_decay=1",
        "train.max_bad_steps=0",
        "train.workers=-2",
        "train.dev_every=0",
        "decode.alpha=-0.1",
        "decode.alpha=.inf",
        "decode.beta=.nan",
        "decode.unknown_offset=.inf",
        "decode.beam_size=0",
        "decode.beam_size=100001",
        "decode.token_threshold=0.1",
        "decode.beam_threshold=0",
        "decode.beam_threshold=.nan",
    ],
)
def test_ranges(override: str) -> None:
    key, _, value = override.partition("=")
    found = r"\[.*\]" if value.startswith("[") else value.lstrip(".")
    with pytest.raises(ConfigError, match=rf"{key} must be .*, found {found}"):
        load(None, [override])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("'", "'"),
        ("\u2019\u02bc", "'"),
        ('"\'"', "'"),
        (":!:\uff01", "!:"),
        ("#", "#"),
        ("{,[", ",[{"),
        ("~", "~"),
        ("", ""),
        ("\u2026\u02e5", ".\u02e5"),
    ],
)
def test_letters_have_one_form(tmp_path: Path, given: str, kept: str) -> None:
    found = load(None, [f"text.letters={given}"])
    assert found.text.letters == kept
    assert load(written(tmp_path, to_yaml(found))) == found


@pytest.mark.parametrize(
    ("given", "wrong"),
    [("! :", " "), ("'a", "a"), ("\u02bb", "\u02bb"), ("!\u200b", "\u200b"), ("\u02d9", "\u02d9"), ("7", "7")],
)
def test_letters_that_are_no_punctuation(given: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(None, [f"text.letters={given}"])
    assert str(raised.value).startswith("text.letters must be punctuation and symbols that ")
    assert str(raised.value).endswith(f", found {wrong!r} in {given!r}")


def test_letters_where_all_punctuation_is_kept() -> None:
    with pytest.raises(ConfigError, match=r"^text\.letters must be empty where text\.punctuation=keep, found '!'$"):
        load(None, ["text.letters=!", "text.punctuation=keep"])


@pytest.mark.parametrize("section", ["audio", "features", "text", "encoder", "train", "decode"])
def test_choices_from_python(section: str) -> None:
    """A section that is made in Python takes no other values than a file."""
    settings = getattr(Config(), section)
    fields = [item for item in dataclasses.fields(settings) if get_origin(item.type) is Literal]
    assert fields
    for item in fields:
        last = get_args(item.type)[-1]
        for value in ("frist", None, ["auto"]):
            message = rf"^{section}\.{item.name} must be .* or {last}, found {re.escape(repr(value))}$"
            with pytest.raises(ConfigError, match=message):
                dataclasses.replace(settings, **{item.name: value})


def test_limits_that_infinity_switches_off() -> None:
    found = load(None, ["audio.max_duration_s=.inf", "decode.token_threshold=-.inf", "decode.beam_threshold=-.inf"])
    assert found.audio.max_duration_s == math.inf
    assert found.decode.token_threshold == found.decode.beam_threshold == -math.inf


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("audio.sample_rate_hz=11025", r"features\.window_ms: 25\.0 ms at 11025 Hz is 275\.625 samples"),
        ("features.hop_ms=10.01", r"features\.hop_ms: 10\.01 ms at 16000 Hz is 160\.16 samples"),
    ],
)
def test_frames_are_whole_samples(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(None, [override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: {b: [", "not valid YAML"),
        (b"train: {epochs: 1, epochs: 2}", "found duplicate key epochs"),
        (b"- 1", "wanted keys with values, found a list"),
        (b"5", "cannot read configuration: .*int"),
        (b"data: {train: \xe9}", "utf-8"),
        (b"train:", "train: field 'train' is not Optional"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"c\.yaml: .*{message}") as raised:
        load(path)
    assert "\n" not in str(raised.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot read configuration: No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"cannot read configuration: Is a directory$"):
        load(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match=r"Is a directory; did you mean .*/config\.yaml\?$"):
        load(tmp_path)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().train.epochs = 3  # type: ignore[misc]


def test_flatten_names_every_value_once_in_order() -> None:
    flat = flatten(Config())
    assert list(flat)[:4] == ["data.train", "data.dev", "data.vocabulary", "audio.sample_rate_hz"]
    assert flat["augment.speeds"] == Config().augment.speeds
    count = sum(len(dataclasses.fields(getattr(Config(), room.name))) for room in dataclasses.fields(Config))
    assert len(flat) == count


# A path may look like anything that YAML or OmegaConf have another reading for; `???` and a `${` without its end are
# OmegaConf's own.
PATHS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])).filter(
        lambda text: text != "???" and "${" not in text
    ),
    st.sampled_from(
        ["no", "yes", "null", "~", "007", "1e3", "0x10", "12:30", "2020-01-01", "a: b", "# c", "'", '"', "[a"]
    ),
    st.sampled_from(["$a", "${a}", "a${oc.env:HOME}b", "${data.dev}"]),
)
OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "data.train": PATHS,
        "audio.sample_rate_hz": st.sampled_from([8000, 16000, 48000]),
        "features.normalization": st.sampled_from(["utterance", "map", "global"]),
        "text.allow_oov": st.booleans(),
        "augment.speeds": st.lists(st.integers(50, 200).map(lambda percent: percent / 100), max_size=4).map(tuple),
        "augment.noise_snr_db": st.tuples(st.floats(-20, 10), st.floats(10, 60)),
        "encoder.subsampling": st.sampled_from([1, 2, 4, 8]),
        "encoder.forget_bias": st.floats(-100, 100),
        "train.epochs": st.integers(1, 10**9),
        "train.learning_rate": st.floats(0, exclude_min=True, allow_nan=False, allow_infinity=False),
        "train.checkpoint_minutes": st.floats(1e-300, 1e300),
    },
)


@settings(max_examples=25)
@given(OVERRIDES)
def test_yaml_round_trip(tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]) -> None:
    rooms: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        room, name = key.split(".")
        rooms.setdefault(room, {})[name] = value
    made = Config(**{room: dataclasses.replace(getattr(Config(), room), **kept) for room, kept in rooms.items()})
    path = written(tmp_path_factory.getbasetemp(), to_yaml(made))
    found = load(path)
    assert found == made
    assert {key: found_value for key, found_value in flatten(found).items() if key in values} == values


@settings(max_examples=20)
@given(st.floats(1e-12, 1e12))
def test_overrides_keep_every_digit(value: float) -> None:
    assert load(None, [f"train.learning_rate={value!r}"]).train.learning_rate == value


@pytest.mark.parametrize(
    "path",
    ["ä b #c/train.jsonl", "ä b: c/train.jsonl", "[a", "{a: 1}", "null", "yes", "007", "1e3", "'a", "- a", "a=b "],
)
def test_a_path_is_no_yaml(path: str) -> None:
    assert load(None, [f"data.train={path}", f"decode.lm={path}"]).data.train == path
    assert load(None, [f"data.train={path}", f"decode.lm={path}"]).decode.lm == path


def test_quotes_around_a_path_are_not_part_of_it() -> None:
    for override in ("data.train='a b: c'", 'data.train="a b: c"'):
        assert load(None, [override]).data.train == "a b: c"


def test_an_empty_override_is_an_empty_text_and_no_number(tmp_path: Path) -> None:
    path = written(tmp_path, "train:\n  init_from: some/run\n")
    for override in ("train.init_from=", "train.init_from=''"):
        assert load(path, [override]).train.init_from == ""
    assert load(path, ["data.train=https://host/x?key=ab=="]).data.train == "https://host/x?key=ab=="
    with pytest.raises(ConfigError, match=r"override 'train\.seed=': train\.seed: "):
        load(None, ["train.seed="])


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ["data.train=here/train.jsonl", "augment.noise_dir=/noise", "decode.lm=../lm.arpa"]
    found = with_absolute_paths(load(None, overrides))
    assert found.data.train == str(tmp_path / "here" / "train.jsonl")
    assert found.data.dev == ""  # not set stays not set
    assert found.augment.noise_dir == "/noise"
    assert found.decode.lm == f"{tmp_path}/../lm.arpa"
    assert (found.decode.lexicon, found.decode.hotwords) == ("", "")


def test_decoder_files_are_looked_for_from_a_folder(tmp_path: Path) -> None:
    decode = DecodeConfig(decoder="beam", lm="lm.bin", hotwords="/h.txt")
    found = resolve_decode(decode, tmp_path)
    assert found == dataclasses.replace(decode, lm=str(tmp_path / "lm.bin"))


def test_a_file_from_before_the_decoder_had_a_section(tmp_path: Path) -> None:
    lines = to_yaml(Config()).split("decode:\n")[0]
    assert "decode" not in lines
    assert load(written(tmp_path, lines)) == Config()


def test_at_the_rate_of_telephones_all_is_as_by_telephone() -> None:
    with pytest.raises(ConfigError, match=r"telephone_probability needs audio\.sample_rate_hz above 8000, found 8000"):
        load(None, ["audio.sample_rate_hz=8000", "augment.telephone_probability=0.5"])


def test_masks_need_normalised_features() -> None:
    with pytest.raises(ConfigError, match=r"must be 0 with features\.normalization=none"):
        load(None, ["features.normalization=none"])
    off = ["augment.freq_masks=0", "augment.time_masks=0"]
    assert load(None, ["features.normalization=none", *off]).features.normalization == "none"
