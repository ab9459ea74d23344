"""A long command's progress: a bar on a terminal, plain lines elsewhere; never in a file that another program reads."""

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """A bar on standard error when it is a terminal; `line` prints above it, or plainly where there is none."""

    def __init__(self, total: int, unit: str, *, done: int = 0) -> None:
        self.bar: tqdm[Any] = tqdm(
            total=total,
            initial=done,
            unit=unit,
            file=sys.stderr,
            disable=not (sys.stderr and sys.stderr.isatty()),
            dynamic_ncols=True,
        )

    def step(self, facts: dict[str, str]) -> None:
        """Advance by one and show the facts after the bar."""
        self.bar.set_postfix(facts, refresh=False)
        self.bar.update()

    def line(self, text: str) -> None:
        """Print one line that stays."""
        if self.bar.disable:
            print(text, file=sys.stderr, flush=True)
        else:
            self.bar.write(text, file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
