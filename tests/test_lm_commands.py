"""`asr lm`, and perplexity."""

import argparse
import math
import sys

import pytest

from asr.commands.lm import add_lm
from asr.decode.lm import NGram
from asr.errors import AsrError, ConfigError, TextError
from asr.lm import estimate, perplexity, write_arpa


def run(*argv: object) -> int:
    parser = argparse.ArgumentParser()
    add_lm(parser)
    arguments = parser.parse_args([str(item) for item in argv])
    code: int = arguments.run(arguments)
    return code


def test_the_perplexity_of_what_is_all_but_impossible(tmp_path):
    path = tmp_path / "lm.arpa"
    path.write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-1\t<s>\n-400\t</s>\n-400\tone\n\n\\end\\\n")
    assert perplexity(NGram.load(path), ["one"]).including_oovs == math.inf


def test_perplexity_with_and_without_unknown_words(tmp_path):
    write_arpa(estimate(["a b", "a", "b a"], 1), tmp_path / "lm.arpa")
    model = NGram.load(tmp_path / "lm.arpa")
    found = perplexity(model, ["a z", "b"])
    known = sum(model.score([word], eos=False) for word in "ab") + 2 * model.score([])
    unknown = model.score(["z"], eos=False)
    assert (found.sentences, found.tokens, found.oovs) == (2, 5, 1)
    assert found.excluding_oovs == pytest.approx(10 ** (-known / 4))
    assert found.including_oovs == pytest.approx(10 ** (-(known + unknown) / 5))


def test_commands(tmp_path, capsys):
    (tmp_path / "text").write_text("a ba\nab\n\n")
    arpa, binary = tmp_path / "lm.arpa.gz", tmp_path / "lm.bin"
    assert run("train", tmp_path / "text", tmp_path / "text", "--order", 3, "--unit", "char", "-o", arpa) == 0
    assert capsys.readouterr().err.splitlines()[0] == (
        "warning: orders 2, 3: too few n-grams (or an artificial text) to estimate discounts from; they are 0.5 1 1.5, "
        "which is usable"
    )
    assert NGram.load(arpa).unit == "char"
    assert run("perplexity", arpa, tmp_path / "text") == 0
    shown = capsys.readouterr().out
    assert "OOVs:\t0\nTokens:\t9\nSentences:\t3\n" in shown
    assert run("compile", arpa, "-o", binary) == 0
    assert capsys.readouterr().err == f"{binary}: 0.0 MB\n"
    for unit in ([], ["--unit", "char"]):
        assert run("perplexity", binary, tmp_path / "text", *unit) == 0
        assert capsys.readouterr().out == shown
    for model in (arpa, binary):
        assert run("info", model) == 0
        facts = capsys.readouterr().out
        assert "order: 3\n1-grams: 6\n" in facts
        assert "unit: char\n" in facts


def test_what_is_read_is_not_overwritten(tmp_path):
    text, arpa = tmp_path / "text", tmp_path / "lm.arpa"
    text.write_text("a ba\n")
    (tmp_path / "link").symlink_to("text")
    with pytest.raises(ConfigError, match="link: is an input, and would be replaced"):
        run("train", text, "--order", 1, "-o", tmp_path / "link")
    with pytest.raises(ConfigError, match="is not a file"):
        run("train", text, "--order", 1, "-o", tmp_path)
    with pytest.raises(TextError, match="order=1001: a model has an order from 1 to 1000"):
        run("train", text, "--order", 1001, "-o", arpa)
    assert not arpa.exists()
    run("train", text, "--order", 1, "-o", arpa)
    with pytest.raises(ConfigError, match=r"lm\.arpa: is an input"):
        run("compile", arpa, "-o", arpa, "--overwrite")
    for command in (("train", text, "--order", 1), ("compile", text)):
        with pytest.raises(ConfigError, match=r"lm\.arpa: exists already; --overwrite replaces it"):
            run(*command, "-o", arpa)
    run("train", text, "--order", 1, "-o", arpa, "--overwrite")
    assert text.read_text() == "a ba\n"


def test_another_unit_than_the_model_states_is_refused(tmp_path):
    (tmp_path / "text").write_text("a ba\n")
    run("train", tmp_path / "text", "--order", 1, "--unit", "char", "-o", tmp_path / "lm.arpa")
    message = r"lm\.arpa: is a model of unit=char, wanted unit=word"
    with pytest.raises(TextError, match=message):
        run("perplexity", tmp_path / "lm.arpa", tmp_path / "text", "--unit", "word")
    with pytest.raises(TextError, match=message):
        run("compile", tmp_path / "lm.arpa", "-o", tmp_path / "lm.bin", "--unit", "word")
    with pytest.raises(TextError, match="the model: is a model of unit=char, wanted unit=word"):
        perplexity(NGram.load(tmp_path / "lm.arpa"), ["a"], unit="word")


def test_compiling_states_the_unit_that_the_arpa_file_does_not(tmp_path):
    write_arpa(estimate(["a b"], 1, unit="char"), tmp_path / "lm.arpa")
    (tmp_path / "lm.arpa").write_text((tmp_path / "lm.arpa").read_text().split("\n", 1)[1])
    run("compile", tmp_path / "lm.arpa", "-o", tmp_path / "lm.bin")
    assert NGram.load(tmp_path / "lm.bin").unit is None
    run("compile", tmp_path / "lm.bin", "-o", tmp_path / "lm.bin", "--unit", "char", "--overwrite")
    assert NGram.load(tmp_path / "lm.bin").unit == "char"
    assert perplexity(NGram.load(tmp_path / "lm.bin"), ["a b"]).tokens == 4


@pytest.mark.parametrize(
    ("text", "unit", "shown"),
    [
        ("it's three", "word", None),
        ("IT'S", "word", None),
        ("A man", "word", "capitals and small letters"),
        ("cafe\u0301", "word", "letters apart from their accents (Unicode's form NFD)"),
        ("a man. and, yes", "char", "punctuation (, .)"),
        ("A man.", "word", "capitals and small letters and punctuation (.)"),
        ("\u2581A ##m", "token", None),
    ],
)
def test_text_that_was_not_normalised_is_pointed_out(tmp_path, capsys, text, unit, shown):
    (tmp_path / "text").write_text(text)
    run("train", tmp_path / "text", "--order", 1, "--unit", unit, "-o", tmp_path / "lm.arpa")
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert [note.split(";")[0] for note in notes] == ([f"note: the text has {shown}"] if shown else [])


def test_normalising_as_a_run_does(tmp_path, capsys):
    path = tmp_path / "train.jsonl"
    path.write_text('{"audio_filepath": "a.wav", "duration": 1.0, "text": "One, two"}\n')
    (tmp_path / "config.yaml").write_text("text: {case: upper}\n")
    for rules in (tmp_path, tmp_path / "config.yaml"):
        run("train", path, "--order", 1, "-o", tmp_path / "lm.arpa", "--normalize", rules, "--overwrite")
        assert "note" not in capsys.readouterr().err
        assert NGram.load(tmp_path / "lm.arpa").words[3:] == ["ONE", "TWO"]
    run("perplexity", tmp_path / "lm.arpa", path, "--normalize", tmp_path)
    assert "OOVs:\t0\n" in capsys.readouterr().out


def test_a_model_that_states_no_unit_is_taken_for_one_of_words(tmp_path, capsys):
    write_arpa(estimate(["a b"], 1), tmp_path / "lm.arpa")
    text = (tmp_path / "lm.arpa").read_text().split("\n", 1)[1]
    (tmp_path / "lm.arpa").write_text(text)
    (tmp_path / "text").write_text("a b\n")
    assert run("perplexity", tmp_path / "lm.arpa", tmp_path / "text") == 0
    assert "does not state its unit; word is assumed" in capsys.readouterr().err


def test_pruning_on_the_command_line(tmp_path):
    (tmp_path / "text").write_text("a b c\na b\n")
    run("train", tmp_path / "text", "--order", 3, "--prune", 0, 1, "-o", tmp_path / "lm.arpa")
    assert NGram.load(tmp_path / "lm.arpa").counts[1:] == (2, 1)


@pytest.mark.parametrize("command", ["perplexity", "info", "compile"])
def test_a_model_that_is_none(tmp_path, command):
    (tmp_path / "text").write_text("a b\n")
    more = {"perplexity": [tmp_path / "text"], "info": [], "compile": ["-o", tmp_path / "lm.bin"]}[command]
    with pytest.raises(AsrError, match="text"):
        run(command, tmp_path / "text", *more)
    with pytest.raises((AsrError, OSError), match="absent"):
        run(command, tmp_path / "absent", *more)


def test_normalize_without_what_reads_configurations(tmp_path, monkeypatch):
    """As where the decoder was installed alone: numpy and numba."""
    (tmp_path / "text").write_text("a b\n")
    (tmp_path / "conf.yaml").write_text("text:\n  case: lower\n")
    monkeypatch.setitem(sys.modules, "omegaconf", None)
    with pytest.raises(ConfigError, match="--normalize needs the package omegaconf: pip install omegaconf"):
        run("train", tmp_path / "text", "--order", 1, "-o", tmp_path / "x", "--normalize", tmp_path / "conf.yaml")
