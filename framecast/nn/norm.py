"""Layer norm of TensorFlow's contrib layers: statistics over everything but the batch."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import layer_norm

from framecast.nn.precision import autocast_off, widen


class LayerNorm(nn.GroupNorm):
    """Every sample with mean 0 and variance 1 over all its axes together, then a gain and a bias per channel.

    Args:
        channels: of maps (b, c, h, w), or the length of vectors (b, c).
        eps: added to the variance; it is tiny because a signal may be tiny too: the first cell of a new recurrent
            predictor has a variance near 1e-9, far below the usual 1e-5. For the same reason it
            always computes in float32.

    Source:
        tf.contrib.layers.layer_norm, with begin_norm_axis 1 and begin_params_axis -1.
    """

    def __init__(self, channels: int, eps: float = 1e-12) -> None:
        super().__init__(1, channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c) or (b, c, h, w), any float; float32 (float64 stays)."""
        with autocast_off(x):
            x = widen(x)
            if x.ndim == 2:  # the same by a kernel with fewer operations, above all in second derivatives
                return layer_norm(x, x.shape[1:], self.weight, self.bias, self.eps)
            return super().forward(x)
