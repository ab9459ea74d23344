"""A backoff n-gram model as its definition says, in dictionaries; slow and obviously right."""

UNKNOWN = "<unk>"

SMALL_ARPA = """\\data\\
ngram 1=5
ngram 2=3
ngram 3=2

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.5
-0.75\t</s>
-0.5\ta\t-0.25
-0.625\tb\t-0.125

\\2-grams:
-0.25\t<s> a\t-0.5
-0.375\ta b\t-0.0625
-0.3\tb </s>

\\3-grams:
-0.125\t<s> a b
-0.2\ta b </s>

\\end\\
"""


class BackoffModel:
    """n-gram (a tuple of words) -> (log10 probability, log10 backoff weight).

    P(w | h) = prob(h w) where h w is listed, else backoff(h) P(w | h without its first word), where the backoff weight
    of what is not listed is 0 (Katz 1987).
    """

    def __init__(self, ngrams: dict[tuple[str, ...], tuple[float, float]]) -> None:
        self.ngrams = {(UNKNOWN,): (-100.0, 0.0), **ngrams}
        self.order = max(map(len, ngrams), default=1)

    @classmethod
    def from_arpa(cls, text: str) -> "BackoffModel":
        """Read a well-formed ARPA file."""
        ngrams: dict[tuple[str, ...], tuple[float, float]] = {}
        order = 0
        for line in text.split("\\data\\", 1)[1].splitlines():
            if line.startswith("\\"):
                order = int(line[1:].split("-")[0]) if line.endswith("-grams:") else 0
            elif line.strip() and order:
                fields = line.split()
                backoff = float(fields[order + 1]) if len(fields) > order + 1 else 0.0
                ngrams[tuple(fields[1 : order + 1])] = float(fields[0]), backoff
        return cls(ngrams)

    def log10_prob(self, history: tuple[str, ...], word: str) -> tuple[float, int]:
        """The log10 probability of a word after all words before it, and the length of the n-gram that it is from."""
        history = history[max(0, len(history) - self.order + 1) :]
        if (*history, word) in self.ngrams:
            return self.ngrams[(*history, word)][0], len(history) + 1
        _, backoff = self.ngrams.get(history, (0.0, 0.0))
        prob, length = self.log10_prob(history[1:], word)
        return backoff + prob, length

    def full_scores(self, words: list[str], *, bos: bool, eos: bool) -> list[tuple[float, int, bool]]:
        """For each word, and `</s>`: log10 probability, length of the n-gram, and whether the word is unknown.

        What the model has no `<s>` or `</s>` for is left out.
        """
        known = [word if (word,) in self.ngrams else UNKNOWN for word in words]
        if eos and ("</s>",) in self.ngrams:
            known.append("</s>")
        before = ["<s>"] if bos and ("<s>",) in self.ngrams else []
        return [
            (*self.log10_prob((*before, *known[:place]), word), word == UNKNOWN) for place, word in enumerate(known)
        ]

    def write(self, *, unknown: bool) -> str:
        """As an ARPA file, with or without `<unk>`."""
        listed = {ngram: values for ngram, values in self.ngrams.items() if unknown or ngram != (UNKNOWN,)}
        lines = ["\\data\\"]
        for order in range(1, self.order + 1):
            lines.append(f"ngram {order}={sum(len(ngram) == order for ngram in listed)}")
        for order in range(1, self.order + 1):
            lines += ["", f"\\{order}-grams:"]
            for ngram, (prob, backoff) in listed.items():
                if len(ngram) == order:
                    weight = f"\t{backoff}" if backoff and order < self.order else ""
                    lines.append(f"{prob}\t{' '.join(ngram)}{weight}")
        return "\n".join([*lines, "", "\\end\\", ""])
