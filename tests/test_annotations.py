"""Recordings with TextGrids and ELAN's files: which utterances they become, and whose."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from annotated import GRID, SAID, Spoken, about, alignable, elan, put, text_grid, tier
from asr.corpora import prepare
from asr.corpora.tiers import read_tiers
from asr.decode import Word
from asr.errors import CorpusError
from asr.manifest import Utterance, read_manifest
from asr.transcript import Dialogue
from asr.writers import render
from calls import write_call
from fake_corpora import audio, texts
from recognised import transcript
from tiny_run import save_run, succeed, write_audio


def prepared(source: Path, **options: str | bool) -> list[Utterance]:
    """The utterances of a folder, none held out."""
    prepare("annotations", source=source, out=source.parent / "out", dev_share=0, **options)
    return read_manifest(source.parent / "out" / "train.jsonl")


def test_every_interval_with_text_becomes_an_utterance(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    talk = audio(source / "a.wav", 2.0)
    audio(source / "b.flac", 2.0)
    put(source / "a.TextGrid", text_grid(("Ann", [(0, 0.5, ""), (0.5, 1, "yes")]), ("Bob", [(0.75, 2, "no [no]")])))
    put(source / "b.eaf", elan(tier('TIER_ID="sentences"', alignable("a1", "ts3", "ts4", "so"))))
    ann, bob, unknown = prepared(source)
    assert (ann.id, ann.offset, ann.duration, ann.text, ann.speaker) == ("a-Ann-0002", 0.5, 0.5, "yes", "Ann")
    assert (bob.id, bob.offset, bob.duration, bob.text, bob.speaker) == ("a-Bob-0001", 0.75, 1.25, "no [no]", "Bob")
    assert ann.audio_filepath.resolve() == talk
    assert (unknown.id, unknown.offset, unknown.text, unknown.speaker) == ("b-sentences-0001", 1.0, "so", None)
    put(source / "b.eaf", elan(tier('TIER_ID="s" PARTICIPANT="Cleo"', alignable("a1", "ts3", "ts4", "so"))))
    assert prepared(source)[2].speaker == "Cleo"


def test_what_is_left_out_or_unusual_is_noted(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 1.75)
    audio(source / "b.wav", 2.0)
    put(source / "a.TextGrid", text_grid(("a", [(0, 0.5, "..."), (0.5, 1, "(yes)"), (1, 2, "Bo: so")])))
    put(source / "b.TextGrid", text_grid(("a", [(0, 2, "")])))
    summary = prepare("annotations", source=source, out=tmp_path / "out", dev_share=0)
    assert texts(tmp_path / "out" / "train.jsonl") == {"a-a-0002": "(yes)", "a-a-0003": "Bo: so"}
    assert set(summary.notes) == {
        "annotations by tier: a 3",
        "annotation files with one tier, which names a speaker only with speakers=tier: 2 "
        f"({source / 'a.TextGrid'}, {source / 'b.TextGrid'})",
        "annotations without words left out: 1 (a-a-0001)",
        "annotations with brackets, whose content is taken for words: 1 (a-a-0002)",
        "annotations cut to the end of the audio: 1 (a-a-0003)",
        f"annotation files without text: 1 ({source / 'b.TextGrid'})",
    }


@pytest.mark.parametrize(("start_s", "end_s"), [(1, 2.6), (2, 2.1), (-0.5, 1)])
def test_an_interval_beyond_the_audio(tmp_path: Path, start_s: float, end_s: float) -> None:
    audio(tmp_path / "talks" / "a.wav", 2.0)
    put(tmp_path / "talks" / "a.TextGrid", text_grid(("a", [(start_s, end_s, "yes")])))
    with pytest.raises(CorpusError, match=r"a\.TextGrid:17: .* s is not inside .*a\.wav, which is 2\.000 s long$"):
        prepared(tmp_path / "talks")


SENTENCES = ("sentences", [(0.0, 1.0, "Yes, no!"), (1.0, 1.9, "So.")])


@pytest.mark.parametrize(
    ("fine", "whole"),
    [
        (("tokens", [(0.1, 0.3, "yes"), (0.4, 0.6, "no"), (0.98, 1.2, "so")]), SENTENCES),
        (("sounds", [(0, 0.4, "j"), (0.4, 1, "\u0283"), (1, 1.4, "ts")]), ("words", [(0, 1, "she"), (1, 1.4, "z")])),
        (("German", [(0, 0.5, "Ja, nein!"), (1, 1.9, "Also.")]), SENTENCES),
    ],
)
def test_a_tier_that_divides_another(tmp_path: Path, fine: tuple[str, list[Spoken]], whole: tuple[str, list]) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 2.0)
    for tiers in ((fine, whole), (whole, fine)):
        path = put(source / "a.TextGrid", text_grid(*tiers))
        message = rf"{path}: tier '{fine[0]}' divides tier '{whole[0]}': .* such as tiers={whole[0]}$"
        with pytest.raises(CorpusError, match=message):
            prepared(source)
        assert {utterance.speaker for utterance in prepared(source, tiers=whole[0])} == {None}
        assert len(prepared(source, tiers=f"{fine[0]}, {whole[0]}")) == len(fine[1]) + len(whole[1])


def test_of_a_sentence_and_its_translation_none_is_advised(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav", 2.0)
    put(tmp_path / "a.TextGrid", text_grid(SENTENCES, ("German", [(0, 1, "Ja, nein!"), (1, 1.9, "Also.")])))
    with pytest.raises(CorpusError, match=r"all would be heard twice; choose with tiers=NAME,NAME$"):
        prepared(tmp_path)


def test_speakers_who_interrupt_each_other_do_not_divide(tmp_path: Path) -> None:
    audio(tmp_path / "talks" / "a.wav", 2.0)
    ann, bob = [(0.0, 1.0, "I say"), (1.0, 1.9, "so")], [(0.2, 0.5, "mm"), (1.2, 1.4, "yes")]
    put(tmp_path / "talks" / "a.TextGrid", text_grid(("Ann", ann), ("Bob", bob)))
    assert len(prepared(tmp_path / "talks")) == 4


def test_tiers_are_chosen(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 2.0)
    sentences = tier('TIER_ID="s"', alignable("a1", "ts1", "ts2", "yes no"))
    words = tier('TIER_ID="w" PARENT_REF="s"', about("a2", "a1", "yes"), about("a3", "a1", "no", "a2"))
    path = put(source / "a.eaf", elan(sentences, words, tier('TIER_ID="t" PARENT_REF="s"', about("a4", "a1", "ja"))))
    assert [utterance.id for utterance in prepared(source)] == ["a-s-0001"]
    assert [(found.text, found.offset, found.duration) for found in prepared(source, tiers="t")] == [("ja", 0.1, 0.8)]
    message = f"{path}: tier 'w' has annotations whose time is not stated: 2 (a2, a3)"
    with pytest.raises(CorpusError, match=rf"^{re.escape(message)}$"):
        prepared(source, tiers="w")
    with pytest.raises(CorpusError, match=r"^tiers: no file has an interval tier 'x'; there are 's', 'w', 't'$"):
        prepared(source, tiers="s,x")
    audio(source / "b.wav", 2.0)
    put(source / "b.TextGrid", text_grid(("u", SAID)))
    with pytest.raises(CorpusError, match=r"annotation files without a tier of these names: 1 \(.*b\.TextGrid\) \("):
        prepared(source, tiers="s")
    assert len(prepared(source, tiers="s", allow_partial=True)) == 1
    notes = prepare("annotations", source=source, out=tmp_path / "b", allow_partial=True, dev_share=0, tiers="s").notes
    assert "annotations in tiers that were not named: u 2" in notes
    put(source / "b.TextGrid", text_grid(("u", SAID), ("u", SAID)))
    with pytest.raises(CorpusError, match=r"b\.TextGrid: two tiers are called 'u'; rename one$"):
        prepared(source)


def test_files_without_a_partner(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "b.wav")
    with pytest.raises(CorpusError, match=r"talks: found no audio file with NAME\.TextGrid or NAME\.eaf beside it$"):
        prepared(source)
    audio(source / "a.wav", 2.0)
    put(source / "a#0.TextGrid", GRID)
    with pytest.raises(CorpusError, match=r"^annotations from .*: audio files without annotations: 1 \("):
        prepared(source)
    found = prepared(source, allow_partial=True)
    assert [(utterance.id, utterance.channel) for utterance in found] == [("a#0-a-0001", 0), ("a#0-a-0002", 0)]
    put(source / "a.eaf", elan())
    with pytest.raises(CorpusError, match=r"a\.eaf and .*a#0\.TextGrid are both annotations of .*a\.wav"):
        prepared(source)


WORDS = [Word('R"B', 0.5, 0.7, 1.0), Word("<i>", 0.8, 0.9, 1.0), Word("so", 3.0, 3.2, 1.0)]


def test_a_corrected_transcript_is_training_data(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 4.0)
    path = put(source / "a.TextGrid", render(transcript(WORDS, 4.0), "textgrid"))
    assert [[interval.text for interval in tier.intervals] for tier in read_tiers(path)] == [
        ['R"B <i>', "so"],
        ['R"B', "<i>", "so"],
    ]
    path.write_text(path.read_text().replace('"R""B <i>"', '"R and B"'))
    made = prepare("annotations", source=source, out=tmp_path / "data", dev_share=0)
    found = read_manifest(tmp_path / "data" / "train.jsonl")
    assert [(each.id, each.text, each.speaker, each.channel) for each in found] == [
        ("a-0002", "R and B", None, None),
        ("a-0004", "so", None, None),
    ]
    assert (found[0].offset, found[0].duration) == (0.2, 1.0)
    assert made.notes[:2] == (
        "annotations by tier: segments 2",
        f"annotation files with words below what was said, which are not read: 1 ({path})",
    )
    assert [each.text for each in prepared(source, tiers="words")] == ['R"B', "<i>", "so"]
    # Corrected in the wrong tier, or not at all: nothing was.
    put(source / "b.TextGrid", render(transcript(WORDS, 4.0), "textgrid"))
    audio(source / "b.wav", 4.0)
    notes = prepare("annotations", source=source, out=tmp_path / "data", dev_share=0).notes
    untouched = "annotation files that say only what their words say, perhaps not corrected"
    assert f"{untouched}: 1 ({source / 'b.TextGrid'})" in notes
    put(source / "b.TextGrid", render(transcript(WORDS, 4.0), "textgrid").replace('"so"', '""', 1))
    notes = prepare("annotations", source=source, out=tmp_path / "data", dev_share=0).notes
    assert not [note for note in notes if note.startswith(untouched)]  # one of them was cleared
    for name in ("b.TextGrid", "b.wav"):
        (source / name).unlink()

    # The segments of whoever knows the speaker; words that are no part of what is said; those of sounds.
    put(path, render(transcript(WORDS, 4.0), "textgrid").replace('"segments"', '"Ann"'))
    assert [(each.text, each.speaker) for each in prepared(source, speakers="tier")] == [
        ('R"B <i>', "Ann"),
        ("so", "Ann"),
    ]
    put(path, text_grid(("words", [(0.2, 0.9, "yes no"), (1, 1.9, "perhaps")]), ("turns", [(0, 2, "A")])))
    with pytest.raises(CorpusError, match=r"tier 'words' divides tier 'turns'"):
        prepared(source)
    sounds = [(0.2, 0.4, "j"), (0.4, 0.7, "\u025b"), (0.7, 0.9, "s")]
    put(path, text_grid(("words", [(0.2, 0.9, "yes")]), ("segments", sounds)))
    with pytest.raises(CorpusError, match=r"tier 'segments' divides tier 'words': .* such as tiers=words$"):
        prepared(source)
    # Words that stand beside other tiers are a speaker's, as are all of an unknown name.
    put(path, text_grid(("words", [(0, 1, "yes")]), ("Ann", [(0.5, 2, "no")])))
    assert [each.speaker for each in prepared(source)] == ["words", "Ann"]


def test_the_sides_of_a_corrected_dialogue_are_told_apart(tmp_path: Path) -> None:
    source = tmp_path / "calls"
    source.mkdir()
    write_call(source / "a.wav", channels=2, duration_s=4.0)
    sides = [replace(transcript(WORDS, 4.0), channel=channel) for channel in (0, 1)]
    path = put(source / "a.TextGrid", render(Dialogue(tuple(sides)), "textgrid"))
    made = prepare("annotations", source=source, out=tmp_path / "data", dev_share=0)
    found = read_manifest(tmp_path / "data" / "train.jsonl")
    assert [(each.id, each.speaker, each.channel) for each in found] == [
        ("a#0-0002", None, 0),
        ("a#1-0002", None, 1),
        ("a#0-0004", None, 0),
        ("a#1-0004", None, 1),
    ]
    assert not [note for note in made.notes if "overlap" in note]

    put(path, path.read_text().replace('s #1"', 's #2"'))
    with pytest.raises(CorpusError, match=r"a\.TextGrid:[0-9]+: .*a\.wav: wanted channel 2, 0 being .* found 2"):
        prepared(source)
    odd = (("C#", None), ("C#", 0), ("Speaker #1", None), ("Speaker #1", 0))
    for speaker, channel in (("Ann", None), ("1", None), ("Bo", 1), *odd):
        side = replace(sides[0], speaker=speaker, channel=channel)
        for format, suffix in (("textgrid", "TextGrid"), ("eaf", "eaf")):
            path.unlink()
            path = put(path.with_suffix(f".{suffix}"), render(side, format))
            assert {(each.speaker, each.channel) for each in prepared(source)} == {(speaker, channel)}


def test_a_speaker_with_a_number_like_that_of_a_channel(tmp_path: Path) -> None:
    write_call(tmp_path / "a.wav", channels=2, duration_s=4.0)
    side = replace(transcript(WORDS, 4.0), speaker="spk#1")
    put(tmp_path / "a.TextGrid", render(side, "textgrid"))
    assert {(each.speaker, each.channel) for each in prepared(tmp_path)} == {("spk #1", None)}
    (tmp_path / "a.TextGrid").unlink()
    put(tmp_path / "a.eaf", render(side, "eaf"))
    assert {(each.speaker, each.channel) for each in prepared(tmp_path)} == {("spk#1", None)}


def test_the_transcript_of_a_single_word(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav", 0.5)
    put(tmp_path / "a.TextGrid", render(transcript([Word("so", 0.0, 0.5, 1.0)], 0.5), "textgrid"))
    assert [each.text for each in prepared(tmp_path)] == ["so"]


def said_by(*tiers: tuple[str, list[Spoken]], folder: Path) -> list[tuple[str, str | None]]:
    audio(folder / "a.wav", 2.0)
    put(folder / "a.TextGrid", text_grid(*tiers))
    return [(each.text, each.speaker) for each in prepared(folder)]


def test_words_below_tiers_of_other_names(tmp_path: Path) -> None:
    words = ("words", [(0, 0.2, "yes"), (0.2, 0.4, "no"), (0.4, 0.7, "so"), (1, 1.2, "well"), (1.2, 1.5, "then")])
    ann, bo = ("Ann", [(0.0, 0.7, "Yes, now so.")]), ("Bo", [(1.0, 1.5, "Well then")])
    assert said_by(ann, bo, words, folder=tmp_path) == [("Yes, now so.", "Ann"), ("Well then", "Bo")]
    assert said_by(ann, words, folder=tmp_path) == [("Yes, now so.", None)]  # the rest was cleared
    for other in (
        ("English", [(0.0, 0.7, "Ja"), (1.0, 1.5, "Nun")]),
        ("kinds", [(start_s, end_s, "UH") for start_s, end_s, _ in words[1]]),
        ("lemmas", [(start_s, end_s, text) for start_s, end_s, text in words[1]]),
    ):
        with pytest.raises(CorpusError, match="all would be heard twice"):
            said_by(other, words, folder=tmp_path)
    sounds = [(start_s, start_s + 0.08, "a") for start_s in (0, 0.1, 0.2, 0.3, 0.45, 1, 1.1, 1.2, 1.3)]
    with pytest.raises(CorpusError, match="tier 'segments' divides tier 'words'"):
        said_by(("segments", sounds), words, folder=tmp_path)


def test_words_of_a_transcript_that_is_corrected_in_part_are_not_read(tmp_path: Path) -> None:
    source = tmp_path / "talks"
    audio(source / "a.wav", 4.0)
    text = render(transcript(WORDS, 4.0), "textgrid")
    path = put(source / "a.TextGrid", text.replace('"so"', '""', 1))
    assert [each.text for each in prepared(source)] == ['R"B <i>']
    put(path, text.replace('"segments"', '"segments Ann"').replace('"words"', '"words Ann"').replace('"so"', '""', 1))
    assert [(each.text, each.speaker) for each in prepared(source)] == [('R"B <i>', "Ann")]


def test_a_single_tier_is_the_speaker_where_that_is_said(tmp_path: Path) -> None:
    for name in ("a", "b"):
        audio(tmp_path / f"{name}.wav", 2.0)
        put(tmp_path / f"{name}.TextGrid", text_grid((f"speaker of {name}", SAID)))
    assert {each.speaker for each in prepared(tmp_path)} == {None}
    assert {each.speaker for each in prepared(tmp_path, speakers="tier")} == {"speaker of a", "speaker of b"}
    with pytest.raises(CorpusError, match=r"^speakers must be tier, or not given, found 'file'$"):
        prepared(tmp_path, speakers="file")


def test_from_a_partial_transcript_to_the_times_of_its_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = tmp_path / "talks"
    source.mkdir()
    write_audio(source / "a.wav", 2.0)
    put(source / "a.TextGrid", text_grid(("sentences", [(0, 0.5, ""), (0.5, 1.5, "Bad cab"), (1.5, 2, "")])))
    succeed(capsys, "prepare", "annotations", "--source", source, "--out", tmp_path / "data", "--dev-share", 0)
    run = save_run(tmp_path / "run")
    manifest, out = tmp_path / "data" / "train.jsonl", tmp_path / "aligned"
    succeed(capsys, "align", manifest, "--model", run, "--format", "textgrid", "--out", out)
    segments, words = read_tiers(out / "a-sentences-0002.TextGrid")
    assert [interval.text for interval in words.intervals] == ["Bad", "cab"]
    assert 0 <= words.intervals[0].start_s < words.intervals[-1].end_s <= 1
    assert " ".join(interval.text for interval in segments.intervals) == "Bad cab"
    assert json.loads(manifest.read_text())["offset"] == 0.5
