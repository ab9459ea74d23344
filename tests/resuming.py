"""What tests of resuming share: randomness everywhere, and a signal after each batch."""

import signal

import pytest

from asr.batch import Batch
from asr.train import Trainer
from asr.training.learner import Outcome

# Everything that draws random numbers is on.
RANDOM = (
    "encoder.dropout=0.2",
    "encoder.weight_dropout=0.1",
    "encoder.chunk_frames=8",
    "augment.speeds=[0.9,1.0,1.1]",
    "augment.gain_db=6",
    "augment.noise_probability=0.5",
    "augment.reverb_probability=0.5",
    "augment.filter_db=3",
    "augment.warp=0.1",
    "augment.freq_masks=1",
    "augment.time_masks=1",
)


def stop_after_each_batch(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    step = Trainer.step

    def step_and_stop(self: Trainer, batch: Batch) -> Outcome:
        outcome = step(self, batch)
        signal.raise_signal(number)
        return outcome

    monkeypatch.setattr(Trainer, "step", step_and_stop)
