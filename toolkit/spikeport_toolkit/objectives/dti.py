"""Domain transformation: give the channel over beams and delays from its form over antennas and frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..data.sampler import Batch
from .corruption import filler
from .encoder import encoder_of, noisy_tokens, tokens_of, values_of
from .objective import Objective
from .views import angle_delay


@dataclass(frozen=True)
class DomainTransform(Objective):
    """LWLM's DTI (arXiv 2505.10134): complex cosine between the decoded tokens Y and the channel A over beams and
    delays (objectives/views.py, angle_delay), blind to a common phase and to scale:

        L = 1 - mean_b |<A, Y>| / (|A| |Y|)

    With u and v the tokens of A and of jA, <A, Y> has the real part u . y and the imaginary part v . y for the real
    vector y of all decoded values. A decoder of its own, `decoder_layers` transformer layers and a linear map, reads
    the encoder's features. With `noise_snr` the input is noisy.
    """

    name: ClassVar[str] = "domain-transform"

    decoder_layers: int = 1
    noise_snr: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._within("decoder_layers", 1, 32)
        self._snr("noise_snr")

    def parts(self, model: nn.Module) -> nn.Module:
        """The decoder to beams and delays."""
        encoder = encoder_of(model)
        d = encoder.mask_token.shape[-1]
        return nn.ModuleDict({"fill": filler(encoder, self.decoder_layers), "decode": nn.Linear(d, values_of(encoder))})

    def loss(self, model: nn.Module, parts: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Mean over the batch."""
        encoder = encoder_of(model)
        assert isinstance(parts, nn.ModuleDict)
        tokens, _ = noisy_tokens(model, batch.clean, self.noise_snr, rng)
        y = parts["decode"](parts["fill"](encoder.encode(encoder.embed(tokens)))).flatten(1)
        beams = angle_delay(batch.clean)
        u, v = (tokens_of(model, np.asarray(turn * beams, np.complex64)).flatten(1) for turn in (1, 1j))
        inner = torch.hypot((u * y).sum(1), (v * y).sum(1))
        loss: Tensor = 1 - (inner / (u.norm(dim=1) * y.norm(dim=1)).clamp_min(1e-12)).mean()
        return loss
