"""TR 38.901 channels have the standard's power, delays, Doppler and line of sight, and come out the same by seed."""

import numpy as np
import pytest
from scipy.special import j0

from spikeport_errors import InputError, MissingDependencyError, UsageError
from spikeport_toolkit.data import statistical
from spikeport_toolkit.data.statistical import CHUNK, MODELS, statistical_channels
from spikeport_toolkit.data.synthesis import SPEED_OF_LIGHT
from spikeport_toolkit.models.config import GridConfig

SMALL, WIDE = GridConfig(2, 4, 1), GridConfig(2, 4, 51)
SHIFT_HZ = 5 * 3.5e9 / SPEED_OF_LIGHT
"""The largest Doppler shift at 5 m/s."""


@pytest.fixture(scope="module")
def phy():
    try:
        with statistical._sionna() as found:
            return found
    except MissingDependencyError as error:
        pytest.skip(str(error))


def test_every_model_gives_finite_channels_on_the_grid(phy):
    for model in MODELS:
        made = statistical_channels(model, 2, SMALL, regime="R2", carrier_hz=3.5e9)
        assert made.h.shape == (2, 28, 4, 12)
        assert made.kind == "simulated"
        assert made.times_s[14] == pytest.approx(5e-3)
        assert not np.array_equal(made.h[0], made.h[1])


@pytest.mark.parametrize("model", ["tdl-c", "umi"])
def test_a_seed_gives_the_same_bits_and_more_links_keep_the_first(phy, model):
    few, again, many = (statistical_channels(model, n, SMALL, seed=7) for n in (3, 3, CHUNK + 3))
    np.testing.assert_array_equal(few.h, again.h)
    np.testing.assert_array_equal(few.h, many.h[:3])
    np.testing.assert_array_equal(few.los, many.los[:3])
    assert not np.array_equal(many.h[:3], many.h[CHUNK:])
    assert not np.array_equal(few.h, statistical_channels(model, 3, SMALL, seed=8).h)


def test_torchs_random_numbers_go_on_as_if_nothing_had_been_drawn(phy):
    phy.torch.manual_seed(1)
    expected = phy.torch.rand(3)
    phy.torch.manual_seed(1)
    statistical_channels("tdl-a", 1, SMALL)
    assert phy.torch.equal(phy.torch.rand(3), expected)


@pytest.mark.parametrize(("model", "spread_ns"), [("tdl-a", 100), ("cdl-a", 100), ("cdl-d", 100), ("tdl-c", 300)])
def test_profiles_have_unit_power_and_the_delay_spread_asked_for(phy, model, spread_ns):
    made = statistical_channels(model, 128, WIDE, regime="R1", delay_spread_s=spread_ns * 1e-9, seed=2)
    assert np.mean(np.abs(made.h) ** 2) == pytest.approx(1, abs=0.15)
    assert np.median(_delay_spread_s(made.h)) == pytest.approx(spread_ns * 1e-9, rel=0.1)
    assert (made.los == (model[-1] in "de")).all()


# TR 38.901 (2025, table 7.5-6): lg of the median delay spread, s, in line of sight and without; fc in GHz.
SPREADS = {
    "umi": (-0.18 * np.log10(1 + 3.5) - 7.28, -0.22 * np.log10(1 + 3.5) - 6.87),
    "uma": (-0.0794 * np.log10(3.5) - 7.067, -0.134 * np.log10(3.5) - 6.47),
    "rma": (-7.49, -7.43),
}


@pytest.mark.parametrize("model", SPREADS)
def test_drops_have_unit_power_and_the_standards_delay_spreads(phy, model):
    made = statistical_channels(model, 128, WIDE, regime="R1", seed=2)
    assert np.mean(np.abs(made.h) ** 2) == pytest.approx(1, abs=0.1)
    for flag, expected in zip((1, 0), SPREADS[model], strict=True):
        median = np.median(_delay_spread_s(made.h[made.los == flag]))
        # The draws' sigma is 0.35 to 0.57 decades; the band is three standard errors of the median of 35 links.
        assert np.log10(median) == pytest.approx(expected, abs=0.3)


def test_line_of_sight_comes_with_the_standards_probability(phy):
    made = statistical_channels("umi", 320, SMALL, regime="R1", seed=4)
    d = np.sqrt(np.linspace(10**2, 100**2, 10_001))
    near = np.minimum(18 / d, 1)
    assert made.los.mean() == pytest.approx(np.mean(near + np.exp(-d / 36) * (1 - near)), abs=0.07)


def test_tdl_fades_as_jakes_says(phy):
    made = statistical_channels("tdl-a", 64, GridConfig(4, 4, 6), regime="R2", speed_m_s=(5, 5), seed=1)
    power = np.mean(np.abs(made.h) ** 2)
    for step in (7, 14, 28, 42):
        correlation = np.mean(made.h[:, step] * made.h[:, 0].conj()) / power
        assert correlation == pytest.approx(j0(2 * np.pi * SHIFT_HZ * made.times_s[step]), abs=0.08)


@pytest.mark.parametrize(("velocity", "share"), [((-5, 0, 0), 1), ((5, 0, 0), -1), ((0, 5, 0), 0)])
def test_moving_towards_the_line_of_sight_raises_the_frequency(phy, monkeypatch, velocity, share):
    """CDL-D's line of sight arrives from -x at a zenith of 81.5 degrees."""
    monkeypatch.setattr(statistical, "_velocity", lambda rng, speed: np.tile(np.float32(velocity), (CHUNK, 1)))
    h = statistical_channels("cdl-d", CHUNK, SMALL, regime="R1").h
    shift = np.angle(np.sum(h[:, 1:] * h[:, :-1].conj())) / (2 * np.pi) * 28e3
    assert shift == pytest.approx(share * SHIFT_HZ * np.sin(np.deg2rad(81.5)), abs=5)


def test_the_frequency_response_is_sionnas_own(phy):
    from sionna.phy.channel import cir_to_ofdm_channel

    rng = np.random.default_rng(0)
    a = (rng.standard_normal((3, 2, 2, 5, 6)) + 1j * rng.standard_normal((3, 2, 2, 5, 6))).astype(np.complex64)
    tau = np.sort(rng.uniform(0, 1e-6, (3, 5)), axis=1)
    tau[:, 0] = 0
    frequencies = (np.arange(24) - 12) * 30e3
    ours = statistical._response(a, tau, frequencies)
    torch = phy.torch
    theirs = cir_to_ofdm_channel(
        torch.tensor(frequencies, dtype=torch.float32), torch.tensor(a)[:, None, :, None],
        torch.tensor(tau, dtype=torch.float32)[:, None, None],
    )  # fmt: skip
    theirs = np.moveaxis(theirs[:, 0, :, 0].numpy(), 3, 1).reshape(ours.shape)
    assert 10 * np.log10(np.sum(np.abs(ours - theirs) ** 2) / np.sum(np.abs(theirs) ** 2)) < -100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "cdl-f"}, "did you mean 'cdl-"),
        ({"regime": "R3"}, "unknown regime"),
        ({"links": 0}, "at least 1"),
        ({"rx": 4}, "8 antenna pairs, the grid has 4"),
        ({"carrier_hz": 1e3}, "0.5 to 100 GHz"),
        ({"model": "rma", "carrier_hz": 60e9}, "RMa to 30 GHz"),
        ({"speed_m_s": (5, 1)}, "lowest, highest"),
        ({"delay_spread_s": float("nan")}, "at most 10 us"),
    ],
)
def test_wrong_numbers_are_refused_before_sionna_is_imported(options, message):
    with pytest.raises((InputError, UsageError), match=message):
        statistical_channels(**{"model": "tdl-a", "links": 1, "grid": SMALL} | options)


def _delay_spread_s(h):
    """RMS delay spread of each link, s, from 1 - |R(df)|^2 = (2 pi df spread)^2, R the correlation over frequency."""
    a, b, axes = h[..., 1:].astype(np.complex128), h[..., :-1].astype(np.complex128), (1, 2, 3)
    powers = np.sum(np.abs(a) ** 2, axes) * np.sum(np.abs(b) ** 2, axes)
    r2 = np.abs(np.sum(a * b.conj(), axes)) ** 2 / powers
    return np.sqrt(1 - r2) / (2 * np.pi * 30e3)
