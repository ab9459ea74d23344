"""Labels that are phones: words by a lexicon, from the transcript to the model and back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asr import checkpoint, stages
from asr.align import align_text
from asr.cli import main
from asr.config import DecodeConfig, TextConfig
from asr.decode import greedy
from asr.decode.greedy import GreedyStream
from asr.decode.hypothesis import Reading
from asr.decoding import Decoder
from asr.emissions import Emissions, Vocabulary, read_emissions, write_emissions
from asr.ensemble import read_ensemble
from asr.errors import CheckpointError, ConfigError, DecodeError, TextError
from asr.export import export_onnx
from asr.manifest import read_manifest
from asr.text import Tokenizer, build_tokenizer
from asr.train import Trainer
from asr.training.shrink import shrink
from asr.units import PRONUNCIATIONS_FILE
from peaky import write_arpa
from tiny_run import error_line, succeed
from tones import tiny, write_corpus

LEXICON = "two\tT UW\nToo\tT UW\nthe\tDH AH\nTHE\tDH IY\nthe\tDH AH\nof-late\tAH V L EY T\nate\tEY T\n"
LABELS = ("<blank>", " ", "AH", "DH", "EY", "IY", "L", "T", "UW", "V")


@pytest.fixture
def config(tmp_path: Path) -> TextConfig:
    file = tmp_path / "lexicon.txt"
    file.write_text(LEXICON)
    return TextConfig(unit="phone", lexicon=str(file))


@pytest.fixture
def tokenizer(config: TextConfig) -> Tokenizer:
    return build_tokenizer(["the two"], config)


def labels_of(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.tokens[label] for label in tokenizer.encode(text, where="u")]


def test_words_become_phones_and_phones_words(tokenizer: Tokenizer) -> None:
    """The words are normalised as transcripts are; what normalisation takes apart can stand in none."""
    assert tuple(tokenizer.tokens) == LABELS[:6] + LABELS[7:9]  # those of "of-late" alone are no labels
    assert tokenizer.lexicon == {
        "two": [["T", "UW"]],
        "too": [["T", "UW"]],
        "the": [["DH", "AH"], ["DH", "IY"]],
        "ate": [["EY", "T"]],
    }
    assert labels_of(tokenizer, "The  too!") == ["DH", "AH", " ", "T", "UW"]
    assert tokenizer.decode(tokenizer.encode("the too ate", where="u")) == "the two ate"
    index = tokenizer.tokens.index
    assert tokenizer.decode([index(one) for one in (" ", "DH", "IY", " ", " ", "T", "T", " ")]) == "the TT"
    assert tokenizer.decode([]) == ""


def test_a_word_without_a_pronunciation(tokenizer: Tokenizer, config: TextConfig) -> None:
    """The name of a phone is a word as any other."""
    with pytest.raises(TextError, match="u7: word 'iy' has no pronunciation in the lexicon of 4 words"):
        tokenizer.encode("the iy", where="u7")
    loose = Tokenizer(tokenizer.tokens, replace(config, case="keep", allow_oov=True), tokenizer.units)
    assert labels_of(loose, "IY ate IY two IY") == ["EY", "T", " ", "T", "UW"]
    assert loose.out_of_vocabulary("IY ate IY two") == ["IY", "IY"]
    for text in ("IY", "IY IY"):
        with pytest.raises(TextError, match=f"u: no symbol of transcript '{text}' is in the vocabulary"):
            loose.encode(text, where="u")


def test_from_a_folder(tokenizer: Tokenizer, config: TextConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    tokenizer.save(run)
    Path(config.lexicon).unlink()  # the folder needs nothing else
    loaded = Tokenizer.load(run, config)
    assert (loaded.tokens, loaded.lexicon, loaded.digest()) == (tokenizer.tokens, tokenizer.lexicon, tokenizer.digest())
    file = run / PRONUNCIATIONS_FILE
    file.write_text(file.read_text().replace("EY T", "T UW"))
    assert Tokenizer.load(run, config).digest() != tokenizer.digest()
    file.write_text(file.read_text().replace("T UW", "T YU", 1))
    with pytest.raises(TextError, match=rf"{file}: word 'two' is pronounced with 'YU', which is no label"):
        Tokenizer.load(run, config)
    file.unlink()
    with pytest.raises(TextError, match=rf"{file}: cannot read lexicon"):
        Tokenizer.load(run, config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the\ntwo\n", "lexicon.txt:1: wanted word TAB phones separated by spaces, found 'the'"),
        ("the\tDH AH\ntwo\n", "lexicon.txt:2: wanted word TAB labels, as on the lines before, found 'two'"),
        ("the\tDH AH\n\ntwo\t \n", "lexicon.txt:3: word 'two' is spelled with nothing"),
        ("a b\tAH\n", "lexicon.txt:1: wanted one word, found 'a b'"),
        ("the DH AH\n", "lexicon.txt:1: wanted one word, or word TAB labels, found 'the DH AH'"),
        ("the\t<blank>\n", "lexicon.txt: word 'the': <blank> is the blank, not a phone"),
        ("the\tDH <space> AH\n", "lexicon.txt: word 'the': <space> is the space between words, not a phone"),
        ("\n", "lexicon.txt: holds no word"),
        ("-\tDH\n", "lexicon.txt: no word is left after normalisation"),
    ],
)
def test_lexicons_that_cannot_be_used(config: TextConfig, content: str, message: str) -> None:
    Path(config.lexicon).write_text(content)
    with pytest.raises(TextError, match=message):
        build_tokenizer(["the two"], config)


def test_settings_that_do_not_go_together(config: TextConfig) -> None:
    with pytest.raises(TextError, match=r"text\.unit=phone needs text\.lexicon=FILE"):
        build_tokenizer(["the two"], TextConfig(unit="phone"))
    with pytest.raises(ConfigError, match=r"text\.unit must be phone where text\.lexicon is given, found 'char'"):
        replace(config, unit="char")


def rows_of(*labels: str) -> np.ndarray:
    """(T, V) float32 log-probabilities: a frame for each label and a blank behind it."""
    rows = np.full((2 * len(labels), len(LABELS)), 0.1 / (len(LABELS) - 1))
    for place, label in enumerate(labels):
        rows[2 * place, LABELS.index(label)] = rows[2 * place + 1, 0] = 0.9
    return np.log(rows).astype(np.float32)


PRONUNCIATIONS = {"two": [["T", "UW"]], "too": [["T", "UW"]], "the": [["DH", "AH"], ["DH", "IY"]]}


def test_greedy_reads_words() -> None:
    path = ["DH", "IY", " ", "T", "UW", " ", "AH", "T"]
    rows = rows_of(*path)
    (found,) = greedy([rows], LABELS, pronunciations=PRONUNCIATIONS, frame_s=0.04)
    assert found.text == "the two AHT"  # what no word sounds like is written as it is
    assert [word.text for word in found.words] == ["the", "two", "AHT"]
    (plain,) = greedy([rows], LABELS, frame_s=0.04)
    assert plain.text == "DHIY TUW AHT"
    assert [(word.start_s, word.end_s) for word in found.words] == [(word.start_s, word.end_s) for word in plain.words]
    stream = GreedyStream(Reading.of(LABELS, 0, " ", 0.04, PRONUNCIATIONS))
    stream.accept(rows[:5])
    assert stream.accept(rows[5:]) == found
    with pytest.raises(DecodeError, match="pronunciations: word 'a' is spelled with 'X', which is no label"):
        greedy([rows], LABELS, pronunciations={"a": [["X"]]})


def test_a_decoder_reads_words_however_it_searches() -> None:
    rows = rows_of("DH", "AH", " ", "T", "UW")
    vocabulary = Vocabulary(LABELS, lexicon=PRONUNCIATIONS)
    for config in (DecodeConfig(), DecodeConfig(decoder="beam")):
        decoder = Decoder(config, vocabulary)
        assert decoder([rows])[0][0].text == "the two"
        stream = decoder.stream()
        stream.accept(rows)
        assert stream.finish()[0].text == "the two"


def test_a_decoder_of_fewer_words(tmp_path: Path) -> None:
    file = tmp_path / "allowed.txt"
    file.write_text("too\tT UW\nthe\tDH AH\n")
    config = DecodeConfig(decoder="beam", lexicon=str(file))
    rows = rows_of("DH", "AH", " ", "T", "UW")
    vocabulary = Vocabulary(LABELS, lexicon=PRONUNCIATIONS)
    assert Decoder(config, vocabulary)([rows])[0][0].text == "the too"
    file.write_text("too\nthe\n")  # pronounced as the vocabulary has it
    assert Decoder(config, vocabulary)([rows])[0][0].text == "the too"
    file.write_text("too\nDH\n")
    with pytest.raises(DecodeError, match=r"allowed\.txt:2: word 'DH' has no pronunciation in the model: give one"):
        Decoder(config, vocabulary)


def test_hotwords_and_language_models_are_of_its_words(tmp_path: Path) -> None:
    vocabulary = Vocabulary(LABELS, lexicon=PRONUNCIATIONS)
    file = tmp_path / "words.txt"
    file.write_text("DH\n")
    with pytest.raises(DecodeError, match=r"words\.txt:1: phrase 'DH': the lexicon has no word 'DH'"):
        Decoder(DecodeConfig(decoder="beam", hotwords=str(file)), vocabulary)
    rows = rows_of("DH", "AH", " ", "T", "UW")
    file.write_text("too\t2\nthe too\t3\n")
    found = Decoder(DecodeConfig(decoder="beam", hotwords=str(file)), vocabulary)([rows])[0][0]
    assert (found.text, found.lm_score) == ("the two", pytest.approx(5.0))  # which sounds as it
    lm = write_arpa(tmp_path / "lm.arpa", [(-0.5, "THE"), (-0.5, "TWO")])
    with pytest.raises(DecodeError, match="language model: none of the lexicon's 3 words is in it; is it"):
        Decoder(DecodeConfig(decoder="beam", lm=str(lm)), vocabulary)


def test_log_probabilities_keep_their_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of("DH", "AH", " ", "T", "UW")
    for name, lexicon in (("a", PRONUNCIATIONS), ("b", None)):
        write_emissions(tmp_path / f"{name}.npz", Emissions(Vocabulary(LABELS, lexicon=lexicon), {"u": rows}, {}))
    assert read_emissions(tmp_path / "a.npz").vocabulary.lexicon == PRONUNCIATIONS
    assert read_emissions(tmp_path / "b.npz").vocabulary.lexicon is None
    assert succeed(capsys, "decode", tmp_path / "a.npz")[0] == "u\tthe two\n"
    with pytest.raises(DecodeError, match="differ in lexicon"):
        read_ensemble([tmp_path / "a.npz", tmp_path / "b.npz"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "lexicon must give pronunciations for each word, found"),
        ({}, "lexicon must give pronunciations for each word, found"),
        ({"a": "AH"}, "lexicon: word 'a' must have a list of texts, found 'AH'"),
        ({"a": []}, "lexicon: word 'a' must have a list of texts"),
        ({"a": ["AH", 3]}, "lexicon: word 'a' must have a list of texts"),
        ({"a": ["AH X"]}, "lexicon: word 'a' is spelled with 'X', which is no label"),
        ({"a": [" "]}, "lexicon: word 'a' is spelled with '', which is no label"),
    ],
)
def test_descriptions_of_words_that_cannot_be_used(tmp_path: Path, value: object, message: str) -> None:
    file = tmp_path / "a.npz"
    write_emissions(file, Emissions(Vocabulary(LABELS), {"u": rows_of("AH")}, {}))
    description = file.with_suffix(".json")
    description.write_text(json.dumps({**json.loads(description.read_text()), "lexicon": value}))
    with pytest.raises(DecodeError, match=message):
        read_emissions(file)


# A word of two letters is a word of two tones.
WORDS = "bab\ta b\nabba\tc a\nabba\tc b\ndab\td\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model of three words; what is spoken for them are the tones of their phones."""
    folder = tmp_path_factory.mktemp("phones")
    texts = ["dab", "bab", "abba dab", "bab abba", "dab bab abba", "abba abba", "bab dab", "bab bab dab"]
    spoken = [text.replace("abba", "ca").replace("bab", "ab").replace("dab", "d") for text in texts]
    manifest = write_corpus(folder, spoken)
    records = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines = [json.dumps({**record, "text": text.upper()}) for record, text in zip(records, texts, strict=True)]
    manifest.write_text("\n".join(lines) + "\n")
    (folder / "words.txt").write_text(WORDS)
    words = ("text.unit=phone", f"text.lexicon={folder / 'words.txt'}")
    # Slow enough that every processor's rounding, and each of six seeds, learns all of it.
    learning = ("train.epochs=100", "train.dev_every=20", "train.learning_rate=0.01", "train.seed=2")
    Trainer(tiny(manifest, manifest, *words, "train.batch_s=2", *learning), folder / "run").run()
    (folder / "words.txt").unlink()
    return folder / "run"


def test_a_model_of_phones_learns_words(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = run.parent / "train.jsonl"
    assert "WER 0.00%" in succeed(capsys, "evaluate", manifest, "--model", run, "--out", tmp_path / "greedy")[0]
    text = tmp_path / "text.txt"
    text.write_text("dab bab\nabba dab\n")
    succeed(capsys, "lm", "train", text, "--order", 2, "-o", tmp_path / "lm.arpa")
    shrink(run, tmp_path / "small")
    assert checkpoint.load_config(tmp_path / "small").text.lexicon == ""
    assert main(["tune", str(tmp_path / "small"), "--lm", str(tmp_path / "lm.arpa"), "--manifest", str(manifest)]) == 0
    capsys.readouterr()
    wavs = [run.parent / "audio" / f"train-{number}.wav" for number in (2, 4)]
    out, _ = succeed(capsys, "transcribe", "--model", tmp_path / "small", *wavs)
    assert [line.split("\t")[1] for line in out.splitlines()] == ["abba dab", "dab bab abba"]


def test_an_exported_model_has_its_words(run: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the package onnx is not installed (an optional extra)")
    export_onnx(checkpoint.load(run), tmp_path / "phones.onnx")
    facts = {item.key: item.value for item in onnx.load(tmp_path / "phones.onnx").metadata_props}
    assert json.loads(facts["lexicon"]) == {"bab": ["a b"], "abba": ["c a", "c b"], "dab": ["d"]}


def test_words_of_phones_are_aligned(run: Path) -> None:
    recognizer = checkpoint.load(run)
    assert recognizer.vocabulary.reading is recognizer.vocabulary.reading  # made once: of a large lexicon it takes long
    wave = recognizer.load(read_manifest(run.parent / "train.jsonl")[4])
    log_probs, _ = recognizer(wave[None], torch.tensor([len(wave)]))
    found = align_text(log_probs[0].detach(), "dab bab ABBA x", recognizer.tokenizer, recognizer.vocabulary)
    assert [word.text for word in found.words] == ["dab", "bab", "ABBA", "x"]
    starts = [word.start_s for word in found.words]
    assert starts == sorted(starts)
    assert min(word.confidence for word in found.words[:3]) > 0.5
    assert found.written[3].unknown == ("x",)


def test_a_word_that_the_lexicon_lacks_stops_training(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "words.txt"
    words.write_text(WORDS.replace("dab\td\n", "bad\td\n"))
    line = error_line(capsys, "train", run / "config.yaml", f"text.lexicon={words}", "--out", tmp_path / "other")
    assert "utterance train-0: word 'dab' has no pronunciation in the lexicon of 3 words" in line


def test_a_finished_training_of_other_words_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, words = checkpoint.load_config(run), run.parent / "words.txt"
    try:
        words.write_text(WORDS)
        stages.train_stage(run, settings)
        assert "complete" in capsys.readouterr().err
        words.write_text(WORDS + "dab\ta a\n")
        with pytest.raises(CheckpointError, match=r"other texts or words than .*text\.lexicon names now"):
            stages.train_stage(run, settings)
    finally:
        words.unlink()


def test_the_labels_of_a_run_of_phones_are_kept(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own configuration names the lexicon, which may be gone by now."""
    start = (f"train.init_from={run}", f"data.vocabulary={run}", "train.epochs=1")
    _, said = succeed(capsys, "train", run / "config.yaml", *start, "--out", tmp_path / "second")
    assert "0 labels are new to that model\n" in said
    assert (tmp_path / "second" / PRONUNCIATIONS_FILE).read_text() == (run / PRONUNCIATIONS_FILE).read_text()
    words = tmp_path / "words.txt"
    words.write_text(WORDS)
    given = (*start, f"text.lexicon={words}")
    line = error_line(capsys, "train", run / "config.yaml", *given, "--out", tmp_path / "third")
    assert line.endswith("the lexicon comes from that run; leave text.lexicon empty")
