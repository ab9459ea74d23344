"""What a training takes of its utterances: those that cannot be learnt, labels, symbols that it does not know."""

from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from asr import checkpoint
from asr.batch import Batch
from asr.config import TextConfig
from asr.errors import AudioError, ConfigError, TextError, TrainingError
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.shards.pack import INDEX_NAME, pack
from asr.text import Tokenizer, build_tokenizer
from asr.train import Trainer
from asr.training.learner import Outcome
from asr.training.outset import UNUSABLE_FILE
from asr.training.trainset import heard_in_training, label, leave_out
from tones import tiny, write_corpus

TEXTS = ["ab", "cab", "bad dad", "a b c", "abba cab", "d", "dab", "cc"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tones"), TEXTS)


def spoil(corpus: Path, folder: Path) -> Path:
    """The corpus with an utterance too long for the limit, one too short for a frame and one with too many labels."""
    utterances = read_manifest(corpus)
    utterances[0] = replace(utterances[0], text="ab" * 40)  # 0.35 s: 32 feature frames
    utterances[1] = replace(utterances[1], duration=0.02)
    utterances[4] = replace(utterances[4], text="abba cab")  # 1.25 s
    manifest = folder / "spoilt.jsonl"
    write_manifest(manifest, utterances)
    return manifest


def test_unusable_utterances_stop_the_run_by_name(tmp_path: Path, corpus: Path) -> None:
    config = tiny(spoil(corpus, tmp_path), corpus, "train.max_utterance_s=1.1")
    with pytest.raises(TrainingError) as raised:
        Trainer(config, tmp_path / "run")
    message = str(raised.value)
    assert message.startswith("3 of 8 training utterances cannot be used (train.skip_unusable=true leaves them out; ")
    assert "; a smaller encoder.subsampling gives them more frames): utterance " in message
    assert "utterance train-0: 16 output frames, its transcript needs 80" in message
    assert "utterance train-1: 0.020 s, shorter than one frame" in message
    assert "utterance train-4: 1.25 s, longer than train.max_utterance_s=1.1" in message
    assert "\n" not in message
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration": 7.0}, r"utterance train-2: .*: segment 0\.\.7 s is not inside the audio"),
        ({"duration": 0.01}, r"utterance train-2: .*: 0\.01 s of audio are shorter than one frame"),
    ],
)
def test_dev_that_cannot_be_read_is_found_before_the_first_step(
    tmp_path: Path, corpus: Path, changes: dict[str, float], message: str
) -> None:
    dev = read_manifest(corpus)
    dev[2] = replace(dev[2], **changes)  # type: ignore[arg-type]
    write_manifest(tmp_path / "dev.jsonl", dev)
    with pytest.raises(AudioError, match=message):
        Trainer(tiny(corpus, tmp_path / "dev.jsonl"), tmp_path / "run")


@pytest.mark.parametrize(("moved", "kept"), [(2, 1), (1, 2)])
def test_manifests_joined_in_another_folder(tmp_path: Path, corpus: Path, moved: int, kept: int) -> None:
    joined = tmp_path / "deep" / "joined.jsonl"
    here = read_manifest(write_corpus(tmp_path / "deep", ["ab"] * kept, name="here"))
    there = read_manifest(write_corpus(tmp_path / "deep" / "est" / "other", ["cab"] * moved, name="there"))
    elsewhere = tmp_path / "deep" / "est" / "elsewhere.jsonl"
    write_manifest(joined, here)
    write_manifest(elsewhere, there)
    joined.write_text(joined.read_text() + elsewhere.read_text())
    with pytest.raises(AudioError, match=f"^{moved} of 3 audio files are missing: utterance there-0: .*wav") as raised:
        Trainer(tiny(corpus, joined), tmp_path / "run")
    hint = "; paths in a manifest are relative to its folder, so one that is moved or joined from others must lie in"
    assert (hint in str(raised.value)) == (moved > kept)


def test_unusable_utterances_are_listed_and_left_out(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(
        spoil(corpus, tmp_path), corpus, "train.max_utterance_s=1.1", "train.skip_unusable=true", "train.epochs=1"
    )
    seen = []

    class Noting(Trainer):
        def step(self, batch: Batch) -> Outcome:
            seen.extend(batch.ids)
            return super().step(batch)

    Noting(config, tmp_path / "run").run()
    listed = (tmp_path / "run" / UNUSABLE_FILE).read_text(encoding="utf-8").splitlines()
    assert sorted(line.split(":")[0] for line in listed) == [f"utterance train-{number}" for number in (0, 1, 4)]
    assert sorted(seen) == ["train-2", "train-3", "train-5", "train-6", "train-7"]
    assert "3 unusable utterances left out" in capsys.readouterr().err


def test_equal_neighbours_need_a_blank_between_them_at_the_fastest_speed(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, ["aaa"])  # 0.5 s: 4000 samples, 47 feature frames, 24 output frames
    utterance = read_manifest(manifest)[0]
    for repeats, speeds, usable in ((4, "[]", True), (12, "[]", True), (13, "[]", False), (12, "[1.1]", False)):
        write_manifest(manifest, [replace(utterance, text="a" * repeats)])
        config = tiny(manifest, manifest, f"augment.speeds={speeds}")
        out = tmp_path / f"run-{repeats}-{speeds}"
        if usable:
            Trainer(config, out)
        else:
            with pytest.raises(TrainingError, match=f"its transcript needs {2 * repeats - 1}"):
                Trainer(config, out)


def test_audio_that_ends_a_little_before_its_segment(tmp_path: Path) -> None:
    """The manifest says 0.09 s more than there is, which is accepted, but too few frames for the labels."""
    manifest = write_corpus(tmp_path, ["aaa", "aaa"])
    good, short = read_manifest(manifest)
    sound = soundfile.read(short.audio_filepath)[0]
    soundfile.write(short.audio_filepath, sound[: len(sound) - 720], 8000)
    dev = write_corpus(tmp_path, ["a"], name="dev")
    write_manifest(manifest, [replace(good, text="a" * 11), replace(short, text="a" * 11)])
    with pytest.raises(TrainingError, match=r"^1 of 2 .*utterance train-1: 19 output frames, its transcript needs 21$"):
        Trainer(tiny(manifest, dev), tmp_path / "run")
    write_manifest(manifest, [replace(good, text="a" * 10), replace(short, text="a" * 10)])
    Trainer(tiny(manifest, dev), tmp_path / "run")


def test_utterances_that_loading_would_refuse(tmp_path: Path, corpus: Path) -> None:
    config = tiny(corpus, corpus, "audio.max_duration_s=1.1")
    with pytest.raises(TrainingError, match=r"^1 of 8 .*train-4: 1\.25 s, longer than audio\.max_duration_s=1\.1$"):
        Trainer(config, tmp_path / "run")


def test_a_dev_utterance_too_long_is_found_before_training(tmp_path: Path, corpus: Path) -> None:
    dev = write_corpus(tmp_path, ["a", "aa"], name="dev")
    longest = max(utterance.duration for utterance in read_manifest(dev))
    config = tiny(corpus, dev, f"audio.max_duration_s={longest - 0.01}", "train.skip_unusable=true")
    with pytest.raises(AudioError, match=rf"^utterance dev-1: .*: {longest:.1f} s of audio, more than audio\.max_dur"):
        Trainer(config, tmp_path / "run")


def test_transcripts_without_a_word_are_unusable(tmp_path: Path, corpus: Path) -> None:
    utterances = read_manifest(corpus)
    utterances[1] = replace(utterances[1], text="?!")
    utterances[2] = replace(utterances[2], text="...")
    write_manifest(tmp_path / "some.jsonl", utterances)
    with pytest.raises(
        TrainingError,
        match=r"^2 of 8 .*utterance train-1: transcript '\?!' is empty after normalisation; utterance train-2: ",
    ):
        Trainer(tiny(tmp_path / "some.jsonl", corpus), tmp_path / "run")
    trainer = Trainer(tiny(tmp_path / "some.jsonl", corpus, "train.skip_unusable=true"), tmp_path / "run")
    assert len(trainer.outset.train_set.utterances) == 6
    assert [reason[:18] for reason in trainer.outset.left_out] == ["utterance train-1:", "utterance train-2:"]


def test_nothing_left_to_train_on(tmp_path: Path, corpus: Path) -> None:
    config = tiny(corpus, corpus, "train.max_utterance_s=0.1", "train.skip_unusable=true")
    with pytest.raises(TrainingError, match=r"no training utterance can be used: utterance train-0: .*; and 3 more$"):
        Trainer(config, tmp_path / "run")


def test_many_unusable_utterances_are_counted_but_not_all_shown(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(TrainingError, match=r"8 of 8 .*; and 3 more$"):
        Trainer(tiny(corpus, corpus, "train.max_utterance_s=0.1"), tmp_path / "run")


def test_dropped_symbols_are_counted_for_what_is_trained_on() -> None:
    tokenizer = Tokenizer(["<blank>", "a", "b"], TextConfig(allow_oov=True))
    utterances = [Utterance(text, Path("x.wav"), 1.0, text) for text in ("abx", "xay", "zb")]
    labelled = label(utterances, tokenizer)
    assert labelled.labels == [[1, 2], [1], [2]]
    assert labelled.unknown == [["x"], ["x", "y"], ["z"]]
    kept = leave_out(labelled, {"xay": "too long"}, tiny(Path(), Path(), "train.skip_unusable=true"))
    assert [utterance.id for utterance in kept.utterances] == ["abx", "zb"]
    assert kept.labels == [[1, 2], [2]]
    assert kept.unknown == [["x"], ["z"]]


def test_texts_are_normalised_once_where_no_symbol_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """For twice the text it would take twice the time."""
    normalized = []
    normalize = Tokenizer.normalize
    monkeypatch.setattr(Tokenizer, "normalize", lambda self, text: normalized.append(text) or normalize(self, text))
    utterances = [Utterance(text, Path("x.wav"), 1.0, text) for text in ("ab", "ba")]
    labelled = label(utterances, Tokenizer(["<blank>", "a", "b"], TextConfig()))
    assert (labelled.labels, labelled.unknown) == ([[1, 2], [2, 1]], [[], []])
    assert normalized == ["ab", "ba"]


@pytest.mark.parametrize(
    ("name", "offset", "duration", "channel", "shared"),
    [
        ("a.wav", 1.0, 1.0, None, True),  # the same
        ("b.wav", 1.0, 1.0, None, False),
        ("a.wav", 0.0, 1.02, None, False),  # they touch
        ("a.wav", 0.0, 1.06, None, True),
        ("a.wav", 1.98, 1.0, None, False),
        ("a.wav", 1.9, 1.0, None, True),
        ("a.wav", 1.4, 0.1, None, True),  # inside
        ("a.wav", 0.0, 9.0, None, True),  # around
        ("a.wav", 4.9, 0.5, None, True),  # the second one ends before the first, which is longer
        ("a.wav", 5.1, 0.5, None, False),
        ("c.wav", 0.0, 1.0, 0, True),
        ("c.wav", 0.0, 1.0, 1, False),  # the other side of a call
        ("c.wav", 0.0, 1.0, None, True),
        ("a.wav", 1.0, 1.0, 1, True),
        ("link.wav", 1.0, 1.0, None, True),
        ("linked/a.wav", 1.0, 1.0, None, True),
        ("linked/../folder/a.wav", 1.0, 1.0, None, True),
    ],
)
def test_dev_that_is_trained_on(
    tmp_path: Path, name: str, offset: float, duration: float, channel: int | None, shared: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.wav").symlink_to(folder / "a.wav")
    (folder / "linked").symlink_to(folder)
    train = [
        Utterance("t2", folder / "a.wav", 0.5, "a", 3.5),
        Utterance("t1", folder / "a.wav", 2.0, "a", 3.0),
        Utterance("t0", folder / "a.wav", 1.0, "a", 1.0),
        Utterance("t3", folder / "c.wav", 1.0, "a", channel=0),
    ]
    other = Utterance("other", folder / "d.wav", 1.0, "a")
    dev = Utterance("one", folder / name, duration, "a", offset, channel=channel)
    assert heard_in_training([other, dev], train) == (["one"] if shared else [])


def test_training_tells_that_dev_is_trained_on(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "dev utterances are of audio that is trained on too"
    others = read_manifest(write_corpus(tmp_path, ["ab", "cab"], name="others"))
    write_manifest(tmp_path / "dev.jsonl", [*others, *read_manifest(corpus)[:5]])
    Trainer(tiny(corpus, tmp_path / "dev.jsonl", "train.epochs=1"), tmp_path / "run").run()
    first = "train-0; train-1; train-2; and 2 more"
    line = f"5 of 7 {told} ({first}): the error rate on dev is not that on unheard recordings\n"
    assert capsys.readouterr().err.count(line) == 1
    for dev in (tmp_path / "others.jsonl", "none"):
        assert told not in "".join(Trainer(tiny(corpus, dev), tmp_path / "other").notes)
    # What is left out is not trained on.
    left = Trainer(tiny(corpus, corpus, "train.max_utterance_s=1.1", "train.skip_unusable=true"), tmp_path / "left")
    assert f"7 of 8 {told} " in "".join(left.notes)


def test_characters_that_are_not_learnt_are_told(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "characters of the transcripts that are not learnt: "
    manifest = tmp_path / "marked.jsonl"
    texts = ["a'b?", "c'", "ba, b? d", "a.", "!d", "a b", "c!", "a?"]
    write_manifest(
        manifest, [replace(item, text=text) for item, text in zip(read_manifest(corpus), texts, strict=True)]
    )
    Trainer(tiny(manifest, corpus, "train.epochs=1"), tmp_path / "run").run()
    assert f"""{told}'?' 3, '!' 2, "'" 1, ',' 1, '.' 1; text.letters keeps some\n""" in capsys.readouterr().err
    config = tiny(manifest, corpus, "train.epochs=1", "text.letters='!", "train.skip_unusable=true")
    Trainer(config, tmp_path / "letters").run()
    assert f"{told}'?' 3, ',' 1, '.' 1; text.letters keeps some\n" in capsys.readouterr().err
    found = checkpoint.load(tmp_path / "letters").tokenizer
    assert (found.normalize("C' !d?"), found.tokens[1:4]) == ("c' !d", [" ", "!", "'"])
    Trainer(tiny(corpus, manifest, "train.epochs=1", "text.allow_oov=true"), tmp_path / "plain").run()
    assert told not in capsys.readouterr().err  # dev is only evaluated on


def test_dev_symbols_outside_the_vocabulary(tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_manifest = write_corpus(tmp_path, ["ab", "ba"])
    missing = "utterance train-1: symbol 'c' is not in the vocabulary of 3 tokens"
    with pytest.raises(TextError, match=f"{missing}.*; data.vocabulary=RUN takes the labels of another run$"):
        Trainer(tiny(train_manifest, corpus), tmp_path / "strict")
    dev = write_corpus(tmp_path, ["abc", "cab c"], name="dev")
    Trainer(tiny(train_manifest, dev, "text.allow_oov=true", "train.epochs=1"), tmp_path / "run").run()
    assert "4 out-of-vocabulary symbols dropped: 'c' 3, ' ' 1" in capsys.readouterr().err


def test_shards_are_no_dev(tmp_path: Path, corpus: Path) -> None:
    pack(corpus, tmp_path / "shards", shard_mb=1)
    dev = tmp_path / "shards" / INDEX_NAME
    with pytest.raises(ConfigError, match=r"data\.dev=.*index\.jsonl: is an index of shards, wanted a manifest"):
        Trainer(tiny(corpus, dev), tmp_path / "run")


def test_labels_made_of_another_manifest(tmp_path: Path) -> None:
    """So that models of the same pieces can be trained on different recordings."""
    pieces = write_corpus(tmp_path, ["abab ab", "ab abab"], name="pieces")
    train_manifest = write_corpus(tmp_path, ["aa b", "b aa"])
    given = ("text.unit=bpe", "text.bpe_size=6", f"data.vocabulary={pieces}")
    trainer = Trainer(tiny(train_manifest, pieces, *given), tmp_path / "run")
    digest = trainer.outset.recognizer.tokenizer.digest()
    assert digest == build_tokenizer(["abab ab", "ab abab"], trainer.config.text).digest()
    assert digest != build_tokenizer(["aa b", "b aa"], trainer.config.text).digest()
    pack(pieces, tmp_path / "shards", shard_mb=1)
    index = tmp_path / "shards" / INDEX_NAME
    packed = Trainer(tiny(train_manifest, pieces, *given[:2], f"data.vocabulary={index}"), tmp_path / "packed")
    assert packed.outset.recognizer.tokenizer.digest() == digest
    with pytest.raises(TextError, match="utterance train-0: symbol 'c' is not in the vocabulary") as raised:
        Trainer(tiny(write_corpus(tmp_path, ["abc"]), pieces, *given), tmp_path / "other")
    hint = "labels are made from the training texts (of few recordings with text.unit=char)"
    assert str(raised.value).endswith(f"; without data.vocabulary={pieces} {hint}")
