"""The weights of a language model: the search, and what `asr tune` leaves in a run folder."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from asr import checkpoint
from asr.cli import main
from asr.commands import tune as command
from asr.config import DecodeConfig
from asr.decode import NGram
from asr.decoding import Decoder
from asr.emissions import read_emissions
from asr.errors import ConfigError
from asr.tune import ALPHA, BETA, Trial, at_the_end, search, tune
from asr.wer import Counts
from peaky import spelled, write_arpa, write_spelled
from tiny_run import RATE_HZ, error_line, read_once, save_run, write_noise

Capture = pytest.CaptureFixture[str]


def trial(alpha: float, beta: float, expected: float) -> Trial:
    return Trial(alpha, beta, expected, Counts(90, 3), Counts(900, 5))


# --- the search -------------------------------------------------------------------------------------------------------


def test_the_minimum_of_a_bowl_is_found_to_a_step_of_the_fine_grid() -> None:
    tried = []

    def measure(alpha: float, beta: float) -> Trial:
        tried.append((alpha, beta))
        return trial(alpha, beta, (alpha - 0.7) ** 2 + (beta - 2.25) ** 2)

    found = search(measure, (0.0, 3.2), (-2.0, 6.0))
    assert (found.chosen.alpha, found.chosen.beta) == (0.7, 2.25)
    assert len(tried) == len(set(tried)) == len(found.trials)
    assert [item.expected for item in found.trials] == sorted(item.expected for item in found.trials)
    assert {(0.0, -2.0), (3.2, 6.0)} < set(tried)  # both ends
    lines = found.render().splitlines()
    assert len(lines) == 12
    assert lines[1].split() == ["0.7", "2.25", "0.00", "3.23%", "3", "0.55%"]
    assert lines[-1] == "chosen: alpha 0.7, beta 2.25: 0.00 errors expected, WER 3.23% [3 / 93]"


def test_the_smaller_weights_where_as_many_errors_are_expected() -> None:
    found = search(lambda alpha, beta: trial(alpha, beta, 3.0), (0.4, 3.2), (-2.0, 6.0))
    assert (found.chosen.alpha, found.chosen.beta) == (0.4, -2.0)


def test_a_range_of_one_value_holds_a_weight() -> None:
    found = search(lambda alpha, beta: trial(alpha, beta, abs(alpha - 1)), (0.0, 3.2), (1.3, 1.3))
    assert (found.chosen.alpha, found.chosen.beta) == (1.0, 1.3)
    assert {item.beta for item in found.trials} == {1.3}
    assert not at_the_end(1.3, (1.3, 1.3))


@pytest.mark.parametrize("limits", [(1 / 3, 2 / 3), (0.123456789123, 0.123456789123)])
def test_the_ends_of_a_range_are_tried_whatever_their_decimals(limits: tuple[float, float]) -> None:
    found = search(lambda alpha, beta: trial(alpha, beta, 1 - alpha), limits, (0.0, 0.0))
    tried = {item.alpha for item in found.trials}
    assert (min(tried), max(tried)) == limits
    assert found.chosen.alpha == limits[1]


def test_the_command_searches_what_the_library_does() -> None:
    assert (command.ALPHA, command.BETA) == (ALPHA, BETA)


def test_ends() -> None:
    found = search(lambda alpha, beta: trial(alpha, beta, 4 - alpha), (0.3, 2.0), (0.0, 1.0))
    assert at_the_end(found.chosen.alpha, (0.3, 2.0))
    with pytest.raises(ConfigError, match=r"beta: the range must be LOW HIGH with LOW <= HIGH, found 2 1"):
        search(lambda alpha, beta: trial(alpha, beta, 0), (0.0, 1.0), (2.0, 1.0))


def test_on_log_probabilities(tmp_path: Path) -> None:
    """Greedy confuses a and c; a language model that is believed too much writes "ab" everywhere."""
    rows = {
        "u0": spelled("ab", instead={0: "c"}),
        "u1": spelled("cb", instead={0: "a"}),
        "u2": spelled("cb", peak=0.99),
    }
    path = write_spelled(tmp_path / "e.npz", rows, {"u0": "ab", "u1": "ab", "u2": "cb"})
    lm = write_arpa(tmp_path / "lm.arpa", [(-0.5, "ab"), (-2.5, "cb")])
    decoder = Decoder(DecodeConfig(decoder="beam", lm=str(lm)), read_emissions(path).vocabulary)
    found = tune(read_emissions(path), decoder, (0.0, 3.2), (0.0, 0.0))
    assert found.chosen.words.errors == 0
    by_alpha = {item.alpha: item.words.errors for item in found.trials}
    assert (by_alpha[0.0], by_alpha[3.2]) == (1, 1)


def test_errors_are_expected_over_all_hypotheses(tmp_path: Path) -> None:
    rows = {"u0": spelled("ab", peak=0.7), "u1": spelled("cb", peak=0.6), "silent": spelled("a", peak=0.9)}
    path = write_spelled(tmp_path / "e.npz", rows, {"u0": "ab", "u1": "ab", "silent": ""})
    lm = write_arpa(tmp_path / "lm.arpa", [(-0.5, "ab"), (-0.6, "cb")])
    emissions = read_emissions(path)
    decoder = Decoder(DecodeConfig(decoder="beam", lm=str(lm)), emissions.vocabulary)
    found = tune(emissions, decoder, (0.0, 0.0), (0.0, 0.0)).chosen
    wanted = 0.0
    for name, reference in emissions.refs.items():
        hypotheses = decoder.with_weights(0.0, 0.0)([emissions.log_probs[name]], n_best=20)[0]
        assert len(hypotheses) > 2
        shares = np.exp([one.score for one in hypotheses])
        heard = [one.text.split() for one in hypotheses]
        wrong = [max(len(words), len(reference.split())) - words.count(reference) for words in heard]  # of one word
        wanted += float(shares @ wrong / shares.sum())
    assert found.expected == pytest.approx(wanted, rel=1e-9)
    assert found.words.errors == 2


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    write_noise(tmp_path / "a.wav", RATE_HZ)
    records = [{"id": f"u{n}", "audio_filepath": "a.wav", "duration": 1.0, "text": "ab cab"} for n in range(2)]
    path = tmp_path / "dev.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_tuning_makes_a_folder_that_needs_nothing_else(capsys: Capture, manifest: Path, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", f"data.dev={manifest}")
    lm = write_arpa(tmp_path / "lm.arpa", [(-1.0, "ab"), (-1.5, "cab")])
    lexicon = tmp_path / "my words"
    lexicon.write_text("ab\ncab\n")
    command = ["tune", str(run), "--lm", str(lm), "--lexicon", str(lexicon), "--alpha", "0", "1", "--beta", "-1", "-1"]
    assert main([*command, "--beam-size", "20"]) == 0
    out, err = capsys.readouterr()
    kept = run / "dev" / "emissions.npz"
    assert out.splitlines()[0].split() == ["alpha", "beta", "expected", "WER", "errors", "CER"]
    assert out.splitlines()[-1].startswith("chosen: alpha ")
    lines = err.splitlines()
    assert lines[:2] == [f"tuning on {manifest}", f"log-probabilities: computed, and kept in {kept}"]
    assert lines[-2] == f"{run}: config.yaml, lm.bin, lexicon.txt"
    assert lines[-1].startswith(f"{run} now decodes with: beam of 20, language model {run / 'lm.bin'} (alpha ")
    decode = checkpoint.load_config(run).decode
    assert (decode.decoder, decode.lm, decode.lexicon, decode.beam_size) == ("beam", "lm.bin", "lexicon.txt", 20)
    assert (decode.beta, 0 <= decode.alpha <= 1) == (-1.0, True)
    assert NGram.load(run / "lm.bin").words == NGram.load(lm).words

    # The folder elsewhere, and everything that it was made from gone.
    lm.unlink()
    lexicon.unlink()
    moved = Path(shutil.move(run, tmp_path / "moved"))
    assert main(["transcribe", str(tmp_path / "a.wav"), "--model", str(moved)]) == 0
    out, err = capsys.readouterr()
    assert set(out.rstrip("\n").split("\t")[1].split()) <= {"ab", "cab"}
    assert str(moved / "lm.bin") in err
    assert main(["tune", str(moved)]) == 0  # with its own language model and lexicon
    assert f"read from {moved / 'dev' / 'emissions.npz'}" in capsys.readouterr().err
    assert checkpoint.load_config(moved).decode.lexicon == "lexicon.txt"


def test_log_probabilities_are_computed_again_for_new_weights_other_references_or_other_audio(
    capsys: Capture, manifest: Path, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run")
    lm = write_arpa(tmp_path / "lm.arpa", [(-1.0, "ab"), (-1.5, "cab")])
    command = ["tune", str(run), "--lm", str(lm), "--manifest", str(manifest), "--alpha", "0", "0", "--beta", "0", "0"]
    kept = run / "dev" / "emissions.npz"

    def says() -> str:
        assert main(command) == 0
        return capsys.readouterr().err.splitlines()[1]

    computed, reused = (
        f"log-probabilities: computed, and kept in {kept}",
        f"log-probabilities: read from {kept}",
    )
    assert says() == computed
    assert says() == reused
    later = kept.stat().st_mtime + 10
    os.utime(run / checkpoint.WEIGHTS_FILE, (later, later))
    assert says() == computed
    os.utime(kept, (later, later))
    assert says() == reused
    manifest.write_text(manifest.read_text().replace("ab cab", "ab ab"))
    assert says() == computed
    write_noise(tmp_path / "a.wav", 2 * RATE_HZ)
    assert says() == computed
    shutil.copy(tmp_path / "a.wav", tmp_path / "b.wav")  # another manifest of this name, with the same texts
    manifest.write_text(manifest.read_text().replace("a.wav", "b.wav"))
    assert says() == computed


def test_emissions_of_others(capsys: Capture, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    lm = write_arpa(tmp_path / "lm.arpa", [(-1.0, "ab"), (-1.5, "cb")])
    path = write_spelled(tmp_path / "e.npz", {"u": spelled("ab", instead={0: "c"})}, {"u": "cb"})
    for highest, left_out in (("1", False), ("0", True)):
        assert main(["tune", str(run), "--lm", str(lm), "--emissions", str(path), "--alpha", "0", highest]) == 0
        said = capsys.readouterr().err
        assert said.startswith(f"tuning on {path}\n")
        assert ("note: alpha 0 leaves the language model out" in said) == left_out


def test_without_a_run_the_flags_of_asr_decode_are_printed(capsys: Capture, tmp_path: Path) -> None:
    lm = write_arpa(tmp_path / "lm.arpa", [(-0.5, "ab"), (-2.5, "cb")])
    path = write_spelled(tmp_path / "e.npz", {"u": spelled("cb", instead={0: "a"})}, {"u": "ab"})
    before = sorted(tmp_path.iterdir())
    assert main(["tune", "--emissions", str(path), "--lm", str(lm), "--beam-size", "20"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith(f"tuning on {path}\n")
    *_, chosen, flags = out.splitlines()
    _, alpha, _, beta = flags.split()
    assert chosen.startswith(f"chosen: alpha {alpha}, beta {beta}: ")
    assert sorted(tmp_path.iterdir()) == before
    for more, text in (([], "cb"), (["--lm", str(lm), *flags.split()], "ab")):
        assert main(["decode", str(path), *more]) == 0
        assert capsys.readouterr().out == f"u\t{text}\n"


def test_what_cannot_be_tuned_without_a_run(capsys: Capture, manifest: Path, tmp_path: Path) -> None:
    lm = write_arpa(tmp_path / "lm.arpa", [(-0.5, "ab")])
    path = write_spelled(tmp_path / "e.npz", {"u": spelled("ab")}, {"u": "ab"})
    for flags, message in (
        (["--lm", lm], "give RUN, a run folder, or --emissions FILE.npz, the log-probabilities of any model"),
        (["--lm", lm, "--manifest", manifest], "give RUN, a run folder, or --emissions FILE.npz, the log-prob"),
        (["--emissions", path], "no language model is named: give --lm FILE"),
        (["--emissions", path, "--lm", lm, "--estimate-priors"], "--estimate-priors needs RUN, where the priors are"),
        (["--emissions", path, "--lm", lm, "--alpha", "0", "11"], "decode.alpha must be in 0..10, found 11.0"),
    ):
        assert error_line(capsys, "tune", *flags).startswith(f"error: {message}")
    plain = write_spelled(tmp_path / "plain.npz", {"u": spelled("ab")})
    assert main(["tune", "--emissions", str(plain), "--lm", str(lm)]) == 2
    assert f"error: {plain}: the JSON beside it has no refs; tuning needs reference texts" in capsys.readouterr().err


def test_a_model_that_recognises_hardly_a_word_is_named(capsys: Capture, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    lm = write_arpa(tmp_path / "lm.arpa", [(-1.0, "ab"), (-1.5, "cb")])
    note = "note: hardly a word is recognised, so the weights mean little: the model comes first\n"
    for reference, told in (("ab", False), ("gh", True)):
        path = write_spelled(tmp_path / f"{reference}.npz", {"u": spelled("ab")}, {"u": reference})
        assert main(["tune", str(run), "--lm", str(lm), "--emissions", str(path)]) == 0
        assert (note in capsys.readouterr().err) == told


def test_files_of_others_in_the_run_folder_stay_as_they_are(capsys: Capture, tmp_path: Path) -> None:
    run, words = save_run(tmp_path / "run"), tmp_path / "words.txt"
    lm = write_arpa(tmp_path / "lm.arpa", [(-1.0, "ab"), (-1.5, "cb")])
    path = write_spelled(tmp_path / "e.npz", {"u": spelled("ab")}, {"u": "ab"})
    words.write_text("ab\ncb\n")
    command = ["tune", run, "--lm", lm, "--lexicon", words, "--estimate-priors", "--emissions", path]
    for name, key in (("lm.bin", "lm"), ("lexicon.txt", "lexicon"), ("priors.txt", "priors")):
        foreign = run / name
        foreign.write_text("mine")
        with read_once():
            line = error_line(capsys, *command)
        assert line == f"error: {foreign}: would be replaced, and the run's decode.{key} is not this file; move it"
        assert foreign.read_text() == "mine"
        foreign.unlink()
    for _ in range(2):  # what it wrote itself is made anew
        assert main(list(map(str, command))) == 0


def test_what_cannot_be_tuned(capsys: Capture, manifest: Path, tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    lm = write_arpa(tmp_path / "lm.arpa", [(-1.0, "ab"), (-1.5, "cab")])
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with read_once():
        assert error_line(capsys, "tune", run) == f"error: {run}: names no language model (decode.lm): give --lm FILE"
        line = error_line(capsys, "tune", run, "--lm", lm)
        assert line == f"error: {run}: was trained without data.dev: give --manifest DEV.jsonl"
        everything = save_run(tmp_path / "everything", "data.dev=none")
        line = error_line(capsys, "tune", everything, "--lm", lm)
        assert line == f"error: {everything}: was trained without data.dev: give --manifest DEV.jsonl"
        line = error_line(capsys, "tune", run, "--lm", lm, "--manifest", manifest, "--alpha", "-1", "1")
        assert line == "error: decode.alpha must be in 0..10, found -1.0"
        assert main(["tune", str(tmp_path / "none"), "--lm", str(lm)]) == 2
        assert "none: run folder is missing" in capsys.readouterr().err
    (tmp_path / "a.wav").unlink()
    assert main(["tune", str(run), "--lm", str(lm), "--manifest", str(manifest)]) == 2
    missing = f"error: 1 of 1 audio files are missing: utterance u0: {tmp_path / 'a.wav'}; paths in a manifest are "
    assert capsys.readouterr().err.splitlines()[1].startswith(missing)
    plain = write_spelled(tmp_path / "plain.npz", {"u": spelled("ab")})
    assert main(["tune", str(run), "--lm", str(lm), "--emissions", str(plain)]) == 2
    assert "the JSON beside it has no refs; tuning needs reference texts" in capsys.readouterr().err
    other = write_spelled(tmp_path / "other.npz", {"u": spelled("ab")}, {"u": "ab"})
    description = other.with_suffix(".json")
    description.write_text(description.read_text().replace('"h"', '"x"'))
    assert main(["tune", str(run), "--lm", str(lm), "--emissions", str(other)]) == 2
    assert f"{other}: its labels are not those of {run}" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
