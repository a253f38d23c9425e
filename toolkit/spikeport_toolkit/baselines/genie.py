"""Genie LMMSE: the limit. It is told every path of the link, how it moves, and the noise; only the phases it is not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spikeport_errors import InputError

from ..data.sampler import Batch, Geometry
from ..data.synthesis import PathFactors, path_factors

__all__ = ["adjoint_of", "estimate_paths", "genie", "genie_error", "gram_of", "known_paths"]


ROUNDING = 1e-13
"""Power of the rounding of single-precision channels, relative to theirs: noise that is always there."""


def genie(batch: Batch) -> NDArray[np.complex64]:
    """The prediction of someone who knows delays, angles, Doppler shifts and powers of all paths, but not their phases.

    A link is H = A g, with a column a_p = time_p (x) space_p (x) frequency_p of A per path. Observed is y = A_o g + n.
    Told to the genie, per sample: A_o and A_w (of the slots wanted), the powers |g_p|^2, and the noise's covariance R.
    Not told: the phases of g, which it takes as independent and uniform, so that C = diag |g_p|^2. Then

        H_hat = A_w C^(1/2) (I + M)^-1 C^(1/2) A_o^H R^-1 y,   M = C^(1/2) A_o^H R^-1 A_o C^(1/2)

    is the linear estimate of least mean square error, in P <= 25 unknowns. R is s I for thermal noise. Co-channel
    users count as Gaussian with the channels they really have (R then has one block of receive antennas for each
    resource element), their symbols unknown.

    Why it is a limit. It has the least E |H_hat - H|^2 of all estimators, linear or not, if the gains are complex
    Gaussian, and of all linear ones in any case; whoever is told less (not the geometry, as all other methods here)
    cannot gain by that. Two things it leaves: |g_p| itself, not only its mean square, is what it was told, and an
    estimate of the phases alone would gain up to 3.0 dB at high SNR (half the real unknowns); but no receiver is told
    amplitudes, it must measure them in the same samples. And the metric divides by each sample's own power, for which
    the posterior mean is not exactly best. So the tests ask every method to stay more than 3 dB above, and
    docs/baselines.md prints how near the nearest comes.

    The receiver's hardware comes after the noise, so the genie looks before it: what hardware adds can only hurt the
    others (data processing inequality). InputError where the paths are not known or the noise was measured.
    """
    if batch.geometry is None or batch.unimpaired is None or batch.noise_power is None:
        raise InputError("genie needs the path parameters of each link, and these channels were stored without them")
    if not batch.white:
        raise InputError("genie needs the covariance of the noise, and that of measured noise is not known")
    observed, wanted = _parts(batch)
    projected, gram = _whitened(batch, observed)
    return estimate_paths(projected, gram, wanted)


def estimate_paths(
    projected: NDArray[np.complex128], gram: NDArray[np.complex128], wanted: PathFactors
) -> NDArray[np.complex64]:
    """A_w g_hat `[batch, time, antenna, frequency]` from A_o^H R^-1 y `[batch, path]` and A_o^H R^-1 A_o."""
    amplitude = np.abs(wanted.gain).astype(np.float64)
    system = amplitude[:, :, None] * gram * amplitude[:, None, :] + np.eye(gram.shape[1])
    gains = amplitude * np.linalg.solve(system, (amplitude * projected)[..., None])[..., 0]
    space = (wanted.space * gains[:, None]).transpose(0, 2, 1)[..., None] * wanted.frequency[:, :, None]
    flat = wanted.time.astype(np.complex128) @ space.reshape(*gains.shape, -1)
    return np.asarray(flat.reshape(len(gains), -1, wanted.space.shape[1], wanted.frequency.shape[2]), np.complex64)


def genie_error(batch: Batch) -> NDArray[np.float64]:
    """Expected squared error of `genie` over phases and noise, per sample, over the expected power of what is wanted.

    tr(A_w C^(1/2) (I + M)^-1 C^(1/2) A_w^H) / tr(A_w C A_w^H): with P well separated paths, N_o observed values and a
    high SNR, P / (N_o SNR).
    """
    observed, wanted = _parts(batch)
    _, gram = _whitened(batch, observed)
    amplitude = np.abs(wanted.gain).astype(np.float64)
    system = amplitude[:, :, None] * gram * amplitude[:, None, :] + np.eye(gram.shape[1])
    target = amplitude[:, :, None] * gram_of(wanted) * amplitude[:, None, :]
    error = np.trace(np.linalg.solve(system, target), axis1=1, axis2=2).real
    return np.asarray(error / np.trace(target, axis1=1, axis2=2).real)


def known_paths(known: Geometry, times_s: NDArray[np.float64]) -> PathFactors:
    """The factors of A at `times_s`, as many columns as the link with most paths has."""
    width = int(known.paths.n_paths[known.users].max())
    f = path_factors(
        known.paths, known.users, times_s, known.frequencies_hz, known.velocity,
        rx=known.rx, tx=known.tx, align_delays=known.align_delays,
    )  # fmt: skip
    return PathFactors(f.gain[:, :width], f.time[..., :width], f.space[..., :width], f.frequency[:, :width])


def _parts(batch: Batch) -> tuple[PathFactors, PathFactors]:
    assert batch.geometry is not None
    return known_paths(batch.geometry, batch.times_observed), known_paths(batch.geometry, batch.times_predicted)


def gram_of(factors: PathFactors) -> NDArray[np.complex128]:
    """A^H A `[batch, path, path]`: the products of the factors' own, since the columns are Kronecker products."""
    time, space = (x.astype(np.complex128) for x in (factors.time, factors.space))
    frequency = factors.frequency.astype(np.complex128)
    by_axis = [x.conj().transpose(0, 2, 1) @ x for x in (time, space)]
    return np.asarray(by_axis[0] * by_axis[1] * (frequency.conj() @ frequency.transpose(0, 2, 1)))


def _whitened(batch: Batch, factors: PathFactors) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """A^H R^-1 y `[batch, path]` and A^H R^-1 A `[batch, path, path]`."""
    assert batch.unimpaired is not None
    assert batch.noise_power is not None
    rounding = ROUNDING * np.mean(np.abs(batch.unimpaired) ** 2, axis=(1, 2, 3))
    noise = (batch.noise_power + rounding)[:, None]
    if not batch.interferers:
        return adjoint_of(factors, batch.unimpaired) / noise, gram_of(factors) / noise[..., None]
    projected, grams = [], []
    for link in range(len(noise)):
        columns = factors.time[link][:, None, :, None] * factors.space[link][None, :, :, None]
        columns = columns * factors.frequency[link]  # [time, antenna, path, frequency]
        inverse = _inverse(batch, link)
        weighted = _by_receiver(inverse, columns)
        grams.append(np.einsum("tapf,taqf->pq", columns.conj(), weighted, optimize=True))
        y = _by_receiver(inverse, batch.unimpaired[link][:, :, None])[:, :, 0]
        projected.append(np.einsum("tapf,taf->p", columns.conj(), y, optimize=True))
    return np.stack(projected).astype(np.complex128), np.stack(grams).astype(np.complex128)


def adjoint_of(factors: PathFactors, y: NDArray[np.complex64]) -> NDArray[np.complex128]:
    """A^H y `[batch, path]`, one axis after another."""
    # In double precision: at a high SNR, paths that lie close together magnify every rounding of this product.
    batch, times, antennas, _ = y.shape
    frequency = factors.frequency.astype(np.complex128).conj().transpose(0, 2, 1)
    in_delay = y.astype(np.complex128).reshape(batch, times * antennas, -1) @ frequency
    in_space = (in_delay.reshape(batch, times, antennas, -1) * factors.space.conj()[:, None]).sum(2)
    return np.asarray((in_space * factors.time.conj()).sum(1), np.complex128)


def _inverse(batch: Batch, link: int) -> NDArray[np.complex64]:
    """R^-1 of one link, `[receiver, receiver, time, transmitter, frequency]`."""
    assert batch.noise_power is not None
    others = np.stack([other[link] for other in batch.interferers])
    split = _split(others)
    blocks = np.einsum("utmnf,utlnf->tnfml", split, split.conj())
    blocks = blocks + batch.noise_power[link] * np.eye(split.shape[2])
    return np.linalg.inv(blocks).transpose(3, 4, 0, 1, 2).astype(np.complex64)


def _by_receiver(inverse: NDArray[np.complex64], columns: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """R^-1 times `columns` `[time, antenna, column, frequency]`: it mixes the receive antennas m of each element."""
    times, _, count, tones = columns.shape
    split = columns.reshape(times, inverse.shape[0], -1, count, tones)
    mixed = np.stack(
        [sum(inverse[m, k][:, :, None] * split[:, k] for k in range(len(inverse))) for m in range(len(inverse))], 1
    )
    return np.asarray(mixed.reshape(columns.shape), np.complex64)


def _split(channel: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Antenna axis 2 as [receiver, transmitter]: 2 x 2, as the sampler's."""
    user, times, antennas, tones = channel.shape
    return channel.reshape(user, times, antennas // 2, 2, tones)
