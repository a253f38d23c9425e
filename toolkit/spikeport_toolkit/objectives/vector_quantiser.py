"""A codebook of patches: the VQ-VAE tokenizer of next-token prediction."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nmse import nmse
from .sharing import gathered

SMALL = 1e-5


class VectorQuantiser(nn.Module):
    """The nearest of `codes` vectors e_k in R^`dim` (van den Oord et al., VQ-VAE, arXiv 1711.00937):

        k(z) = argmin_k |z - e_k|,   L = |sg[e_k] - z|^2 beta  (+ |e_k - sg[z]|^2 without EMA)

    With `decay` gamma the codebook is an exponential moving average of what fell to it (appendix A.1), N_k the number
    and M_k the sum of those z:

        N_k <- gamma N_k + (1 - gamma) n_k,   M_k <- gamma M_k + (1 - gamma) sum z,   e_k = M_k / N_k

    The codebook starts from encodings of the first batch, and under EMA a code that hardly anything falls to
    (N_k < 1 / 100 of its even share) is set to an encoding of the batch, drawn by `rng`. Several processes count,
    sum and draw over the encodings of all, with generators in one state, so that their codebooks stay one.
    """

    codebook: Tensor
    size: Tensor
    total: Tensor
    started: Tensor

    def __init__(self, codes: int, dim: int, beta: float, decay: float | None):
        super().__init__()
        self.beta, self.decay = beta, decay
        codebook = torch.randn(codes, dim)
        self.register_buffer("codebook", codebook)
        self.learned = nn.Parameter(torch.zeros(codes, dim)) if decay is None else None
        self.register_buffer("size", torch.ones(codes))
        self.register_buffer("total", codebook.clone())
        self.register_buffer("started", torch.tensor(False))

    @property
    def vectors(self) -> Tensor:
        """e_k `[code, dim]`: the averages, or where the codebook started and what it has learned since."""
        return self.codebook if self.learned is None else self.codebook + self.learned

    def nearest(self, z: Tensor) -> Tensor:
        """Codes k `[vector]` of `z` `[vector, dim]`."""
        return torch.cdist(z.detach(), self.vectors.detach()).argmin(1)

    def forward(self, z: Tensor, rng: np.random.Generator, vectors: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """`z` `[vector, dim]` to (e_k with the gradient of z, k `[vector]`, L); all processes have `vectors`."""
        learning = self.training and torch.is_grad_enabled()
        everywhere = gathered(z.detach(), vectors or len(z)) if learning else z
        if learning and not self.started:
            self._set(torch.ones_like(self.size, dtype=torch.bool), everywhere, rng)
            self.started.fill_(True)
        codes = self.nearest(z)
        chosen = self.vectors[codes]
        loss = self.beta * F.mse_loss(z, chosen.detach())
        if self.decay is None:
            loss = loss + F.mse_loss(chosen, z.detach())
        elif learning:
            self._follow(everywhere, gathered(codes, len(everywhere)), rng)
        return z + (chosen - z).detach(), codes, loss

    @torch.no_grad()
    def _follow(self, z: Tensor, codes: Tensor, rng: np.random.Generator) -> None:
        assert self.decay is not None
        self.size.lerp_(torch.bincount(codes, minlength=len(self.size)).to(self.size), 1 - self.decay)
        self.total.lerp_(torch.zeros_like(self.total).index_add_(0, codes, z.to(self.total)), 1 - self.decay)
        self.codebook.copy_(self.total / self.size.clamp_min(SMALL).unsqueeze(1))
        self._set(self.size < 0.01 * len(z) / len(self.size), z, rng)

    @torch.no_grad()
    def _set(self, which: Tensor, z: Tensor, rng: np.random.Generator) -> None:
        """Codes `which` `[code]` become encodings drawn from `z`, as if their even share had fallen to them.

        No encoding is drawn twice where there are enough: between equal codes rounding would decide.
        """
        drawn = torch.from_numpy(rng.choice(len(z), len(which), replace=len(z) < len(which))).to(z.device)
        share = len(z) / len(which)
        self.codebook.copy_(torch.where(which.unsqueeze(1), z[drawn].to(self.codebook), self.codebook))
        self.size.masked_fill_(which, share)
        self.total.copy_(torch.where(which.unsqueeze(1), share * self.codebook, self.total))


class PatchTokenizer(nn.Module):
    """VQ-VAE over single patches: values -> hidden -> dim, quantised, and back, each way with one ReLU.

    Its loss is NMSE(decoded, patch) + the quantiser's L. Encodings have RMS 1, as in ViT-VQGAN (arXiv 2110.04627):
    without a norm they outgrow the codebook, which follows more slowly.
    """

    def __init__(self, values: int, codes: int, dim: int, beta: float, decay: float | None):
        super().__init__()
        hidden = max(values, 2 * dim)
        self.encode = nn.Sequential(nn.Linear(values, hidden), nn.ReLU(), nn.Linear(hidden, dim))
        self.quantise = VectorQuantiser(codes, dim, beta, decay)
        self.decode = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, values))

    @torch.no_grad()
    def codes(self, tokens: Tensor) -> Tensor:
        """Codes `[batch, token]` of tokens `[batch, token, value]`."""
        return self.quantise.nearest(self._encodings(tokens)).view(tokens.shape[:2])

    def forward(self, tokens: Tensor, rng: np.random.Generator, samples: int | None = None) -> tuple[Tensor, Tensor]:
        """Tokens `[batch, token, value]` to (codes `[batch, token]`, loss); `samples`: how many all processes have."""
        quantised, codes, loss = self.quantise(self._encodings(tokens), rng, (samples or len(tokens)) * tokens.shape[1])
        decoded = self.decode(quantised).view(tokens.shape)
        return codes.view(tokens.shape[:2]), loss + nmse(decoded, tokens).mean()

    def _encodings(self, tokens: Tensor) -> Tensor:
        z = self.encode(tokens.flatten(0, 1))
        return F.rms_norm(z.float(), z.shape[-1:])
