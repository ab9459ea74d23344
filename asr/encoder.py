"""The acoustic model: convolutional subsampling and stacked (bidirectional) recurrent layers to log-probabilities."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.config import EncoderConfig
from asr.features import zero_padding_
from asr.half import Half
from asr.lengths import strided

# State of a recurrent layer in one direction: (1, B, width) hidden values, and an LSTM's cell values.
State = tuple[Tensor, ...]
# On CUDA the convolutions' inputs are padded to a multiple of this many frames.
_CUDA_FRAMES = 64
# Time strides of the convolutions; the frequency axis is halved by each.
_TIME_STRIDES = {1: (1, 1), 2: (2, 1), 4: (2, 2), 8: (2, 2, 2)}


class Subsampling(nn.Module):
    """3x3 convolutions with ReLU that shorten time and halve frequency, then a linear layer to `width`."""

    def __init__(self, factor: int, channels: int, mel_bins: int, width: int) -> None:
        super().__init__()
        self.time_strides = _TIME_STRIDES[factor]
        inputs = [1] + [channels] * (len(self.time_strides) - 1)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, channels, kernel_size=3, stride=(stride, 2), padding=1)
            for before, stride in zip(inputs, self.time_strides, strict=True)
        )
        bins = mel_bins
        for _ in self.time_strides:
            bins = strided(bins, 2)
        self.linear = nn.Linear(channels * bins, width)

    def lengths(self, feat_lens: Tensor) -> Tensor:
        """(B,) int64 output frames."""
        for stride in self.time_strides:
            feat_lens = strided(feat_lens, stride)
        return feat_lens

    def forward(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F) features -> (T', B, width), padding arbitrary, and (B,) int64 lengths."""
        # Padded to few shapes: cuDNN plans anew for each shape, which takes longer than the convolution itself.
        padded = functional.pad(feats, (0, 0, 0, -feats.shape[1] % _CUDA_FRAMES)) if feats.is_cuda else feats.clone()
        # Channels last, in memory as (B, T, F, C): convolutions then take two thirds of the time.
        maps = zero_padding_(padded, feat_lens).unsqueeze(3).permute(0, 3, 1, 2)
        longest = feats.shape[1]
        for convolution, stride in zip(self.convolutions, self.time_strides, strict=True):
            feat_lens, longest = strided(feat_lens, stride), strided(longest, stride)
            # The next convolution reads one frame past the end, where an utterance encoded alone has zeros.
            maps = _PaddedRelu.apply(convolution(maps), feat_lens)  # type: ignore[no-untyped-call]
        if maps.shape[2] > longest:
            maps = maps[:, :, :longest]
        return self.linear(maps.permute(2, 0, 1, 3).flatten(2)), feat_lens


class _PaddedRelu(torch.autograd.Function):
    """ReLU of (B, C, T, F) maps in place, with zeros at and after (B,) int64 CPU `lens`.

    ReLU has no gradient where its result is zero, so the backward pass needs no mask and the forward pass no copy.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, lens: Tensor) -> Tensor:
        zero_padding_(maps.relu_().transpose(1, 2), lens)
        ctx.mark_dirty(maps)
        ctx.save_for_backward(maps)
        return maps

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (maps,) = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        return torch.ops.aten.threshold_backward(grad, maps, 0), None


class RecurrentLayer(nn.Module):
    """One LSTM, GRU or tanh RNN layer, in one or both directions, that never reads padding.

    LSTM gates at step t (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000), with i, f, o the input, forget
    and output gates: c_t = f_t * c_{t-1} + i_t * tanh(W_g x_t + U_g h_{t-1} + b_g), h_t = o_t * tanh(c_t).
    """

    def __init__(self, config: EncoderConfig, inputs: int) -> None:
        super().__init__()
        kinds = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
        self.cell: nn.RNNBase = kinds[config.cell](inputs, config.width, bidirectional=config.bidirectional)
        self.outputs = config.width * (2 if config.bidirectional else 1)
        if config.cell == "lstm":
            # torch adds two bias vectors and orders gates i, f, g, o.
            forget = slice(config.width, 2 * config.width)
            with torch.no_grad():
                for name, parameter in self.cell.named_parameters():
                    if name.startswith("bias_ih"):
                        parameter[forget] = config.forget_bias
                    elif name.startswith("bias_hh"):
                        parameter[forget] = 0
        self.weight_dropout = Dropout(config.weight_dropout)

    def forward(self, inputs: Tensor, lens: Tensor) -> Tensor:
        """(T, B, inputs) with (B,) int64 CPU lengths -> (T, B, outputs); outputs in the padding are arbitrary."""
        if not self.cell.bidirectional:  # a causal pass over right-padded rows meets padding only after the end
            return self._run(inputs, reverse=False)
        # Reversing each row inside its own length makes the backward direction a causal pass too. Packing would miss
        # oneDNN and take quadratic time on the CPU, and on CUDA copy step by step.
        rows = reversal(lens.to(inputs.device, non_blocking=True), len(inputs))
        forward = self._run(inputs, reverse=False)
        backward = self._run(_reversed(inputs, rows), reverse=True)
        return torch.cat([forward, _reversed(backward, rows)], dim=2)

    def _run(self, inputs: Tensor, *, reverse: bool) -> Tensor:
        """One direction over (T, B, inputs) in the order given, with that direction's weights."""
        if inputs.is_cuda and torch.is_autocast_enabled("cuda"):
            with torch.autocast("cuda", enabled=False):
                return self._run_in_half(inputs.float(), reverse=reverse)
        return self.advance(inputs, None, reverse=reverse)[0]

    def _run_in_half(self, inputs: Tensor, *, reverse: bool) -> Tensor:
        """`_run` on CUDA in float16, which rounds as finely as TF32; outputs and gradients are float32.

        For batches of a multiple of 8, up to 128, cuDNN has a kernel that takes all steps at once
        (docs/decisions/0012-recurrence-on-cuda.md).
        """
        half = Half()
        batch = inputs.shape[1]
        padded = functional.pad(half.lowered(inputs), (0, 0, 0, -batch % 8))
        outputs, _ = self._call(padded, None, self._weights(reverse=reverse, cast=half.lowered))
        return half.raised(outputs[:, :batch])

    def advance(self, inputs: Tensor, state: State | None, *, reverse: bool = False) -> tuple[Tensor, State]:
        """One direction over (T, B, inputs) from a state on (None: zeros): the outputs, and the state after them."""
        return self._call(inputs, state, self._weights(reverse=reverse))

    def _weights(self, *, reverse: bool, cast: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weights = [getattr(self.cell, name + "_reverse" if reverse else name) for name in names]
        weights[1] = self.weight_dropout(weights[1])
        if cast is None and not weights[0].is_cuda:
            return weights
        # cuDNN wants them one after the other in memory; those of one direction out of two are not.
        flat = torch.cat([weight.flatten() for weight in weights])
        if cast is not None:
            flat = cast(flat)
        parts = torch.split(flat, [weight.numel() for weight in weights])
        return [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]

    def _call(self, inputs: Tensor, state: State | None, weights: list[Tensor]) -> tuple[Tensor, State]:
        settings: dict[str, Any] = {
            "params": weights,
            "has_biases": True,
            "num_layers": 1,
            "dropout": 0.0,
            "train": self.training,
            "bidirectional": False,
            "batch_first": False,
        }
        initial = inputs.new_zeros(1, inputs.shape[1], self.cell.hidden_size)
        if isinstance(self.cell, nn.LSTM):
            outputs, *after = torch.lstm(inputs, state or (initial, initial), **settings)
        else:
            run = torch.gru if isinstance(self.cell, nn.GRU) else torch.rnn_tanh
            outputs, *after = run(inputs, state[0] if state else initial, **settings)
        return outputs, tuple(after)


def reversal(lens: Tensor, longest: int) -> Tensor:
    """(longest * B,) int64 rows that reverse each utterance inside its length, in flattened (longest, B, D) values.

    The padding stays in place. The row numbers are on the device of `lens`.
    """
    positions = torch.arange(longest, device=lens.device).unsqueeze(1)
    times = torch.where(positions < lens, lens - 1 - positions, positions)
    return (times * len(lens) + torch.arange(len(lens), device=lens.device)).flatten()


class _Reverse(torch.autograd.Function):
    """Frames reordered by a `reversal`, which is its own inverse: the gradient is reordered in the same way.

    `torch.gather` moves single numbers, and its gradient adds them up one by one: that takes five times as long.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return values.flatten(0, 1).index_select(0, rows).view(values.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return grads[0].flatten(0, 1).index_select(0, rows).view(grads[0].shape), None


def _reversed(values: Tensor, rows: Tensor) -> Tensor:
    """(T, B, D) values with their frames reordered by `reversal`."""
    result: Tensor = _Reverse.apply(values, rows)  # type: ignore[no-untyped-call]
    return result


def in_chunks(hidden: Tensor, lens: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cut utterances into chunks, each a row of its own.

    Args:
        hidden: (T, B, D) frames, padding arbitrary.
        lens: (B,) int64 on the CPU.
        size: frames of a chunk; T: each utterance is one chunk, and nothing is copied.

    Returns:
        (size, n * B, D) frames, n = ceil(T / size), and (n * B,) int64 lengths, 0 after the end of an utterance.
    """
    padded = functional.pad(hidden, (0, 0, 0, 0, 0, -len(hidden) % size))
    starts = torch.arange(0, len(padded), size).unsqueeze(1)
    rows = padded.reshape(-1, size, *hidden.shape[1:]).transpose(0, 1).flatten(1, 2)
    return rows, (lens - starts).clamp(0, size).flatten()


def joined(rows: Tensor, batch: int, longest: int) -> Tensor:
    """(size, n * batch, D) chunks, as `in_chunks` makes them -> (longest, batch, D) frames."""
    return rows.reshape(len(rows), -1, batch, rows.shape[2]).transpose(0, 1).flatten(0, 1)[:longest]


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) with masks from random bytes, so the probability is in whole 256ths.

    A CPU draws random numbers one by one: one for each element would take as long as a convolution.

    Args:
        probability: of a value to be dropped.
        locked: one mask for all steps of the first axis, time (Gal & Ghahramani 2016).
    """

    def __init__(self, probability: float, *, locked: bool = False) -> None:
        super().__init__()
        self.kept = round(256 * (1 - probability))
        self.locked = locked

    def forward(self, values: Tensor) -> Tensor:
        """Values of any shape, dropped ones zero and the others scaled up; in evaluation as they are."""
        if not self.training or self.kept == 256:
            return values
        # Each number holds eight random bytes; on the values' device.
        one = values[:1] if self.locked else values
        words = torch.empty(-(-one.numel() // 8), dtype=torch.int64, device=values.device).random_(-(2**63), None)
        mask = words.view(torch.uint8)[: one.numel()].view(one.shape) < self.kept
        return values * mask.to(values.dtype).mul_(256 / self.kept)


class Encoder(nn.Module):
    """Log-mel features to log-probabilities over the vocabulary."""

    def __init__(self, config: EncoderConfig, mel_bins: int, vocabulary: int) -> None:
        super().__init__()
        self.subsampling = Subsampling(config.subsampling, config.conv_channels, mel_bins, config.width)
        self.layers = nn.ModuleList()
        self.projections = nn.ModuleList()
        self.norms = nn.ModuleList()
        width = config.width
        for _ in range(config.layers):
            layer = RecurrentLayer(config, width)
            width = config.projection or layer.outputs
            self.layers.append(layer)
            self.projections.append(nn.Linear(layer.outputs, width) if config.projection else nn.Identity())
            self.norms.append(nn.LayerNorm(width) if config.layer_norm else nn.Identity())
        self.dropout = Dropout(config.dropout, locked=config.locked_dropout)
        self.chunk_frames = config.chunk_frames
        self.output = nn.Linear(width, vocabulary)

    def output_lengths(self, feat_lens: Tensor) -> Tensor:
        """(B,) int64 frames of log-probabilities for (B,) int64 feature frames."""
        return self.subsampling.lengths(feat_lens)

    def forward(self, feats: Tensor, feat_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode normalised log-mel frames.

        Padding is never read, so an utterance encodes identically alone or in a batch.

        Args:
            feats: (B, T, F) float32, normalised log-mel energy, right-padded.
            feat_lens: (B,) int64 on the CPU, valid frames, 1 <= len <= T.

        Returns:
            log_probs: (B, T', V) float32, normalised over V, in training and evaluation alike; rows at and after
                log_prob_lens are arbitrary.
            log_prob_lens: (B,) int64 on the CPU, equal to `self.output_lengths(feat_lens)`.

        Raises:
            ValueError: a length is outside 1..T; the message names the row.
        """
        log_probs, _, lens = self.heads(feats, feat_lens)
        return log_probs, lens

    def heads(self, feats: Tensor, feat_lens: Tensor, *, middle: bool = False) -> tuple[Tensor, Tensor | None, Tensor]:
        """`forward`, with the middle layer read through the output layer as well, for intermediate CTC.

        Args:
            feats, feat_lens: as in `forward`.
            middle: whether to read out the middle layer, which of L layers is layer L // 2, counted from 1.

        Returns:
            log_probs: as in `forward`.
            middle_log_probs: the same for the middle layer, or None.
            log_prob_lens: as in `forward`.

        Raises:
            ValueError: as in `forward`.
        """
        outside = (feat_lens < 1) | (feat_lens > feats.shape[1])
        if outside.any():
            row = int(outside.nonzero()[0])
            raise ValueError(f"feat_lens[{row}] is {int(feat_lens[row])}, outside 1..{feats.shape[1]}")
        middle_log_probs = None
        # Time comes first inside, as recurrent layers and CTC read it.
        hidden, lens = self.subsampling(feats, feat_lens)
        longest, batch = hidden.shape[:2]
        hidden, row_lens = in_chunks(hidden, lens, self._chunk(longest))
        for number, (layer, projection, norm) in enumerate(zip(self.layers, self.projections, self.norms, strict=True)):
            hidden = norm(projection(layer(self.dropout(hidden), row_lens)))
            if middle and number + 1 == len(self.layers) // 2:
                middle_log_probs = self._read_out(joined(hidden, batch, longest))
        return self._read_out(joined(hidden, batch, longest)), middle_log_probs, lens

    def _chunk(self, longest: int) -> int:
        """After how many frames states begin anew; drawn for each batch, within a quarter of `chunk_frames`."""
        if not (self.training and self.chunk_frames):
            return longest
        quarter = self.chunk_frames // 4
        return min(longest, self.chunk_frames + int(torch.randint(-quarter, quarter + 1, ())))

    def _read_out(self, hidden: Tensor) -> Tensor:
        """(T', B, width) hidden values -> (B, T', V) log-probabilities."""
        logits = self.output(self.dropout(hidden))
        return torch.log_softmax(logits.float(), dim=2).transpose(0, 1)
