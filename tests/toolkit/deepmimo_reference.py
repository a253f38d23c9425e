"""Channels as DeepMIMO's own packages give them: test_deepmimo runs this in the environment `deepmimo`.

python deepmimo_reference.py 3|4 FOLDER STATION OUT.npz: every user with a path, 2 x 2 antennas, 32 tones of 30 kHz.
"""

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

SUBCARRIERS, SPACING_HZ = 32, 30e3
TIMES = np.arange(14) / 28e3


def v3(folder: Path, station: int) -> dict[str, np.ndarray]:
    import DeepMIMOv3

    params = DeepMIMOv3.default_params()
    params |= {"dataset_folder": str(folder.parent), "scenario": folder.name, "num_paths": 25}
    params |= {"active_BS": np.array([station]), "user_rows": np.arange(200), "enable_BS2BS": 0}
    params["bs_antenna"] |= {"shape": np.array([2, 1])}
    params["ue_antenna"] |= {"shape": np.array([2, 1])}
    params["OFDM"] |= {"subcarriers": SUBCARRIERS, "selected_subcarriers": np.arange(SUBCARRIERS)}
    params["OFDM"] |= {"bandwidth": SUBCARRIERS * SPACING_HZ / 1e9}
    grids = __import__("scipy.io").io.loadmat(folder / "params.mat")["user_grids"].astype(int)
    params["user_rows"] = np.arange(grids[0, 0] - 1, grids[-1, 1])
    data = DeepMIMOv3.generate_data(params)[0]["user"]
    return {"channel": data["channel"], "los": data["LoS"]}


def v4(folder: Path, station: int) -> dict[str, np.ndarray]:
    import deepmimo

    Path("deepmimo_scenarios").mkdir()
    Path("deepmimo_scenarios", folder.name).symlink_to(folder)
    loaded = deepmimo.load(folder.name)
    sets = {s.id: s.id_orig for s in deepmimo.get_txrx_sets(folder.name)}
    data = next(d for d in loaded.datasets if sets[d.txrx["tx_set_id"]] == station)
    params = deepmimo.ChannelParameters()
    params.bs_antenna.shape = params.ue_antenna.shape = np.array([2, 1])
    params.ofdm.subcarriers, params.ofdm.bandwidth = SUBCARRIERS, SUBCARRIERS * SPACING_HZ
    params.ofdm.selected_subcarriers, params.num_paths = np.arange(SUBCARRIERS), 25
    still = data.compute_channels(params)
    rng = np.random.default_rng(1)
    velocity = np.column_stack([rng.uniform(-5, 5, (data.n_ue, 2)), np.zeros(data.n_ue)])
    # deepmimo 4.0.5 turns the arrival's direction about the x axis and negates it: its Doppler is the true one of a
    # user whose x velocity is reversed. The velocity given here is reversed so that both mean the same motion.
    data.rx_vel, params.doppler = velocity * [-1, 1, 1], True
    moving = data.compute_channels(params, times=TIMES)
    return {"channel": still, "los": data.los, "moving": moving, "velocity": velocity}


if __name__ == "__main__":
    version, folder, station, out = (
        sys.argv[1],
        Path(sys.argv[2]).resolve(),
        int(sys.argv[3]),
        Path(sys.argv[4]).resolve(),
    )
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(scratch)
        arrays = {"3": v3, "4": v4}[version](folder, station)
        served = np.flatnonzero(arrays["los"] >= 0)
        arrays = {k: v if k == "los" else v[served] for k, v in arrays.items()}
        np.savez(out, **arrays)
        os.chdir("/")
