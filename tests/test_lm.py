"""N-gram models: scores against the definition and KenLM, gzipped and binary files."""

import gzip
import os
import random
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decode import lm
from asr.decode.lm import UNITS, NGram, advance
from asr.errors import DecodeError
from oracles.ngram import SMALL_ARPA, BackoffModel


def written(folder: Path, content: str | bytes, name: str = "lm.arpa") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def same_scores(model: NGram, oracle: BackoffModel, sentence: list[str], *, bos: bool, eos: bool) -> None:
    found = model.full_scores(sentence, bos=bos, eos=eos)
    wanted = oracle.full_scores(sentence, bos=bos, eos=eos)
    assert [row[1:] for row in found] == [row[1:] for row in wanted]
    np.testing.assert_allclose([row[0] for row in found], [row[0] for row in wanted], rtol=1e-6, atol=1e-6)
    assert model.score(sentence, bos=bos, eos=eos) == pytest.approx(sum(row[0] for row in wanted), rel=1e-6, abs=1e-6)


def random_model(draw: random.Random, *, order: int, marks: bool, suffixes: bool) -> BackoffModel:
    """Some n-grams over three words, each with its context; with `suffixes` also with all that it ends with."""
    words = ["a", "b", "č", *(["<s>", "</s>"] if marks else [])]

    def value(low: float) -> float:
        return round(draw.uniform(low, 0.0), draw.randint(0, 7))

    ngrams = {(word,): (value(-3.0), value(-1.0)) for word in [*words, "<unk>"]}
    for _ in range(draw.randint(0, 25)):
        ngram = tuple(draw.choice([*words, "<unk>"]) for _ in range(draw.randint(2, max(2, order))))
        if order == 1 or "<s>" in ngram[1:] or "</s>" in ngram[:-1]:
            continue
        for start in range(len(ngram) if suffixes else 1):
            for end in range(start + 1, len(ngram) + 1):
                ngrams.setdefault(ngram[start:end], (value(-3.0), value(-1.0)))
    model = BackoffModel(ngrams)
    top = {ngram: (prob, 0.0) for ngram, (prob, _) in model.ngrams.items() if len(ngram) == model.order}
    return BackoffModel({**model.ngrams, **top})


@given(
    st.randoms(use_true_random=False),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(st.lists(st.sampled_from(["a", "b", "č", "<unk>", "never", "</s>", "<s>"]), max_size=8), max_size=4),
)
def test_scores_are_those_of_the_definition(
    tmp_path_factory: pytest.TempPathFactory,
    draw: random.Random,
    order: int,
    marks: bool,
    suffixes: bool,
    unknown: bool,
    sentences: list[list[str]],
) -> None:
    oracle = random_model(draw, order=order, marks=marks, suffixes=suffixes)
    if not unknown:  # then the file lists no n-gram with the unknown word
        oracle = BackoffModel({ngram: values for ngram, values in oracle.ngrams.items() if "<unk>" not in ngram})
    path = written(tmp_path_factory.getbasetemp(), oracle.write(unknown=unknown), "random.arpa")
    model = NGram.load(path)
    assert model.order == oracle.order
    assert sum(model.counts) == len(oracle.ngrams)
    model.save(path.with_suffix(".bin"))
    mapped = NGram.load(path.with_suffix(".bin"))
    for sentence in sentences:
        for bos in (False, True):
            same_scores(model, oracle, sentence, bos=bos, eos=True)
            same_scores(mapped, oracle, sentence, bos=bos, eos=False)


def test_the_oracle_reads_what_it_writes() -> None:
    oracle = BackoffModel.from_arpa(SMALL_ARPA)
    assert BackoffModel.from_arpa(oracle.write(unknown=True)).ngrams == oracle.ngrams
    assert oracle.log10_prob(("<s>", "a"), "b") == (-0.125, 3)


def test_the_state_after_a_pruned_suffix_is_the_longest_that_is_listed(tmp_path: Path) -> None:
    # `a b c` is listed and `b c` is not: what follows is `c`.
    oracle = BackoffModel(
        {
            ("a",): (-1.0, -0.5),
            ("b",): (-1.0, -0.25),
            ("c",): (-1.0, -0.125),
            ("a", "b"): (-0.5, -0.0625),
            ("c", "a"): (-0.375, -0.03125),
            ("a", "b", "c"): (-0.25, 0.0),
        }
    )
    model = NGram.load(written(tmp_path, oracle.write(unknown=False)))
    state, total = np.int32(model.begin_state), 0.0
    states = []
    for word in "a b c a".split():
        log10_prob, state = advance(model.arrays, np.int32(state), np.int32(model.word_id(word)))
        total += log10_prob
        states.append(state)
    assert states == [1, 4, 3, 5]  # a; a b; c; c a: unigrams are entries 0 to 3, <unk> the first
    assert total == -1.0 + -0.5 + -0.25 + -0.375


def test_attributes(tmp_path: Path) -> None:
    model = NGram.load(written(tmp_path, SMALL_ARPA))
    assert (model.order, model.counts) == (3, (5, 3, 2))
    assert model.words == ["<unk>", "<s>", "</s>", "a", "b"]
    assert [model.word_id(word) for word in ["b", "c", "<unk>", ""]] == [4, 0, 0, 0]
    assert (model.bos_id, model.eos_id, model.begin_state) == (1, 2, 1)
    assert model.score([]) == pytest.approx(-0.5 - 0.75)
    assert model.score([], bos=False, eos=False) == 0.0
    with pytest.raises(DecodeError, match="wanted a list of words, found the text 'a b'"):
        model.score("a b")


@pytest.mark.parametrize("name", ["<unk>", "<UNK>"])
def test_the_unknown_word_comes_first_wherever_the_file_has_it(tmp_path: Path, name: str) -> None:
    lines = SMALL_ARPA.splitlines()
    lines.insert(9, lines.pop(6).replace("<unk>", name))
    model = NGram.load(written(tmp_path, "\n".join(lines)))
    assert model.words == [name, "<s>", "</s>", "a", "b"]
    assert model.counts == (5, 3, 2)
    assert model.full_scores(["zzz"], bos=False, eos=False) == [(-1.5, 1, True)]


def test_unk_in_both_cases_is_an_ordinary_word(tmp_path: Path) -> None:
    model = NGram.load(written(tmp_path, SMALL_ARPA.replace("\tb", "\t<Unk>").replace(" b", " <Unk>")))
    assert model.words == ["<unk>", "<s>", "</s>", "a", "<Unk>"]
    assert model.score(["a", "<Unk>"]) == NGram.load(written(tmp_path, SMALL_ARPA)).score(["a", "b"])


def test_a_binary_file_is_what_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another may take its name before it is mapped."""
    small = NGram.load(written(tmp_path, SMALL_ARPA))
    other = NGram.load(written(tmp_path, SMALL_ARPA.replace("\tb", "\tbb").replace(" b", " bb")))
    path, later = tmp_path / "lm.bin", tmp_path / "later.bin"
    small.save(path)
    other.save(later)
    places = lm._places
    monkeypatch.setattr(lm, "_places", lambda *sizes: (later.replace(path), places(*sizes))[1])
    assert NGram.load(path).words == small.words


def test_a_file_without_unknown_word_gets_one(tmp_path: Path) -> None:
    model = NGram.load(written(tmp_path, SMALL_ARPA.replace("-1.5\t<unk>\n", "").replace("1=5", "1=4")))
    assert model.words == ["<unk>", "<s>", "</s>", "a", "b"]
    assert model.counts == (5, 3, 2)
    assert model.full_scores(["zzz"], bos=False, eos=False) == [(-100.0, 1, True)]
    assert model.score(["a", "b"]) == pytest.approx(-0.25 - 0.125 - 0.2)


def test_a_model_without_sentence_marks(tmp_path: Path) -> None:
    text = "\\data\\\nngram 1=2\nngram 2=1\n\n\\1-grams:\n-1 x -0.5\n-0.5 y\n\n\\2-grams:\n-0.25 x y\n\\end\\\n"
    model = NGram.load(written(tmp_path, text))
    assert (model.bos_id, model.eos_id, model.begin_state) == (-1, -1, -1)
    assert model.score(["x", "y"]) == model.score(["x", "y"], bos=False, eos=False) == -1.25


def test_a_model_of_single_words(tmp_path: Path) -> None:
    model = NGram.load(written(tmp_path, "\\data\\\nngram 1=2\n\n\\1-grams:\n-1 <s>\n-0.5 y\n\\end\\\n"))
    assert (model.order, model.counts, model.begin_state) == (1, (3,), -1)
    assert model.full_scores(["y", "z"]) == [(-0.5, 1, False), (-100.0, 1, True)]


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    packed = gzip.compress(SMALL_ARPA.encode())
    assert NGram.load(written(tmp_path, packed, "lm.arpa")).counts == (5, 3, 2)
    assert NGram.load(written(tmp_path, SMALL_ARPA, "lm.arpa.gz")).counts == (5, 3, 2)
    for damaged in (packed[:-20], packed[:5], packed[:20] + b"\0\0\0" + packed[23:], packed + b"more"):
        with pytest.raises(DecodeError, match="the gzip data are truncated or damaged"):
            NGram.load(written(tmp_path, damaged))
    with pytest.raises(DecodeError, match="is empty"):
        NGram.load(written(tmp_path, gzip.compress(b"")))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"none.arpa: cannot be read: No such file"):
        NGram.load(tmp_path / "none.arpa")
    with pytest.raises(DecodeError, match="cannot be read: Is a directory"):
        NGram.load(tmp_path)


def test_a_saved_model_is_the_same_model(tmp_path: Path) -> None:
    model = NGram.load(written(tmp_path, SMALL_ARPA))
    path = tmp_path / "folder" / "lm.bin"
    model.save(path)
    mapped = NGram.load(path)
    assert (mapped.counts, mapped.words) == (model.counts, model.words)
    assert (mapped.bos_id, mapped.eos_id, mapped.begin_state, mapped.unit) == (1, 2, 1, None)
    for ours, theirs in zip(mapped.arrays, model.arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        # Kernels are compiled for one type of array only.
        assert (ours.dtype, type(ours), ours.flags.writeable) == (theirs.dtype, np.ndarray, theirs.flags.writeable)
        assert ours.flags.aligned
    mapped.save(path)  # onto the file that is mapped
    assert NGram.load(path).score(["a", "b"]) == mapped.score(["a", "b"]) == model.score(["a", "b"])
    assert os.listdir(path.parent) == ["lm.bin"]


@pytest.mark.parametrize("unit", UNITS)
def test_a_saved_model_keeps_its_unit(tmp_path: Path, unit: str) -> None:
    NGram.load(written(tmp_path, f"# asr unit={unit}\n{SMALL_ARPA}")).save(tmp_path / "lm.bin")
    assert NGram.load(tmp_path / "lm.bin").unit == unit


def test_a_mapped_model_is_never_written_to(tmp_path: Path) -> None:
    NGram.load(written(tmp_path, SMALL_ARPA)).save(tmp_path / "lm.bin")
    before = (tmp_path / "lm.bin").read_bytes()
    NGram.load(tmp_path / "lm.bin").arrays.unigrams[:] = 0.0
    assert (tmp_path / "lm.bin").read_bytes() == before


def test_damaged_binaries(tmp_path: Path) -> None:
    path = tmp_path / "lm.bin"
    NGram.load(written(tmp_path, SMALL_ARPA)).save(path)
    whole = path.read_bytes()
    for content, message in (
        (whole[:-1], rf"lm.bin: has {len(whole) - 1} bytes, wanted {len(whole)}: is it truncated\?"),
        (whole + b"\0", rf"lm.bin: has {len(whole) + 1} bytes, wanted {len(whole)}"),
        (whole[:20], r"lm.bin: has 20 bytes and ends within its header: is it truncated\?"),
        (
            whole[:16] + struct.pack("<I", 1) + whole[20:],
            r"lm.bin: is a binary model of version 1, wanted version 3: compile it again .* \(`asr lm compile`\)$",
        ),
        (whole[:20] + struct.pack("<I", 2**32 - 1) + whole[24:], "ends within its header"),
        (whole[:20] + struct.pack("<I", 0) + whole[24:], "order 0, wanted at least 1"),
        (whole[:56] + struct.pack("<q", 2**60) + whole[64:], "the header does not match its checksum"),
    ):
        with pytest.raises(DecodeError, match=message):
            NGram.load(written(tmp_path, content, "lm.bin"))


def test_a_flipped_bit_is_found_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "lm.bin"
    NGram.load(written(tmp_path, f"# asr unit=char\n{SMALL_ARPA}")).save(path)
    whole = path.read_bytes()
    for place in range(16, len(whole), 3):  # behind the magic: without it the file is no model at all
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(DecodeError, match=r"lm\.bin: (is damaged|is a binary model of version|has )"):
            NGram.load(written(tmp_path, bytes(damaged), "lm.bin"))


def test_a_binary_that_was_made_to_mislead(tmp_path: Path) -> None:
    """Checksums that fit are no reason to trust an index."""
    path = tmp_path / "lm.bin"
    model = NGram.load(written(tmp_path, SMALL_ARPA))
    table = model.arrays.table.copy()
    table["value"][table["value"] >= 0] = 1 << 20
    replace(model, arrays=model.arrays._replace(table=table)).save(path)
    with pytest.raises(DecodeError, match="its arrays point outside the model"):
        NGram.load(path)
    states = model.arrays.states.copy()
    states["backoff"][1] = np.inf  # of which no search would come back
    replace(model, arrays=model.arrays._replace(states=states)).save(path)
    with pytest.raises(DecodeError, match="or hold values that are no probabilities"):
        NGram.load(path)
    model.save(path)
    whole = path.read_bytes()
    end = 64 + 8 * model.order  # of the header, its checksum behind it
    header = whole[: end - 8] + struct.pack("<q", -1)
    written(tmp_path, header + struct.pack("<I", zlib.crc32(header)) + whole[end + 4 :], "lm.bin")
    with pytest.raises(DecodeError, match="is damaged: a size below 0 in"):
        NGram.load(path)
    header = whole[:56] + struct.pack("<I", 4) + whole[60:88]  # the unit
    written(tmp_path, header + struct.pack("<I", zlib.crc32(header)) + whole[92:], "lm.bin")
    with pytest.raises(DecodeError, match="is damaged: unit 4, wanted 0 to 3"):
        NGram.load(path)


def shared_lm(folder: Path, name: str) -> Path:
    path = folder.parent / "lm" / name
    if not path.is_file():
        pytest.skip(f"no file {path}")
    return path


def sentences_of(folder: Path, count: int, *, split: bool) -> list[list[str]]:
    """Sentences of running text, every seventh word of which is made unknown."""
    lines = gzip.decompress(shared_lm(folder, "text.txt.gz").read_bytes()).decode().splitlines()
    draw = random.Random(0)
    sentences = []
    for line in draw.sample(lines, count):
        words = line.split()
        if split:
            words = list("|".join(words))
        sentences.append([word if draw.randrange(7) else "?" * draw.randint(1, 3) for word in words])
    return sentences


@pytest.mark.parametrize("name", ["word3.lmplz.arpa.gz", "char6.lmplz.arpa.gz", "an4_word3.lmplz.arpa.gz"])
@pytest.mark.slow
def test_scores_of_real_models(shared_data: Path, name: str) -> None:
    path = shared_lm(shared_data, name)
    model = NGram.load(path)
    oracle = BackoffModel.from_arpa(gzip.decompress(path.read_bytes()).decode())
    for sentence in sentences_of(shared_data, 50 if "char" in name else 300, split="char" in name):
        same_scores(model, oracle, sentence, bos=True, eos=True)


def kenlm_model(path: Path):  # type: ignore[no-untyped-def]
    kenlm = pytest.importorskip("kenlm", reason="KenLM's Python module is not installed")
    return kenlm.Model(str(path))


@pytest.mark.parametrize("name", ["word3.lmplz.arpa.gz", "char6.lmplz.arpa.gz"])
@pytest.mark.slow
def test_scores_are_those_of_kenlm(shared_data: Path, tmp_path: Path, name: str) -> None:
    arpa = written(tmp_path, gzip.decompress(shared_lm(shared_data, name).read_bytes()))
    theirs, ours = kenlm_model(arpa), NGram.load(arpa)
    assert theirs.order == ours.order
    for sentence in sentences_of(shared_data, 500 if "char" in name else 5000, split="char" in name):
        for marks in ((True, True), (False, False)):
            bos, eos = marks
            wanted = list(theirs.full_scores(" ".join(sentence), bos=bos, eos=eos))
            found = ours.full_scores(sentence, bos=bos, eos=eos)
            assert [row[1:] for row in found] == [row[1:] for row in wanted]
            np.testing.assert_allclose([row[0] for row in found], [row[0] for row in wanted], atol=1e-5, rtol=0)
            score = theirs.score(" ".join(sentence), bos=bos, eos=eos)
            assert ours.score(sentence, bos=bos, eos=eos) == pytest.approx(score, rel=1e-6, abs=1e-5)


def test_kenlm_skips_the_line_that_states_the_unit(tmp_path: Path) -> None:
    path = written(tmp_path, f"# asr unit=word order=3\n{SMALL_ARPA}")
    assert kenlm_model(path).score("a b") == pytest.approx(NGram.load(path).score(["a", "b"]), abs=1e-6)


def pruned(model: BackoffModel, draw: random.Random) -> BackoffModel:
    """Without some n-gram that begins no other, though another ends with it."""
    begins = {ngram[:-1] for ngram in model.ngrams}
    ends = {ngram[1:] for ngram in model.ngrams if len(ngram) > 2}
    spare = sorted(ends - begins)
    gone = draw.choice(spare) if spare else ()
    return BackoffModel({ngram: values for ngram, values in model.ngrams.items() if ngram != gone})


def test_scores_of_pruned_models_are_those_of_kenlm(tmp_path: Path) -> None:
    compared = 0
    for seed in range(100):
        draw = random.Random(seed)
        whole = random_model(draw, order=draw.randint(3, 5), marks=True, suffixes=True)
        oracle = pruned(whole, draw)
        if len(oracle.ngrams) == len(whole.ngrams):
            continue
        path = written(tmp_path, oracle.write(unknown=True), f"{seed}.arpa")
        try:
            theirs = kenlm_model(path)
        except OSError as error:
            if "Avoid pruning" not in str(error):  # KenLM's table has no room for what is missing
                raise
            continue
        ours = NGram.load(path)
        compared += 1
        for _ in range(20):
            sentence = draw.choices(["a", "b", "č", "never"], k=draw.randint(0, 8))
            wanted = [row[0] for row in theirs.full_scores(" ".join(sentence))]
            found = [row[0] for row in ours.full_scores(sentence)]
            np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)
    assert compared > 20
