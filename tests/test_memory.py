"""Half-lives against products that are multiplied out, reach against exact derivatives and networks of known reach."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import CensoredData, ecdf
from torch import Tensor, nn

from asr import checkpoint
from asr.errors import AudioError, ConfigError
from asr.gates import Direction, Trace
from asr.manifest import read_manifest
from asr.memory import HalfLives, Reach, decay_times, half_lives, kaplan_meier_median, measure, reach
from test_encoder import encoder_of, rows_of
from tiny_run import save_run, write_noise, write_texts

INF = np.inf
HOP_S = 0.01


# --- half-lives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "frames"), [(0.5, 1.0), (0.25, 0.5), (0.5**0.25, 4.0), (0.9, np.log(0.5) / np.log(0.9))]
)
def test_a_constant_gate_has_the_half_life_of_its_formula(gate: float, frames: float) -> None:
    times, watched = decay_times(np.full((20, 1), gate))
    assert watched.tolist() == list(range(19, 0, -1))
    whole = watched >= frames - 1e-9
    np.testing.assert_allclose(times[whole, 0], frames, atol=1e-9)
    assert np.isinf(times[watched < frames - 1e-9]).all()


def test_gates_at_their_ends() -> None:
    times, _ = decay_times(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    assert np.isinf(times[:, 0]).all()
    assert (times[:, 1] < 0.02).all()


def test_the_gate_of_the_first_frame_is_not_asked_for_what_was_written_there() -> None:
    times, _ = decay_times(np.array([[0.001], [1.0], [0.5]]))
    np.testing.assert_allclose(times[:, 0], [2.0, 1.0])


@given(arrays(np.float64, (8, 2), elements=st.floats(0.05, 0.999)))
def test_decay_is_the_product_multiplied_out(kept: np.ndarray) -> None:
    times, watched = decay_times(kept)
    for unit in range(2):
        for start in range(7):
            left, steps = 1.0, 0
            while start + steps + 1 < 8 and left * kept[start + steps + 1, unit] > 0.5:
                steps += 1
                left *= kept[start + steps, unit]
            if start + steps + 1 == 8:
                assert np.isinf(times[start, unit])
            else:
                inside = np.log(0.5 / left) / np.log(kept[start + steps + 1, unit])
                assert times[start, unit] == pytest.approx(steps + inside, abs=1e-6)
                assert times[start, unit] <= watched[start] + 1e-9


def test_median_of_kaplan_and_meier_by_hand() -> None:
    # Of 4 at risk one falls at 1 (3/4 are left), one is lost at 2, of 2 one falls at 3 (3/8): the median is 3.
    times, watched = np.array([[1.0], [INF], [3.0], [INF]]), np.array([9.0, 2.0, 9.0, 9.0])
    assert kaplan_meier_median(times, watched).tolist() == [3.0]
    assert kaplan_meier_median(times[[1, 3, 1, 0]], watched).tolist() == [INF]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=12))
def test_median_of_kaplan_and_meier_is_scipys(pairs: list[tuple[int, int]]) -> None:
    falls, watched = np.array(pairs, np.float64).T
    times = np.where(falls <= watched, falls, INF)
    curve = ecdf(CensoredData(times[times < INF], right=watched[times == INF])).sf
    below = curve.probabilities <= 0.5 + 1e-12
    expected = curve.quantiles[below][0] if below.any() else INF
    assert kaplan_meier_median(times[:, None], watched).tolist() == [expected]


def lstm_trace(forget: np.ndarray, direction: Direction = "forward") -> Trace:
    return Trace(1, direction, {"forget": forget.astype(np.float32), "hidden": forget.astype(np.float32)})


def test_half_lives_are_in_milliseconds_of_the_order_of_reading() -> None:
    rng = np.random.default_rng(1)
    kept = 0.3 + 0.6 * rng.random((60, 5))
    utterance = [lstm_trace(kept), lstm_trace(kept[::-1], "backward")]
    forward, backward = half_lives([utterance, utterance], frame_s=0.04)
    assert (forward.name, backward.name) == ("layer 1, forward", "layer 1, backward")
    np.testing.assert_allclose(forward.ms, backward.ms)
    times, watched = decay_times(kept)
    np.testing.assert_allclose(forward.ms, 40 * kaplan_meier_median(times, watched), rtol=1e-4)
    assert forward.watched_ms == 59 * 40


def test_units_that_never_fall_are_censored() -> None:
    kept = np.column_stack([np.full(10, 0.5), np.ones(10), np.full(10, 0.99)])
    [found] = half_lives([[lstm_trace(kept)]], frame_s=0.01)
    assert found.ms.tolist() == [pytest.approx(10.0), INF, INF]
    assert found.censored == 2
    assert found.quantile_ms(0.3) == pytest.approx(10.0)
    assert found.quantile_ms(0.5) == INF


def test_gru_is_kept_by_its_update_gate() -> None:
    part = Trace(1, "forward", {"update": np.full((9, 2), 0.5, np.float32), "hidden": np.zeros((9, 2), np.float32)})
    assert half_lives([[part]], frame_s=0.01)[0].ms.tolist() == [pytest.approx(10.0)] * 2


def test_half_lives_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"encoder\.cell=rnn has no gate"):
        half_lives([[Trace(1, "forward", {"hidden": np.zeros((3, 2), np.float32)})]], frame_s=0.01)
    with pytest.raises(AudioError, match="no utterance of two frames"):
        half_lives([[lstm_trace(np.ones((1, 2)))]], frame_s=0.01)


# --- reach ------------------------------------------------------------------------------------------------------------


class Delay(nn.Module):
    """Its frame t is the input `lag` frames later, if it has such a frame."""

    def __init__(self, lag: int, stride: int = 1) -> None:
        super().__init__()
        self.lag = lag
        self.stride = stride
        self.subsampling = nn.Identity()
        self.subsampling.time_strides = (stride,)  # type: ignore[assignment]

    def output_lengths(self, lens: Tensor) -> Tensor:
        return (lens + self.stride - 1) // self.stride

    def forward(self, feats: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        moved = nn.functional.pad(feats, (0, 0, max(0, -self.lag), max(0, self.lag)))
        start = max(0, self.lag)
        return 3 * moved[:, start : start + feats.shape[1] : self.stride], self.output_lengths(lens)


@pytest.mark.parametrize(("lag", "stride"), [(-3, 1), (2, 1), (0, 4), (-5, 4)])
def test_reach_of_a_delay_is_its_lag(lag: int, stride: int) -> None:
    found = reach(Delay(lag, stride), [torch.randn(40, 7), torch.randn(33, 7)], HOP_S)  # type: ignore[arg-type]
    seen = found.gradient > 0
    assert found.lags_ms[seen].round(6).tolist() == [10.0 * lag]
    assert found.span_ms() == (pytest.approx(10.0 * lag), pytest.approx(10.0 * lag))
    assert found.probes == 16


def test_one_direction_reaches_only_as_far_ahead_as_the_convolutions() -> None:
    found = reach(encoder_of(bidirectional=False), rows_of(), HOP_S)
    ahead = found.lags_ms > 31  # two convolutions of kernel 3 and stride 2 read 1 + 2 frames ahead
    assert ahead.any()
    assert (found.gradient[ahead] == 0).all()
    assert (found.gradient[~ahead] > 0).all()


def test_two_directions_reach_both_ways() -> None:
    found = reach(encoder_of(), rows_of(), HOP_S)
    assert (found.gradient > 0).all()
    assert found.lags_ms.min() < -100
    assert found.lags_ms.max() > 100


def test_reach_is_the_norm_of_the_exact_derivatives() -> None:
    encoder, feats = encoder_of(), rows_of()[0]
    frames = int(encoder.output_lengths(torch.tensor([len(feats)]))[0])
    jacobian = torch.autograd.functional.jacobian(
        lambda values: encoder(values.unsqueeze(0), torch.tensor([len(feats)]))[0][0], feats
    )
    squares = jacobian.square().sum(dim=(1, 3)).numpy()  # (T', T)
    sums: dict[int, list[float]] = {}
    for place in range(frames):
        for frame in range(len(feats)):
            sums.setdefault(frame - 4 * place, []).append(squares[place, frame])
    found = reach(encoder, [feats] * 100, HOP_S, probes=frames)  # so many signs that their noise is small
    expected = [np.sqrt(np.mean(sums[round(lag / 10)])) for lag in found.lags_ms]
    np.testing.assert_allclose(found.gradient, expected, rtol=0.15)


def test_the_span_holds_its_share() -> None:
    found = Reach(np.arange(-50.0, 51.0, 10.0), np.array([1, 1, 1, 1, 1, 10, 1, 1, 1, 1, 1.0]), probes=1)
    assert found.span_ms() == (-40.0, 40.0)


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "layers"), [("lstm", 2), ("gru", 2), ("rnn", 0)])
def test_measure_a_run(tmp_path: Path, cell: str, layers: int) -> None:
    recognizer = checkpoint.load(save_run(tmp_path / "run", f"encoder.cell={cell}"))
    measured = measure(recognizer, read_manifest(write_texts(tmp_path / "m.jsonl", "ab", "ba")))
    assert [type(part) for part in measured.half_lives] == [HalfLives] * layers
    assert all(part.ms.shape == (8,) for part in measured.half_lives)
    assert measured.audio_s == 2.0
    assert measured.reach.probes == 16
    again = measure(recognizer, read_manifest(tmp_path / "m.jsonl"))
    np.testing.assert_array_equal(measured.reach.gradient, again.reach.gradient)


def test_an_utterance_without_a_frame_is_named(tmp_path: Path) -> None:
    recognizer = checkpoint.load(save_run(tmp_path / "run"))
    write_noise(tmp_path / "short.wav", 200)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio_filepath": "short.wav", "duration": 0.0125, "id": "u7"}\n')
    with pytest.raises(AudioError, match=r"utterance u7: .*short\.wav: 200 samples of audio are shorter"):
        measure(recognizer, read_manifest(manifest, with_texts=False))
