"""The project's own exceptions: one for each part of it that can meet bad input.

A message names the record (file, line, utterance id), the value found and the value wanted, on one line.
A command prints that line and exits with 2.
"""

import signal

TRY_AGAIN = 75  # sysexits.h's EX_TEMPFAIL, which Python has only on POSIX


class AsrError(Exception):
    """Base of every error that bad input can raise; the command line prints it on one line."""


class AudioError(AsrError):
    """An audio file or waveform that cannot be used."""


class ManifestError(AsrError):
    """A manifest record that is malformed."""


class TextError(AsrError):
    """A transcript or vocabulary that does not fit."""


class WordlessError(TextError):
    """Nothing is left of a transcript after normalisation."""


class ConfigError(AsrError):
    """A configuration key or value that is wrong."""


class CorpusError(AsrError):
    """A corpus source that is missing, incomplete or unsafe."""


class TrainingError(AsrError):
    """Training that cannot start or go on."""


class CheckpointError(AsrError):
    """A run folder that is incomplete or damaged."""


class DecodeError(AsrError):
    """Log-probabilities or decoder settings that cannot be decoded."""


class ScoringError(AsrError):
    """Hypotheses and references that cannot be scored together."""


class Interrupted(BaseException):
    """Training was stopped by a signal after saving what there was; the message says how to go on.

    Like KeyboardInterrupt it may come at any moment, and code that catches errors must not catch it.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, as usual; otherwise `TRY_AGAIN`, which asks for the command to be started again."""
        return 130 if self.signal == signal.SIGINT else TRY_AGAIN
