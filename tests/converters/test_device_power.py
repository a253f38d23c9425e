"""What the runner reads of a Jetson: recorded tegrastats lines, and rails, mode and clocks in sysfs."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

import jetson_root as fake
import pytest

sys.path.append(str(Path(str(find_spec("spikeport_converters").origin)).parent))
device = importlib.import_module("runner.device")
power = importlib.import_module("runner.power")


@pytest.mark.parametrize(
    ("line", "rails", "total"),
    [
        (fake.ORIN_NANO_JETPACK_6, {"VDD_IN": 6.626, "VDD_CPU_GPU_CV": 1.228, "VDD_SOC": 2.38}, 6.626),
        (fake.AGX_ORIN_JETPACK_6, {"VDD_GPU_SOC": 1.995, "VDD_CPU_CV": 0.0, "VIN_SYS_5V0": 2.524}, 4.519),
        (fake.ORIN_NANO_JETPACK_7, {"VDD_IN": 4.548, "VDD_CPU_GPU_CV": 0.483, "VDD_SOC": 1.489}, 4.548),
        (fake.AGX_ORIN_JETPACK_7, {"VDD_GPU_SOC": 3.034, "VDD_CPU_CV": 1.137, "VIN_SYS_5V0": 4.939}, 9.11),
        (
            fake.THOR_JETPACK_7_1,
            {"VDD_GPU": 1.962, "VDD_CPU_SOC_MSS": 5.887, "VIN_SYS_5V0": 5.635, "VIN": 19.78},
            19.78,
        ),
        (
            fake.THOR_JETPACK_7_2,
            {"VDD_GPU": 37.528, "VDD_CPU_SOC_MSS": 18.961, "VIN_SYS_5V0": 18.331, "VIN": 87.426},
            87.426,
        ),
        (fake.THOR_IDLE, {"VDD_GPU": -0.392, "VDD_CPU_SOC_MSS": 3.924, "VIN_SYS_5V0": 5.064, "VIN": 15.004}, 15.004),
        (fake.UNCONNECTED, {"VDD_GPU_SOC": 2.34, "VDD_CPU_CV": 0.39, "VIN_SYS_5V0": 4.025}, 6.755),
    ],
)  # fmt: skip
def test_the_rails_of_tegrastats_and_their_total(line, rails, total):
    assert power.tegrastats_rails(line) == rails
    assert sum(rails[name] for name in power.total_rails(rails)) == pytest.approx(total)


@pytest.mark.parametrize("line", ["", "mW", "VDD_IN mW/1mW", "VDD_IN x1mW", "GR3D_FREQ", "\0" * 50, "[" * 500])
def test_a_broken_line_gives_no_rail_and_no_error(line):
    assert power.tegrastats_rails(line) == {}


def test_the_ina3221_is_volts_times_amperes_without_unconnected_channels_and_the_shunt_sum(tmp_path):
    fake.rails(tmp_path, {**fake.NANO, "NC": (1, 1)})
    assert power.Sensors(tmp_path).read() == pytest.approx({"VDD_IN": 8.0, "VDD_CPU_GPU_CV": 2.0, "VDD_SOC": 1.5})


def test_thor_has_its_input_on_an_ina238_in_microwatts_which_replaces_the_sum_of_rails(tmp_path):
    fake.rails(tmp_path, fake.THOR)
    assert power.total_rails(power.Sensors(tmp_path).read()) == ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")
    chip = "sys/bus/i2c/devices/2-0044"
    fake.write(tmp_path, f"{chip}/name", "ina238")
    fake.write(tmp_path, f"{chip}/hwmon/hwmon5/power1_input", 23_000_000)
    found = power.Sensors(tmp_path).read()
    assert found["VIN"] == pytest.approx(23.0)
    assert power.total_rails(found) == ("VIN",)


def test_the_agx_has_two_chips_and_no_rail_of_the_whole(tmp_path):
    fake.rails(tmp_path, fake.AGX)
    fake.rails(tmp_path, {"VDDQ_VDD2_1V8AO": (1800, 100)}, bus="1-0041")
    found = power.Sensors(tmp_path).read()
    assert len(found) == 4
    assert sum(found[name] for name in power.total_rails(found)) == pytest.approx(3.8 + 1.9 + 4.5)


def test_rails_of_an_unknown_set_have_no_total():
    assert power.total_rails({"MYSTERY": 1.0}) == ()


def test_a_rail_that_cannot_be_read_now_is_left_out(tmp_path):
    fake.rails(tmp_path, fake.NANO)
    sensors = power.Sensors(tmp_path)
    next(tmp_path.rglob("curr1_input")).unlink()
    assert set(sensors.read()) == {"VDD_CPU_GPU_CV", "VDD_SOC"}


def test_without_sensors_tegrastats_is_followed_and_ended(tmp_path):
    fake.program(tmp_path, "tegrastats", f"echo '{fake.ORIN_NANO_JETPACK_6}'\nexec sleep 60")
    source = power.reader(tmp_path)
    assert source.name == "tegrastats"
    source.start()
    process = source.process
    assert source.read()["VDD_IN"] == 6.626
    source.stop()
    assert process.poll() is not None


def test_where_neither_is_there_is_no_reader(tmp_path):
    assert power.reader(tmp_path) is None


class Constant:
    def __init__(self, **watts):
        self.watts = watts

    def read(self):
        return dict(self.watts)


def test_energy_is_mean_power_times_time_over_inferences_whole_and_above_idle():
    with power.Window(Constant(VDD_IN=4.0, VDD_SOC=1.0), hz=200) as idle:
        pass
    with power.Window(Constant(VDD_IN=10.0, VDD_SOC=1.0), hz=200) as load:
        pass
    load.seconds = 30.0
    found = power.energy(idle, load, 6000)
    assert found["energy_j"] == pytest.approx(10.0 * 30 / 6000)
    assert found["energy_above_idle_j"] == pytest.approx(6.0 * 30 / 6000)
    assert found["total_rails"] == ["VDD_IN"]
    assert "module rails, not the wall" in found["boundary"]


def test_unknown_rails_give_power_and_no_energy():
    with power.Window(Constant(X=4.0)) as window:
        pass
    found = power.energy(window, window, 10)
    assert found["load_w"] == {"X": 4.0}
    assert found["energy_j"] is None


def test_the_device_says_model_jetpack_mode_clock_and_temperatures(tmp_path):
    found = device.describe(fake.jetson(tmp_path))
    assert found["model"] == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (found["chip"], found["compute_capability"]) == ("tegra234", 8.7)
    assert (found["l4t"], found["jetpack"]) == ("36.4.4", "6.2.1")
    assert found["power_mode"] == {"id": 2, "name": "MAXN_SUPER"}
    assert found["gpu_clock"] == {
        "now_hz": 1_020_000_000,
        "least_hz": 1_020_000_000,
        "most_hz": 1_020_000_000,
        "pinned": True,
    }
    assert found["temperatures_c"] == {"tj-thermal": 50.031}
    assert device.warnings(found) == []


def test_clocks_that_are_not_pinned_are_a_warning_with_the_remedy(tmp_path):
    (said,) = device.warnings(device.describe(fake.jetson(tmp_path, pinned=False)))
    assert "between 306 and 1020 MHz" in said
    assert "sudo jetson_clocks" in said


def test_the_power_mode_comes_from_the_tool_where_there_is_no_state_file(tmp_path):
    fake.program(tmp_path, "nvpmodel", "echo 'NV Power Mode: 25W'\necho 1")
    assert device.power_mode(tmp_path) == {"id": 1, "name": "25W"}


def test_thor_is_known_by_its_chip_and_release(tmp_path):
    fake.write(tmp_path, "proc/device-tree/compatible", "nvidia,p3971-0089+p3834-0008\0nvidia,tegra264")
    fake.write(tmp_path, "etc/nv_tegra_release", "# R38 (release), REVISION: 2.0, GCID: 1, BOARD: generic")
    found = device.describe(tmp_path)
    assert (found["chip"], found["compute_capability"], found["jetpack"]) == ("tegra264", 11.0, "7.0")


def test_an_ordinary_machine_is_described_by_what_it_says(tmp_path):
    found = device.describe(tmp_path)
    assert found["model"]
    assert {found[key] for key in ("chip", "l4t", "jetpack", "power_mode", "gpu_clock")} == {None}
    assert device.warnings(found) == []
