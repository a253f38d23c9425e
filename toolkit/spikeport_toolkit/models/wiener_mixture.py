"""A mixture of Wiener filters: channel prediction from physics alone, without being told SNR, speed or slot spacing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..baselines.wiener import delay_covariance, speed_covariance
from ..data.sampler import SLOT_START_S, SUBCARRIER_SPACING_HZ, symbol_times
from .config import SYMBOLS_PER_SLOT, GridConfig

CARRIER_HZ = 3.5e9
SPEEDS_M_S = ((0.1, 0.3), (0.3, 0.7), (0.7, 1.2), (1.2, 1.8), (1.8, 2.5), (2.5, 3.2), (3.2, 4.1), (4.1, 5.0))
"""Arrivals from all around (Jakes' spectrum) at speeds uniform in each range."""
LINES_HZ = tuple((float(c), 5.0) for c in np.linspace(-58, 58, 13)) + tuple(
    (float(c), 15.0) for c in np.linspace(-58, 58, 7)
)
"""Arrivals from one side: Doppler uniform in centre +- half width; 58 Hz is 5 m/s at 3.5 GHz."""
DELAYS_S = (0.03e-6, 0.1e-6, 0.3e-6, 0.8e-6)
SNRS_DB = tuple(range(-12, 36, 4))
TEMPERING = 0.3
"""Exponent of the likelihood: few paths are not Gaussian, so 1 is overconfident. Of 1, 0.3 and 0.1 it has the lowest
mean NMSE in dB over SNRs and slot spacings on the training cities."""
_CUT = 1e-6
"""Eigenvalues of the mean covariance below this part of the largest are noise under every hypothesis."""


class WienerMixture(nn.Module):
    """Minimum-mean-square-error prediction under a mixture of separable Gaussian priors.

    Hypothesis h says: slot spacing, Doppler spectrum, delay profile and SNR; its prior is separable, so with the
    eigenvectors U, V and eigenvalues l_t, l_f of its covariances over observed symbols and subcarriers,
    W = U^H Y conj(V) of one antenna's observation Y (scaled to power 1 = p + s2, p / s2 = SNR) has independent
    entries of variance D = p l_t l_f + s2, and

        log P(Y | h) = - sum log D - sum |W|^2 / D - (energy outside U, V) / s2 + const
        w_h          = softmax(0.3 log P(Y | h)),   summed over antennas
        H_hat        = sum_h w_h R_t(pred, obs) U (p l_f / D o W) V^T
        e^2          = sum_h w_h (error variance of H_hat under h)

    No number of it is trained. All hypotheses of one spacing span the same symbols' space, and all delay profiles the
    same subcarriers' space, so every sum above is one of positive terms: float32 is enough. Lower precision is not: it
    stays in float32 in every precision of the network around it.

    `spacings` holds, for each slot spacing to consider, the times of all symbols in s; the last `predicted` of them are
    wanted. There are `antennas` links that move alike, and `tones` subcarriers `spacing_hz` apart.
    """

    keep_float = True
    from_frequency: Tensor
    """[2 F, 2 L], the conjugate V of all delay profiles side by side."""
    to_frequency: Tensor
    """[2 L, 2 F], V transposed."""
    project_frequency: Tensor
    """[2 F, 2 F], onto the space of all V."""

    def __init__(
        self,
        spacings: tuple[tuple[float, ...], ...],
        predicted: int,
        antennas: int,
        tones: int,
        carrier_hz: float = CARRIER_HZ,
        spacing_hz: float = SUBCARRIER_SPACING_HZ,
    ):
        super().__init__()
        delays = _bases([delay_covariance(tones, spacing_hz, delay) for delay in DELAYS_S], tones)
        side_by_side = np.hstack(list(delays.vectors))
        _keep(self, "from_frequency", _real(side_by_side.conj().T).T)
        _keep(self, "to_frequency", _real(side_by_side).T)
        _keep(self, "project_frequency", _real(delays.vectors[0] @ delays.vectors[0].conj().T).T)
        self.spacings = nn.ModuleList(
            _Spacing(np.asarray(times), predicted, antennas, tones, carrier_hz, delays) for times in spacings
        )

    def forward(self, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Real, then imaginary parts at RMS 1, `[batch, 2 T_obs, antenna, tone]`, to the prediction and e `[batch]`.

        The prediction is `[batch, 2 T_pred, antenna, tone]`, real, then imaginary parts.
        """
        b, _, a, tones = observed.shape
        flat, spacings = observed.flatten(2), [cast(_Spacing, spacing) for spacing in self.spacings]
        rotated, scores = [], []
        for spacing in spacings:
            w = _split(spacing.from_time @ flat, a) @ self.from_frequency  # [b, K, antenna, re/im x L]
            inside = _joined(_split(spacing.project_time @ flat, a) @ self.project_frequency)
            outside = (flat - inside).square().sum((1, 2))
            rotated.append(w)
            scores.append(spacing.score(w, outside))
        weights = (TEMPERING * torch.cat([score.flatten(1) for score in scores], 1)).softmax(1)
        parts, errors = [], []
        sizes = [score[0].numel() for score in scores]
        for spacing, w, weight in zip(spacings, rotated, weights.split(sizes, 1), strict=True):
            x = spacing.gained(w, weight) @ self.to_frequency
            parts.append(spacing.to_time @ _joined(x))
            errors.append((weight * spacing.error.flatten()).sum(1))
        predicted = torch.stack(parts).sum(0).unflatten(2, (a, tones))
        return predicted, torch.stack(errors).sum(0).sqrt().view(b)


class _Spacing(nn.Module):
    """The hypotheses of one slot spacing: Doppler spectra x delay profiles x SNRs; r x q vectors span each."""

    from_time: Tensor
    """[2 K, 2 T_obs], the conjugate U of all Doppler hypotheses, K = Doppler x r."""
    to_time: Tensor
    """[2 T_pred, 2 K], R_t(pred, obs) U."""
    project_time: Tensor
    """[2 T_obs, 2 T_obs], onto the space of all U."""
    precision: Tensor
    """[Doppler x delay, r q, SNR], 1 / D."""
    gain: Tensor
    """[Doppler x delay, SNR, r q], p l_f / D."""
    offset: Tensor
    """[Doppler x delay, 1, SNR], - antennas sum log D."""
    inverse_noise: Tensor
    """[SNR], 1 / s2."""
    error: Tensor
    """[Doppler x delay, 1, SNR], e^2."""

    def __init__(
        self,
        times_s: NDArray[np.float64],
        predicted: int,
        antennas: int,
        tones: int,
        carrier_hz: float,
        delays: _Bases,
    ):
        super().__init__()
        observed = len(times_s) - predicted
        time = _bases(_doppler(times_s, carrier_hz), observed)
        ahead = np.hstack(list(time.ahead))
        _keep(self, "from_time", _real(np.hstack(list(time.vectors)).conj().T))
        _keep(self, "to_time", _real(ahead))
        _keep(self, "project_time", _real(time.vectors[0] @ time.vectors[0].conj().T))
        noise = 1 / (1 + 10 ** (np.asarray(SNRS_DB) / 10))
        power = 1 - noise
        signal = np.einsum("s,tr,fq->tfsrq", power, time.values, delays.values)
        variance = signal + noise[:, None, None]
        lost = observed * tones - time.values.shape[1] * delays.values.shape[1]
        reach = np.einsum("ptr,fq->tfrq", np.square(np.abs(time.ahead)).transpose(1, 0, 2), delays.values**2)
        explained = (power[:, None, None] ** 2 * reach[:, :, None] / variance).sum((3, 4)) / (predicted * tones)
        gain = power[:, None, None] * delays.values[None, :, None, None] / variance
        offset = -antennas * (np.log(variance).sum((3, 4)) + lost * np.log(noise))
        _keep(self, "precision", _pairs(1 / variance).swapaxes(1, 2))
        _keep(self, "gain", _pairs(gain))
        _keep(self, "offset", offset.reshape(-1, 1, len(noise)))
        _keep(self, "inverse_noise", 1 / noise)
        _keep(self, "error", np.maximum(power - explained, 1e-12).reshape(-1, 1, len(noise)))
        self.shape = (*time.values.shape, *delays.values.shape)

    def score(self, w: Tensor, outside: Tensor) -> Tensor:
        """log P `[batch, Doppler x delay, 1, SNR]` of W `[batch, K, antenna, re/im x L]`."""
        energy = w.unflatten(3, (2, -1)).square().sum((2, 3))  # [batch, Doppler x r, delay x q]
        inside = self._by_pair(energy).unsqueeze(2) @ self.precision
        score: Tensor = self.offset - inside - outside.view(-1, 1, 1, 1) * self.inverse_noise
        return score

    def gained(self, w: Tensor, weight: Tensor) -> Tensor:
        """W times the gains mixed by `weight` `[batch, hypothesis]`."""
        doppler, r, delay, q = self.shape
        mixed = weight.unflatten(1, (doppler * delay, 1, -1)) @ self.gain
        gain = mixed.view(-1, doppler, delay, r, q).transpose(2, 3).reshape(-1, doppler * r, 1, 1, delay * q)
        gained: Tensor = (w.unflatten(3, (2, -1)) * gain).flatten(3)
        return gained

    def _by_pair(self, energy: Tensor) -> Tensor:
        doppler, r, delay, q = self.shape
        return energy.view(-1, doppler, r, delay, q).transpose(2, 3).reshape(-1, doppler * delay, r * q)


@dataclass(frozen=True, eq=False)
class _Bases:
    """Eigenvalues [h, r], eigenvectors [h, T_obs, r] and R(pred, obs) U [h, T_pred, r] of covariances with one span."""

    values: NDArray[np.float64]
    vectors: NDArray[np.complex128]
    ahead: NDArray[np.complex128]


def grid_mixture(grid: GridConfig) -> WienerMixture:
    """The mixture for a token grid: slots that follow each other (R1) or stand 5 ms apart (R2), at 3.5 GHz."""
    spacings = tuple(tuple(symbol_times(grid, regime).tolist()) for regime in SLOT_START_S)
    return WienerMixture(spacings, grid.predicted_slots * SYMBOLS_PER_SLOT, grid.antennas, grid.subcarriers)


def _doppler(times_s: NDArray[np.float64], carrier_hz: float) -> list[NDArray[np.complex128]]:
    """Covariances over time of every Doppler hypothesis; the lines scale with the carrier."""
    lag, scale = times_s[:, None] - times_s, carrier_hz / CARRIER_HZ
    jakes = [speed_covariance(times_s, carrier_hz, speeds) + 0j for speeds in SPEEDS_M_S]
    lines = [np.exp(2j * np.pi * scale * f * lag) * np.sinc(2 * scale * half * lag) for f, half in LINES_HZ]
    return jakes + lines


def _bases(covariances: list[NDArray[np.complex128]], observed: int) -> _Bases:
    """Eigenvectors of each covariance within the space that the mean of all of them fills."""
    value, vector = np.linalg.eigh(np.mean(covariances, axis=0)[:observed, :observed])
    span = vector[:, value > _CUT * value[-1]]
    values, vectors = np.linalg.eigh(np.stack([span.conj().T @ r[:observed, :observed] @ span for r in covariances]))
    turned = span @ vectors
    ahead = np.stack([r[observed:, :observed] for r in covariances]) @ turned
    return _Bases(np.maximum(values, 0), turned, ahead)


def _pairs(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """[Doppler, delay, SNR, r, q] as [Doppler x delay, SNR, r q]."""
    return value.reshape(value.shape[0] * value.shape[1], value.shape[2], -1)


def _split(stacked: Tensor, antennas: int) -> Tensor:
    """`[batch, re/im x K, antenna x F]` as `[batch, K, antenna, re/im x F]`."""
    split: Tensor = stacked.unflatten(2, (antennas, -1)).unflatten(1, (2, -1)).permute(0, 2, 3, 1, 4).flatten(3)
    return split


def _joined(split: Tensor) -> Tensor:
    """Inverse of _split."""
    joined: Tensor = split.unflatten(3, (2, -1)).permute(0, 3, 1, 2, 4).flatten(1, 2).flatten(2)
    return joined


def _keep(module: nn.Module, name: str, value: NDArray[np.float64]) -> None:
    module.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value, np.float32)), persistent=False)


def _real(matrix: NDArray[np.complex128]) -> NDArray[np.float64]:
    """The real matrix that acts on (re, im) stacked as `matrix` acts on complex columns."""
    return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])
