"""What training minimises, against its formula written out."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from asr.augment import FeatureAugment, draws_of
from asr.batch import Batch
from asr.config import AudioConfig, AugmentConfig, Config, EncoderConfig, FeatureConfig, TextConfig, TrainConfig
from asr.ctc import ctc_losses
from asr.encoder import Dropout
from asr.recognizer import Recognizer
from asr.text import Tokenizer
from asr.training.objective import objective, views

RATE_HZ = 8000
CONFIG = Config(
    audio=AudioConfig(sample_rate_hz=RATE_HZ),
    features=FeatureConfig(mel_bins=12, normalization="utterance"),
    augment=AugmentConfig(freq_mask_bins=4, time_mask_frames=8),
    encoder=EncoderConfig(conv_channels=3, layers=3, width=6, dropout=0),
)

LAST_LAYER = TrainConfig(intermediate_ctc=0)


@pytest.fixture
def recognizer() -> Recognizer:
    torch.manual_seed(5)
    return Recognizer(CONFIG, Tokenizer(["<blank>", " ", *"abc"], TextConfig())).train()


@pytest.fixture
def augment(recognizer: Recognizer) -> FeatureAugment:
    return FeatureAugment(CONFIG.augment, recognizer.log_mel.centres_hz)


def batch_of(looks: int) -> Batch:
    """Two utterances of 0.6 and 0.4 s."""
    generator = torch.Generator().manual_seed(1)
    lens = torch.tensor([4800, 3200])
    waves = torch.randn(2, 4800, generator=generator)
    waves[1, 3200:] = 0
    labels, label_lens = torch.tensor([[2, 3, 2], [4, 2, 0]]), torch.tensor([3, 2])
    draws = torch.rand(2, looks * draws_of(CONFIG.augment), generator=generator)
    return Batch(["long", "short"], waves, lens, labels, label_lens, draws)


def log_probs(recognizer: Recognizer, batch: Batch, augment: FeatureAugment, draws: Tensor) -> tuple[Tensor, Tensor]:
    features = recognizer.features(batch.waves, batch.wave_lens, (augment, draws))
    found, lens = recognizer.encoder(*features)
    return found, lens


def test_without_weights_it_is_the_ctc_loss(recognizer: Recognizer, augment: FeatureAugment) -> None:
    batch = batch_of(1)
    assert batch.draws is not None
    found, lens = log_probs(recognizer, batch, augment, batch.draws)
    wanted = ctc_losses(found, lens, batch.labels, batch.label_lens)
    total, losses = objective(recognizer, batch, augment, LAST_LAYER)
    torch.testing.assert_close(total, wanted)
    torch.testing.assert_close(losses, wanted.detach())
    assert total.requires_grad
    assert not losses.requires_grad


def test_middle_layer_shares_the_output_layer(recognizer: Recognizer, augment: FeatureAugment) -> None:
    batch = batch_of(1)
    plain, losses = objective(recognizer, batch, augment, LAST_LAYER)
    total, logged = objective(recognizer, batch, augment, TrainConfig(intermediate_ctc=0.25))
    # A network of one layer has as its last what is this one's middle.
    shallow = Recognizer(replace(CONFIG, encoder=replace(CONFIG.encoder, layers=1)), recognizer.tokenizer).train()
    shallow.encoder.load_state_dict(
        {name: recognizer.encoder.state_dict()[name] for name in shallow.encoder.state_dict()}
    )
    middle, _ = objective(shallow, batch, augment, TrainConfig(intermediate_ctc=0.9))  # which has none of its own
    torch.testing.assert_close(total, 0.75 * plain + 0.25 * middle)
    torch.testing.assert_close(logged, losses)


def test_two_views_are_drawn_together(recognizer: Recognizer, augment: FeatureAugment) -> None:
    config = replace(LAST_LAYER, consistency=0.3)
    assert views(config) == 2
    assert views(TrainConfig()) == 1
    batch = batch_of(2)
    assert batch.draws is not None
    seen = [log_probs(recognizer, batch, augment, draws)[0] for draws in batch.draws.chunk(2, dim=1)]
    _, lens = log_probs(recognizer, batch, augment, batch.draws.chunk(2, dim=1)[0])
    losses = [ctc_losses(view, lens, batch.labels, batch.label_lens) for view in seen]
    wanted = (losses[0] + losses[1]) / 2
    for row, length in enumerate(lens.tolist()):
        for frame in range(length):
            first, second = seen[0][row, frame], seen[1][row, frame]
            divergence = (first.exp() * (first - second)).sum() + (second.exp() * (second - first)).sum()
            wanted[row] = wanted[row] + 0.3 / 2 * divergence
    total, logged = objective(recognizer, batch, augment, config)
    torch.testing.assert_close(total, wanted)
    torch.testing.assert_close(logged, (losses[0] + losses[1]).detach() / 2)
    assert not torch.allclose(seen[0][0, :5], seen[1][0, :5])  # they do differ


def test_gradient_draws_each_view_to_the_other(recognizer: Recognizer, augment: FeatureAugment) -> None:
    """Of KL(p || q) with p constant the gradient by q's logits is q - p."""
    from asr.training.objective import _divergence

    logits = torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(2), requires_grad=True)
    first, second = torch.log_softmax(logits, dim=3)
    _divergence(first, second, torch.tensor([2])).sum().backward()
    difference = (first.exp() - second.exp()).detach() / 2
    difference[:, 2] = 0  # padding
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0], difference)
    torch.testing.assert_close(logits.grad[1], -difference)


def test_label_smoothing_is_the_divergence_from_equal_probabilities(
    recognizer: Recognizer, augment: FeatureAugment
) -> None:
    batch = batch_of(1)
    assert batch.draws is not None
    found, lens = log_probs(recognizer, batch, augment, batch.draws)
    wanted = ctc_losses(found, lens, batch.labels, batch.label_lens)
    uniform = torch.full((5,), 1 / 5)
    for row, length in enumerate(lens.tolist()):
        for frame in found[row, :length]:
            wanted[row] = wanted[row] + 0.1 * (uniform * (uniform.log() - frame)).sum()
    total, losses = objective(recognizer, batch, augment, replace(LAST_LAYER, label_smoothing=0.1))
    torch.testing.assert_close(total, wanted)
    torch.testing.assert_close(losses, objective(recognizer, batch, augment, LAST_LAYER)[1])


def test_locked_dropout_has_one_mask_for_all_frames() -> None:
    torch.manual_seed(1)
    dropped = Dropout(0.5, locked=True).train()(torch.ones(7, 3, 16))
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert not torch.equal(dropped[0, 0], dropped[0, 1])  # each utterance has its own
    free = Dropout(0.5).train()(torch.ones(7, 3, 16))
    assert not torch.equal(free[0], free[1])
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
