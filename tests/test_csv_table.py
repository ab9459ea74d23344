"""Your own recordings in CSV files: what is read of a table, and errors that name its lines."""

import re
from pathlib import Path

import pytest

from asr.corpora import prepare
from asr.errors import CorpusError
from asr.manifest import read_manifest
from fake_corpora import audio, texts, write


def test_csv(tmp_path: Path) -> None:
    for name in ("a.wav", "sub/a.wav"):
        audio(tmp_path / name)
    table = write(tmp_path / "my.csv", "audio,text,speaker", 'a.wav,"Yes, please",ann', "sub/a.wav,no,")
    prepare("csv", source=table, out=tmp_path / "out", dev_share=0)
    first, second = read_manifest(tmp_path / "out" / "train.jsonl")
    assert (first.id, first.text, first.speaker, first.duration) == ("a", "Yes, please", "ann", 0.25)
    assert (second.id, second.text, second.speaker) == ("sub/a", "no", None)


def test_csv_folder_of_splits(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    audio(tmp_path / "b.wav")
    write(tmp_path / "train.csv", "text,audio", "yes,a.wav")
    write(tmp_path / "test.csv", "audio,text", "b.wav,no")
    summary = prepare("csv", source=tmp_path, out=tmp_path / "out", dev_share=0)
    assert list(summary.splits) == ["train", "test"]
    assert texts(tmp_path / "out" / "train.jsonl") == {"a": "yes"}
    write(tmp_path / "more.csv", "audio,text", "b.wav,no")
    with pytest.raises(CorpusError, match=r"more.csv: of several CSV files each must be named train.csv"):
        prepare("csv", source=tmp_path, out=tmp_path / "out")


def test_csv_suffix_in_capitals(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    write(tmp_path / "train.CSV", "audio,text", "a.wav,yes")
    (tmp_path / "._train.CSV").write_bytes(b"\0\5\x16\7")  # macOS
    assert prepare("csv", source=tmp_path, out=tmp_path / "out", dev_share=0).splits["train"].utterances == 1
    write(tmp_path / "train.csv", "audio,text", "a.wav,no")
    with pytest.raises(CorpusError, match=r"train\.csv: there is a train\.CSV as well"):
        prepare("csv", source=tmp_path, out=tmp_path / "out", dev_share=0)


def test_csv_columns_of_other_names_are_not_used_and_listed(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    source = write(tmp_path / "my.csv", "Text,gender,AUDIO,age,,age", "yes,f,a.wav,7,,7")
    summary = prepare("csv", source=source, out=tmp_path / "out", dev_share=0)
    assert summary.notes == ("my.csv: columns not used: 'gender', 'age'",)
    assert texts(tmp_path / "out" / "train.jsonl") == {"a": "yes"}


@pytest.mark.parametrize(
    ("column", "meant"),
    [("chanel", "channel"), ("offset_s", "offset"), ("Duration_s", "duration"), ("speakers", "speaker")],
)
def test_csv_columns_that_are_misspelled(tmp_path: Path, column: str, meant: str) -> None:
    """Whole recordings had the text of a segment."""
    audio(tmp_path / "a.wav")
    source = write(tmp_path / "my.csv", f"audio,text,{column}", "a.wav,yes,0")
    with pytest.raises(CorpusError, match=rf"my\.csv: unknown column '{column.lower()}'; did you mean '{meant}'\?$"):
        prepare("csv", source=source, out=tmp_path / "out")


def test_csv_invisible_characters_in_the_header(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    source = write(tmp_path / "my.csv", "\ufeff\ufeffaudio,text\u00a0,\u200bspeaker", "a.wav,yes,ann")
    assert prepare("csv", source=source, out=tmp_path / "out", dev_share=0).splits["train"].speakers == 1


@pytest.mark.parametrize(
    ("rows", "held"),
    [
        (["audio,text", 'a.wav,"yes', "b.wav,no", 'a.wav,no"'], "b.wav,no"),
        (["text,audio", '"yes,a.wav', 'oh, no",b.wav'], "yes,a.wav"),
        (["audio,text,note", "b.wav,yes,", 'a.wav,yes,"', 'b.wav,no,"'], "b.wav,no,"),
    ],
)
def test_csv_rows_inside_a_quotation(tmp_path: Path, rows: list[str], held: str) -> None:
    """A stray quotation mark made rows a part of a text."""
    for name in ("a.wav", "b.wav"):
        audio(tmp_path / name)
    source = write(tmp_path / "my.csv", *rows)
    line = next(number for number, row in enumerate(rows, start=1) if '"' in row)
    with pytest.raises(CorpusError, match=rf"my\.csv:{line}: the quotation that begins here holds the row '{held}'$"):
        prepare("csv", source=source, out=tmp_path / "out")


def test_csv_texts_of_several_lines(tmp_path: Path) -> None:
    for name in ("a.wav", "two\nlines.wav"):
        audio(tmp_path / name)
    rows = ["audio,text", 'a.wav,"Yes,', "", 'or ""a""', 'no"', '"two', 'lines.wav",no']
    prepare("csv", source=write(tmp_path / "my.csv", *rows), out=tmp_path / "out", dev_share=0)
    assert texts(tmp_path / "out" / "train.jsonl") == {"a": 'Yes,\nor "a"\nno', "two\nlines": "no"}


def test_csv_ids_that_only_a_suffix_would_tell_apart(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac"):
        audio(tmp_path / name)
    source = write(tmp_path / "my.csv", "audio,text", "a.wav,yes", "a.flac,no")
    with pytest.raises(CorpusError, match=r"'a' stands on line 2 already for a\.wav: an id is the path without its s"):
        prepare("csv", source=source, out=tmp_path / "out")


def test_csv_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    source = write(tmp_path / "my.csv", "audio,text,note,note,,", ",,,,,", "a.wav,yes,,,,", " ,,,,,", ",,")
    prepare("csv", source=source, out=tmp_path / "out", dev_share=0)
    assert texts(tmp_path / "out" / "train.jsonl") == {"a": "yes"}
    write(source, "audio,text,,", "a.wav,yes,,", ",,,", "b.wav,no,,")
    with pytest.raises(CorpusError, match=r"my\.csv:4: b\.wav: audio file"):
        prepare("csv", source=source, out=tmp_path / "out", dev_share=0)


@pytest.mark.parametrize(
    ("name", "separator", "comma", "encoding"),
    [
        ("my.csv", ";", ",", "utf-8-sig"),  # Excel where the decimal comma is usual
        ("my.csv", "\t", ".", "utf-16"),  # its "Unicode Text"
        ("my.tsv", "\t", ".", "utf-8"),
    ],
)
def test_csv_with_other_separators(tmp_path: Path, name: str, separator: str, comma: str, encoding: str) -> None:
    audio(tmp_path / "a.wav", 2.0)
    rows = ["audio,text,offset,duration", f"a.wav,'Yes, (a) {separator} b',0_5,1_25", "a.wav,'a, b,\nc',,"]
    table = "\r\n".join(rows).replace(",", separator).replace("'", '"').replace("_", comma)
    (tmp_path / name).write_bytes(table.encode(encoding))
    prepare("csv", source=tmp_path / name, out=tmp_path / "out", dev_share=0)
    first, second = read_manifest(tmp_path / "out" / "train.jsonl")
    assert (first.id, first.text) == ("a@0.5", f"Yes{separator} (a) {separator} b")
    assert (first.offset, first.duration) == (0.5, 1.25)
    assert (second.id, second.text) == ("a", f"a{separator} b{separator}\nc")


def test_csv_from_windows(tmp_path: Path) -> None:
    audio(tmp_path / "sub" / "a.wav")
    audio(tmp_path / "sub" / "B.WAV")
    rows = ["sep=;", "audio;text", "sub\\a.wav;yes", "sub/B.WAV;no"]
    table = write(tmp_path / "my.csv", *rows)
    prepare("csv", source=table, out=tmp_path / "out", dev_share=0)
    assert texts(tmp_path / "out" / "train.jsonl") == {"sub/a": "yes", "sub/B": "no"}
    audio(tmp_path / "sub" / "u\u0308ber.wav")
    for path, hint in (
        ("sub\\b.wav", "capitals count, and B.WAV is there"),
        ("sub/b.wav", "capitals count, and B.WAV is there"),
        ("SUB\\a.wav", "capitals count, and sub is there"),
        ("sub\\\u00fcber.wav", "its name looks the same in Unicode's form NFD, and that file is there"),
        ("C:\\Users\\a.wav", "a path of Windows with a drive leads nowhere here: write paths relative to the table"),
    ):
        write(table, *rows[:-1], f"{path};no")
        slashed = path.replace("\\", "/")
        wanted = f"my.csv:4: {slashed}: audio file {tmp_path}/{slashed} is missing; {hint}) (a partial corpus: --allow"
        with pytest.raises(CorpusError, match=re.escape(wanted)):
            prepare("csv", source=table, out=tmp_path / "more", dev_share=0)
    audio(tmp_path / "sub\\a.wav")  # a name of this system comes first
    write(table, *rows)
    prepare("csv", source=table, out=tmp_path / "again", dev_share=0)
    assert texts(tmp_path / "again" / "train.jsonl") == {"sub\\a": "yes", "sub/B": "no"}


def test_rows_that_are_none_are_told_at_once_and_may_be_left_out(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    rows = ["a.wav,yes", "b.wav,no", "a.wav,", "c.wav,no", "d.wav,no"]
    table = write(tmp_path / "my.csv", "audio,text", *rows)
    told = (
        r"rows without a text or usable audio: 4 \(.*my\.csv:3: b\.wav: .*my\.csv:4: a\.wav: the transcript is empty, "
    )
    told += r".*my\.csv:5: c\.wav: audio file .* is missing and 1 more\) \(a partial corpus: --allow-partial\)$"
    with pytest.raises(CorpusError, match=told):
        prepare("csv", source=table, out=tmp_path / "out", dev_share=0)
    summary = prepare("csv", source=table, out=tmp_path / "out", dev_share=0, allow_partial=True)
    assert texts(tmp_path / "out" / "train.jsonl") == {"a": "yes"}
    assert any("rows without a text or usable audio: 4 (" in note for note in summary.notes)


def test_parts_of_recordings_with_an_end(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav", 2.0)
    audio(tmp_path / "b.wav", 2.0)
    rows = ["a.wav;1,5;2;yes", "a.wav;0;1,5;no", "a.wav;1;1,2;yes", "b.wav;1,2;;no", "b.wav;0,5;1,24;no"]
    for header, options in (("audio;offset;end;text", {}), ("audio;from;to;text", {"offset": "from", "end": "to"})):
        table = write(tmp_path / "my.csv", header, *rows)
        summary = prepare("csv", source=table, out=tmp_path / header, dev_share=0, **options)
        found = read_manifest(tmp_path / header / "train.jsonl")
        assert [(item.id, item.offset, pytest.approx(item.duration)) for item in found] == [
            ("a@1.5", 1.5, 0.5),
            ("a", 0.0, 1.5),
            ("a@1", 1.0, 0.2),
            ("b@1.2", 1.2, 0.8),
            ("b@0.5", 0.5, 0.74),
        ]
        assert any(f"rows that overlap an earlier part of their audio: 1 ({table}:4)" in note for note in summary.notes)
    write(table, "audio;offset;end;text", "a.wav;1;0,5;yes")
    with pytest.raises(CorpusError, match=r"my\.csv:2: a\.wav: 1 to 0\.5 s is not inside the audio"):
        prepare("csv", source=table, out=tmp_path / "more", dev_share=0)


def test_csv_of_parts_of_recordings(tmp_path: Path) -> None:
    audio(tmp_path / "a.wav", 2.0)
    rows = ["a.wav,0.5,1,yes", "a.wav,1.5,,no", "a.wav,,0.25,yes", "a.wav,1,1.04,no"]
    table = write(tmp_path / "my.csv", "audio,offset,duration,text", *rows)
    prepare("csv", source=table, out=tmp_path / "out", dev_share=0)
    found = read_manifest(tmp_path / "out" / "train.jsonl")
    assert [(item.id, item.offset, item.duration) for item in found] == [
        ("a@0.5", 0.5, 1.0),
        ("a@1.5", 1.5, 0.5),
        ("a", 0.0, 0.25),
        ("a@1", 1.0, 1.0),
    ]
    for row, message in (
        ("a.wav,1,1.1,no", r"1 to 2\.1 s is not inside the audio, which is 2\.000 s long"),
        ("a.wav,2,,no", "2 to 2 s is not inside the audio"),
        ("a.wav,2.01,0.03,no", r"2\.01 to 2\.04 s is not inside the audio"),
        ("a.wav,1,0,no", "1 to 1 s is not inside the audio"),
        ("a.wav,-1,,no", "offset must be 0 or more seconds, found '-1'"),
        ("a.wav,1,nan,no", "duration must be 0 or more seconds, found 'nan'"),
        ("a.wav,one,,no", "offset must be 0 or more seconds, found 'one'"),
    ):
        table = write(tmp_path / "my.csv", "audio,offset,duration,text", row)
        with pytest.raises(CorpusError, match=rf"my\.csv:2: a\.wav: {message}"):
            prepare("csv", source=table, out=tmp_path / "more", dev_share=0)


def test_columns_called_otherwise(tmp_path: Path) -> None:
    audio(tmp_path / "clips" / "a.wav", 1.0)
    rows = ["Wav_Filename,text,wav_filesize,Transcript", '"clips/a.wav",17,32044,"yes, yes"']
    table, out = write(tmp_path / "my.csv", *rows), tmp_path / "out"
    summary = prepare("csv", source=table, out=out, dev_share=0, audio="wav_filename", text="transcript")
    assert texts(out / "train.jsonl") == {"clips/a": "yes, yes"}
    assert summary.notes == ("my.csv: columns not used: 'wav_filesize'",)
    with pytest.raises(CorpusError, match=r"my\.csv: text=sentence, but there is no such column; found wav_filename, "):
        prepare("csv", source=table, out=out, audio="wav_filename", text="sentence")
    with pytest.raises(CorpusError, match="one column cannot hold two of audio, text"):
        prepare("csv", source=table, out=out, audio="transcript", text="transcript")
    with pytest.raises(CorpusError, match="columns called otherwise are named like audio=wav_filename text=transcript"):
        prepare("csv", source=table, out=out)


def test_csv_of_another_name(tmp_path: Path) -> None:
    source = write(tmp_path / "my.txt", "audio,text", "a.wav,yes")
    with pytest.raises(CorpusError, match=r"my\.txt: wanted a file \*\.csv or \*\.tsv, a folder or an archive$"):
        prepare("csv", source=source, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["path,text", "a.wav,yes"],
            "wanted a header with audio,text and perhaps speaker,offset,duration,end,channel, .*; found 'path,text'",
        ),
        (["client_id\tpath\tsentence", "a\tb.mp3\tyes"], "a table of Common Voice\\? asr prepare commonvoice reads"),
        (["audio|text", "a.wav|yes"], r"commas, semicolons or TABs, each once; found 'audio\|text'"),
        (["audio;text;offset", "a.wav;yes;1,2,3"], r"a\.wav: offset must be 0 or more seconds, found '1.2.3'"),
        (["audio\ttext\toffset", "a.wav\tyes\t0,1"], r"a\.wav: offset must be 0 or more seconds, found '0,1'"),
        (["audio,text,offset", "a.wav,yes,1_0"], r"offset must be 0 or more seconds, found '1_0'"),
        (["audio,text,Text", "a.wav,yes,no"], "each once; found 'audio,text,text'"),
        (["audio,text", "a.wav"], r"my.csv:2: wanted 2 fields, found 1: \['a.wav'\]"),
        (["audio,text", "a.wav,yes", "", "b.wav,no"], "my.csv:4: b.wav: audio file .*b.wav is missing"),
        (["audio,text", "a.wav, "], "my.csv:2: a.wav: the transcript is empty"),
        (["audio,text", "./.,yes"], "my.csv:2: './.' is not the path of a file"),
        (["audio,text", ",yes"], "my.csv:2: the audio path is empty"),
        (["audio,text", 'a.wav,"yes'], "my.csv:2: unexpected end of data"),
        (["audio,text", "a.wav,yes", "a.wav,no"], "my.csv:3: a.wav: utterance id 'a' stands on line 2 already"),
        (
            ["audio,Start,text,END", "a.wav,0,yes,0.1", "a.wav,0.1,no,0.2"],
            "my.csv: start would not be read, and rows would be all of their audio: offset=start says",
        ),
        (
            ["audio,from,to,text", "a.wav,0,0.1,yes"],
            "my.csv: from, to would not be read, and rows would be all of their audio: offset=from end=to says",
        ),
        (
            ["audio,offset,duration,end,text", "a.wav,0,0.1,0.1,yes"],
            "my.csv:2: a.wav: has a duration and an end, wanted one of them",
        ),
        (["audio,text"], "split train holds no utterance"),
    ],
)
def test_csv_errors_name_the_record(tmp_path: Path, lines: list[str], message: str) -> None:
    audio(tmp_path / "a.wav")
    with pytest.raises(CorpusError, match=message):
        prepare("csv", source=write(tmp_path / "my.csv", *lines), out=tmp_path / "out")
