"""How the labels of a vocabulary are read."""

import json
import re
from collections.abc import Sequence

from asr.decode.inputs import check_labels
from asr.errors import DecodeError

BPE_TOKEN = "\u2581"
UNK_TOKEN = "⁇"
UNK_BPE_TOKEN = f"{BPE_TOKEN}{UNK_TOKEN}{BPE_TOKEN}"
# transformers uses these two to find which labels of a tokenizer became "" and "⁇".
BLANK_TOKEN_PTN = re.compile(r"^[<\[](pad|blank)[>\]]$", re.IGNORECASE)
UNK_TOKEN_PTN = re.compile(r"^[<\[]unk[>\]]$", re.IGNORECASE)
_PAD = re.compile(r"^[<\[]pad[>\]]$", re.IGNORECASE)
_UNDERSCORE = re.compile("^_$")
_SPECIAL = re.compile(r"^[<\[].+[>\]]$")


class Alphabet:
    """Labels as the decoder reads them: "" is the blank; words begin after " ", or with a piece that begins with "▁".

    Raises:
        DecodeError: a label contains a space: within a word, or in a vocabulary of word pieces.
    """

    def __init__(self, labels: Sequence[str], is_bpe: bool) -> None:
        # A label that begins with a space begins a word, as one with "▁" does among word pieces.
        spaced = next((label for label in labels if " " in (label if is_bpe else label[1:])), None)
        if spaced is not None:
            raise DecodeError(
                f"label {spaced!r} holds a space, "
                + (
                    "which word pieces cannot have"
                    if is_bpe
                    else "which ends a word: wanted ' ' alone, or at the beginning"
                )
            )
        self._labels = list(labels)
        self.is_bpe = is_bpe

    @property
    def labels(self) -> list[str]:
        """A copy of the labels."""
        return self._labels.copy()

    @classmethod
    def build_alphabet(cls, labels: Sequence[str]) -> "Alphabet":
        """Read a vocabulary: of characters, of sentencepiece ("▁the", "re") or of WordPiece ("the", "##re").

        "|" is the separator where there is no " ". The blank is "" or "<pad>", "[PAD]" and the like; failing
        that, "_" (among characters), then "<blank>" or "[blank]"; if there is none of these, it is appended.

        Raises:
            DecodeError: a label occurs twice, two labels mean the blank, or a label contains a space.
        """
        found, _ = check_labels(labels, 0)
        is_bpe = any(label.startswith(("##", BPE_TOKEN)) for label in found)
        if any(label.startswith("##") for label in found):
            found = [_from_wordpiece(label) for label in found]
        elif not is_bpe and " " not in found:
            found = [" " if label == "|" else label for label in found]
        blanks = [place for place, label in enumerate(found) if label == "" or _PAD.match(label)]
        if len(blanks) > 1:
            names = " and ".join(f"{labels[place]!r} at {place}" for place in blanks)
            raise DecodeError(f"labels {names} all mean the blank, wanted one: rename the others")
        for pattern in (_PAD, *(() if is_bpe else (_UNDERSCORE,)), BLANK_TOKEN_PTN):
            if "" not in found:
                found = ["" if pattern.match(label) else label for label in found]
        if "" not in found:
            found.append("")
        unknown = UNK_BPE_TOKEN if is_bpe else UNK_TOKEN
        return cls([unknown if UNK_TOKEN_PTN.match(label) else label for label in found], is_bpe)

    def dumps(self) -> str:
        """The labels as JSON."""
        return json.dumps({"labels": self._labels, "is_bpe": self.is_bpe})

    @classmethod
    def loads(cls, text: str) -> "Alphabet":
        """The alphabet that `dumps` wrote; DecodeError if the text is something else."""
        try:
            found = json.loads(text)
            return cls(found["labels"], found["is_bpe"])
        except (ValueError, KeyError, TypeError) as error:
            raise DecodeError(f"alphabet: wanted JSON with labels and is_bpe: {error!r}") from error


def _from_wordpiece(label: str) -> str:
    if label.startswith("##"):
        return label[2:]
    if label in ("", BPE_TOKEN, UNK_BPE_TOKEN) or _SPECIAL.match(label):
        return label
    return BPE_TOKEN + label
