"""An encoder over features that come in pieces.

A unidirectional encoder carries its state from chunk to chunk and gives what it gives offline, to 1e-5. A bidirectional
one needs to hear what comes next: it is run over a chunk and a look-ahead after it, with the forward states carried on
and the backward ones begun anew at the end of the look-ahead (latency-controlled BLSTM: Zhang et al. 2016).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.encoder import Encoder, RecurrentLayer, State


class EncoderStream:
    """Encodes one utterance piece by piece: (T, F) normalised features, however cut -> log-probabilities.

    Args:
        encoder: in evaluation mode.
        chunk: frames of log-probabilities that a bidirectional encoder decides at once; a unidirectional one takes what
            it gets.
        look_ahead: frames after the chunk that it hears first.
    """

    def __init__(self, encoder: Encoder, *, chunk: int = 1, look_ahead: int = 0) -> None:
        self.encoder = encoder
        self.chunk = chunk
        self.look_ahead = look_ahead
        self._layers = [layer for layer in encoder.layers if isinstance(layer, RecurrentLayer)]
        self._both = self._layers[0].cell.bidirectional
        self._convolutions = [_ConvolutionStream(convolution) for convolution in encoder.subsampling.convolutions]
        self._waiting = encoder.output.weight.new_zeros(0, 1, encoder.subsampling.linear.out_features)
        self._states: list[State | None] = [None] * len(self._layers)

    @torch.inference_mode()
    def accept(self, feats: Tensor) -> Tensor:
        """Take (T, F) frames; returns the (T', V) natural-log probabilities that they decide, perhaps none."""
        return self._advance(self._subsampled(feats, at_end=False), at_end=False)

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The last (T', V) natural-log probabilities: of the frames that still waited for more."""
        return self._advance(self._subsampled(None, at_end=True), at_end=True)

    def _subsampled(self, feats: Tensor | None, *, at_end: bool) -> Tensor:
        """(T', 1, width) hidden frames."""
        maps = None if feats is None else feats.unsqueeze(0).unsqueeze(0)
        for convolution in self._convolutions:
            maps = convolution.accept(maps, at_end=at_end)
        if maps is None:
            return self._waiting[:0]
        hidden: Tensor = self.encoder.subsampling.linear(maps.permute(2, 0, 1, 3).flatten(2))
        return hidden

    def _advance(self, hidden: Tensor, *, at_end: bool) -> Tensor:
        self._waiting = torch.cat([self._waiting, hidden])
        given = []
        while self._both and len(self._waiting) >= self.chunk + self.look_ahead:
            given.append(self._run(self._waiting[: self.chunk + self.look_ahead], self.chunk))
            self._waiting = self._waiting[self.chunk :].clone()
        if len(self._waiting) and (at_end or not self._both):
            given.append(self._run(self._waiting, len(self._waiting)))
            self._waiting = self._waiting[:0]
        return torch.cat(given) if given else hidden.new_zeros(0, self.encoder.output.out_features)

    def _run(self, hidden: Tensor, count: int) -> Tensor:
        """Log-probabilities of the first `count` frames; states go on after those."""
        encoder = self.encoder
        for place, (layer, projection, norm) in enumerate(
            zip(self._layers, encoder.projections, encoder.norms, strict=True)
        ):
            outputs, self._states[place] = layer.advance(hidden[:count], self._states[place])
            if self._both:
                if count < len(hidden):
                    outputs = torch.cat([outputs, layer.advance(hidden[count:], self._states[place])[0]])
                backward = layer.advance(hidden.flip(0), None, reverse=True)[0].flip(0)
                outputs = torch.cat([outputs, backward], dim=2)
            hidden = norm(projection(outputs))
        return torch.log_softmax(encoder.output(hidden[:count, 0]).float(), dim=1)


class _ConvolutionStream:
    """A convolution and its ReLU over frames that come in pieces, with zeros before and after them all, as offline."""

    def __init__(self, convolution: nn.Module) -> None:
        assert isinstance(convolution, nn.Conv2d)
        self.convolution = convolution
        self._kept: Tensor | None = None  # frames from the first one that the next output reads

    def accept(self, maps: Tensor | None, *, at_end: bool) -> Tensor | None:
        """(1, C, T, F) maps -> (1, C', T', F'), None for none."""
        parts = [part for part in (self._kept, maps) if part is not None]
        if not parts:
            return None
        edge = parts[0].new_zeros(*parts[0].shape[:2], 1, parts[0].shape[3])
        if self._kept is None:
            parts.insert(0, edge)
        if at_end:
            parts.append(edge)
        inputs = torch.cat(parts, dim=2)
        convolution, stride = self.convolution, int(self.convolution.stride[0])
        count = max(0, (inputs.shape[2] - 3) // stride + 1)
        self._kept = inputs[:, :, count * stride :].clone()
        if not count:
            return None
        read = inputs[:, :, : (count - 1) * stride + 3]
        return functional.conv2d(
            read, convolution.weight, convolution.bias, stride=convolution.stride, padding=(0, 1)
        ).relu_()
