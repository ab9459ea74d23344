"""CTC losses against the sum over every path, which transcripts fit, and losses that know nothing of padding."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asr.config import AudioConfig, Config, EncoderConfig, FeatureConfig, TextConfig
from asr.ctc import ctc_losses, drawn_labels
from asr.lengths import ctc_frames_needed
from asr.recognizer import Recognizer, pad_waves
from asr.text import Tokenizer
from oracles.ctc import collapse, ctc_loss
from ragged import DEVICES, RUBBISH, exact_matrix_products, rubbish_batch


def log_probs_of(frames: int, vocabulary: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(3 * torch.randn(frames, vocabulary, generator=generator), dim=1)


def losses_of(rows: list[Tensor], transcripts: list[list[int]], kind: str = "noise", device: str = "cpu") -> Tensor:
    """Losses as one batch, with rubbish in the frames' padding and label 1 in the labels' padding."""
    log_probs, lens = rubbish_batch(rows, kind, extra=2)
    label_lens = torch.tensor([len(labels) for labels in transcripts])
    labels = torch.ones(len(rows), int(label_lens.max()) + 1, dtype=torch.int64)
    for row, transcript in enumerate(transcripts):
        labels[row, : len(transcript)] = torch.tensor(transcript, dtype=torch.int64)
    return ctc_losses(log_probs.to(device), lens, labels.to(device), label_lens)


@st.composite
def tiny_batches(draw: st.DrawFn) -> tuple[list[Tensor], list[list[int]]]:
    vocabulary = draw(st.integers(2, 4))
    rows, transcripts = [], []
    for _ in range(draw(st.integers(1, 3))):
        rows.append(log_probs_of(draw(st.integers(1, 5)), vocabulary, draw(st.integers(0, 99))))
        transcripts.append(draw(st.lists(st.integers(1, vocabulary - 1), min_size=1, max_size=4)))
    return rows, transcripts


def test_paths_collapse_as_the_paper_says() -> None:
    assert collapse([0, 1, 1, 0, 1, 2, 2, 0]) == (1, 1, 2)
    assert collapse([0, 0]) == ()
    assert collapse([2, 2, 1], blank=1) == (2,)


def test_loss_of_a_case_worked_out_by_hand() -> None:
    # Two frames of P(blank) = 0.4, P(a) = 0.6; "a" is aa, a- or -a: 0.36 + 0.24 + 0.24 = 0.84.
    rows = [torch.tensor([[0.4, 0.6], [0.4, 0.6]]).log()]
    assert losses_of(rows, [[1]]).item() == pytest.approx(-math.log(0.84), rel=1e-6)


@given(batch=tiny_batches())
def test_losses_are_the_sum_over_every_path(batch: tuple[list[Tensor], list[list[int]]]) -> None:
    rows, transcripts = batch
    expected = [ctc_loss(row.double().numpy(), labels) for row, labels in zip(rows, transcripts, strict=True)]
    np.testing.assert_allclose(losses_of(rows, transcripts).numpy(), expected, rtol=1e-5, atol=1e-6)


@given(batch=tiny_batches())
def test_a_loss_is_infinite_where_frames_do_not_suffice(batch: tuple[list[Tensor], list[list[int]]]) -> None:
    rows, transcripts = batch
    short = [len(row) < ctc_frames_needed(labels) for row, labels in zip(rows, transcripts, strict=True)]
    assert losses_of(rows, transcripts).isinf().tolist() == short


@given(labels=st.lists(st.integers(1, 3), min_size=1, max_size=12))
def test_one_frame_too_few(labels: list[int]) -> None:
    needed = ctc_frames_needed(labels)
    assert losses_of([log_probs_of(needed, 4, 0)], [labels]).isfinite().all()
    if needed > 1:
        assert losses_of([log_probs_of(needed - 1, 4, 0)], [labels]).isinf().all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", RUBBISH)
def test_losses_and_their_gradients_do_not_depend_on_the_batch(kind: str, device: str) -> None:
    rows = [log_probs_of(frames, 6, seed) for seed, frames in enumerate((30, 4, 17, 1))]
    transcripts = [[1, 2, 2, 5, 3], [4], [1, 1, 1, 1], [5]]
    alone = [losses_of([row], [labels], device=device)[0] for row, labels in zip(rows, transcripts, strict=True)]
    leaves = [row.clone().requires_grad_() for row in rows]
    losses = losses_of(leaves, transcripts, kind, device)
    torch.testing.assert_close(losses, torch.stack(alone), atol=1e-5, rtol=1e-6)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    for leaf, row, labels in zip(leaves, rows, transcripts, strict=True):
        single = row.clone().requires_grad_()
        losses_of([single], [labels], device=device).sum().backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(leaf.grad, single.grad, atol=1e-5, rtol=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("normalization", ["utterance", "map", "global"])
def test_recognizer_gives_an_utterance_the_same_in_any_batch(
    normalization: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From waveform to loss and text, with one utterance of a single frame and one of digital silence."""
    exact_matrix_products(monkeypatch)
    config = Config(
        audio=AudioConfig(sample_rate_hz=8000),
        features=FeatureConfig(mel_bins=16, normalization=normalization),  # type: ignore[arg-type]
        encoder=EncoderConfig(subsampling=2, conv_channels=4, layers=2, width=12),
    )
    torch.manual_seed(0)
    recognizer = Recognizer(config, Tokenizer(["<blank>", " ", "a", "b", "c"], TextConfig())).eval().to(device)
    waves = [0.1 * torch.randn(samples) for samples in (8000, 256, 3000, 12345, 5000)]
    waves[4][:] = 0
    transcripts = [[2, 3, 3, 1, 4], [2], [2, 2], [4, 1, 2, 1, 3], [3]]

    def run(places: list[int], kind: str) -> tuple[Tensor, list[Tensor], list[str]]:
        batch, lens = rubbish_batch([waves[place] for place in places], kind, extra=777)
        log_probs, log_prob_lens = recognizer(batch.to(device), lens)
        assert torch.equal(log_prob_lens, recognizer.output_lengths(lens))
        valid = [log_probs[row, :length].detach() for row, length in enumerate(log_prob_lens.tolist())]
        losses = losses_of([row.cpu() for row in valid], [transcripts[place] for place in places], device=device)
        return losses, valid, [hypothesis.text for hypothesis in recognizer.decode(log_probs, log_prob_lens)]

    alone = [run([place], "noise") for place in range(5)]
    for places, kind in (([0, 1, 2, 3, 4], "noise"), ([4, 2, 0], "large"), ([1, 3], "infinite"), ([3, 2, 1], "nan")):
        losses, log_probs, texts = run(places, kind)
        torch.testing.assert_close(losses, torch.cat([alone[place][0] for place in places]), atol=1e-4, rtol=1e-5)
        for row, place in enumerate(places):
            torch.testing.assert_close(log_probs[row], alone[place][1][0], atol=1e-5, rtol=0)
            assert texts[row] == alone[place][2][0]


def test_padding_and_the_time_of_a_frame() -> None:
    config = Config(encoder=EncoderConfig(conv_channels=2, layers=1, width=4))
    recognizer = Recognizer(config, Tokenizer(["<blank>", " ", "a", "b"], TextConfig()))
    waves, lens = pad_waves([torch.randn(4000), torch.randn(9000)])
    assert waves.shape == (2, 9000)
    assert lens.tolist() == [4000, 9000]
    assert recognizer.frame_s == pytest.approx(0.04)


def test_labels_are_drawn_with_the_probabilities_that_ctc_gives_them() -> None:
    """Shares of drawn sequences against the sum over all paths, written out."""
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(3), size=4)
    wanted: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(3), repeat=4):
        labels = tuple(label for label, _ in itertools.groupby(path) if label)
        wanted[labels] = wanted.get(labels, 0.0) + float(np.prod([probs[t, label] for t, label in enumerate(path)]))
    drawn = drawn_labels(np.log(probs).astype(np.float32), 20_000, np.random.default_rng(2))
    shares = {labels: count / len(drawn) for labels, count in Counter(map(tuple, drawn)).items()}
    assert sum(wanted.values()) == pytest.approx(1)
    for labels, probability in wanted.items():
        deviation = math.sqrt(probability * (1 - probability) / len(drawn))
        assert shares.get(labels, 0.0) == pytest.approx(probability, abs=5 * deviation + 1e-6)
    certain = np.log(np.array([[1e-9, 1 - 1e-9], [1 - 1e-9, 1e-9], [1e-9, 1 - 1e-9]], np.float32) + 1e-12)
    assert drawn_labels(certain, 3, rng) == [[1, 1]] * 3
