"""nvidia-smi's box, dmon and perfdoctor's own samples; what is none of them."""

from __future__ import annotations

import calendar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfdoctor.readers.hardware import HardwareCsv
from perfdoctor.readers.nvidia_csv import NvidiaSmiCsv
from perfdoctor.readers.nvidia_tables import NvidiaDmon, NvidiaSmiTable
from perfdoctor.readers.records import Reading

MIB = 2**20
CSV, TABLE, DMON, OWN = NvidiaSmiCsv(), NvidiaSmiTable(), NvidiaDmon(), HardwareCsv()
NOON = float(calendar.timegm((2024, 5, 6, 12, 0, 0)))


def column(reading: Reading, role: str) -> list[float]:
    assert reading.hardware is not None
    return [round(float(value), 3) for value in reading.hardware.columns[role]]


@pytest.mark.parametrize(
    "text",
    [
        "epoch,step,loss\n0,1,0.5\n1,2,0.4\n",
        "Epoch 1, loss 0.5, 99 %\n",
        "timestamp,loss\n2024-05-06 12:00:00,0.5\n",
        "",
    ],
)
def test_other_tables_are_not_taken_for_nvidia_smi(text: str) -> None:
    assert [each.score("x.csv", text) for each in (CSV, TABLE, DMON, OWN)] == [0, 0, 0, 0]


OLD_BOX = """\
Mon May  6 12:00:00 2024
+-----------------------------------------------------------------------------+
| NVIDIA-SMI 384.111                Driver Version: 384.111                   |
|-------------------------------+----------------------+----------------------+
| GPU  Name        Persistence-M| Bus-Id        Disp.A | Volatile Uncorr. ECC |
| Fan  Temp  Perf  Pwr:Usage/Cap|         Memory-Usage | GPU-Util  Compute M. |
|===============================+======================+======================|
|   0  GeForce GTX 108...  Off  | 00000000:01:00.0  On |                  N/A |
| 23%   {heat}C    P8    {power}W / 250W |   {used}MiB / 11000MiB |     {busy}%      Default |
+-------------------------------+----------------------+----------------------+
|   1  GeForce GTX 108...  Off  | 00000000:02:00.0 Off |                  N/A |
|  0%   30C    P8    10W / 250W |      0MiB / 11000MiB |      0%      Default |
+-------------------------------+----------------------+----------------------+

+-----------------------------------------------------------------------------+
| Processes:                                                       GPU Memory |
|    0      1492      G   /usr/lib/xorg/Xorg                            40MiB |
+-----------------------------------------------------------------------------+
"""
NEW_BOX = """\
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 550.54.14              Driver Version: 550.54.14      CUDA Version: 12.4     |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
|   0  NVIDIA H100 80GB HBM3          On  |   00000000:1B:00.0 Off |                    0 |
| N/A   41C    P0            N/A /  700W  |   40000MiB /  80000MiB |     97%      Default |
|                                         |                        |             Disabled |
+-----------------------------------------+------------------------+----------------------+
"""


def test_each_box_is_one_record_over_its_gpus() -> None:
    first = OLD_BOX.format(heat=60, power=200, used=5500, busy=80)
    second = OLD_BOX.format(heat=70, power=210, used=8250, busy=90)
    text = first + second.replace("12:00:00", "12:00:05")
    assert TABLE.score("smi.txt", text) > 0.9
    reading = TABLE.read("smi.txt", text)
    assert column(reading, "time") == [NOON, NOON + 5]
    assert column(reading, "gpu") == [40, 45]
    assert column(reading, "gpu_memory") == [50, 75]
    assert column(reading, "gpu_temperature_c") == [60, 70]
    assert column(reading, "gpu_power_w") == [105, 110]
    assert reading.hardware is not None
    assert list(reading.hardware.line) == [9, 27]


def test_the_new_box_without_a_date_has_no_time() -> None:
    reading = TABLE.read("smi.txt", NEW_BOX * 3)
    assert column(reading, "gpu") == [97, 97, 97]
    assert column(reading, "gpu_memory") == [50, 50, 50]
    assert reading.hardware is not None
    assert "time" not in reading.hardware
    assert "gpu_power_w" not in reading.hardware


def test_lines_cut_out_of_boxes_are_read_one_by_one() -> None:
    lines = [line for line in NEW_BOX.splitlines() if "Default" in line] * 3
    text = "\n".join(lines)
    assert TABLE.score("util.txt", text) > 0.9
    assert column(TABLE.read("util.txt", text), "gpu") == [97, 97, 97]


def test_a_box_at_the_start_of_a_training_log_does_not_make_it_one() -> None:
    text = NEW_BOX + "Epoch 1 loss 0.5\n" * 100
    assert TABLE.score("train.log", text) < 0.5


def test_dmon_has_no_times_and_dashes_are_not_zero() -> None:
    header = "# gpu   pwr gtemp mtemp    sm   mem   enc   dec  mclk  pclk    fb\n"
    units = "# Idx     W     C     C     %     %     %     %   MHz   MHz    MB\n"
    text = header + units + "    0   100    60     -    20     5     0     0  4513  1700  1000\n"
    text += "    1     -    70     -    40     7     0     0  4513  1500  3000\n"
    text += header + "    0   120    61     -    30     5     0     0  4513  1700  1000\n"
    assert DMON.score("dmon.txt", text) > 0.9
    reading = DMON.read("dmon.txt", text)
    assert column(reading, "gpu") == [30, 30]
    assert column(reading, "gpu_power_w") == [100, 120]
    assert column(reading, "memory_bytes") == [3000 * MIB, 1000 * MIB]
    assert column(reading, "gpu_clock_mhz") == [1600, 1700]
    assert reading.hardware is not None
    assert "time" not in reading.hardware


def test_dmon_with_dates_and_times_tells_when() -> None:
    text = (
        "#Date       Time        gpu    sm   mem\n#YYYYMMDD   HH:MM:SS    Idx     %     %\n"
        " 20240506   12:00:00      0    10     1\n 20240506   12:00:01      0    12     1\n"
    )
    assert column(DMON.read("dmon.txt", text), "time") == [NOON, NOON + 1]


def test_dmon_with_the_time_of_day_alone_counts_on_over_midnight() -> None:
    text = "#Time        gpu    sm\n 23:59:59      0    10\n 00:00:01      0    12\n"
    reading = DMON.read("dmon.txt", text)
    assert column(reading, "time") == [86399, 86401]
    assert reading.notes == ("times of day without a date",)


def test_dmon_as_csv_is_read_and_pmon_is_not_dmon() -> None:
    assert column(DMON.read("d.csv", "#gpu, sm, mem\n0, 55, 5\n"), "gpu") == [55]
    assert DMON.score("p.txt", "# gpu  pid  type  sm  mem  command\n 0 1 C 5 5 python\n") == 0


def test_perfdoctors_own_samples_keep_their_names() -> None:
    text = f"time,gpu,gpu_power_w,cpu,ram\n{NOON},50,200.5,30,\n{NOON + 1},60,,31,70\nbroken\n"
    assert OWN.score("hardware.csv", text) > 0.9
    reading = OWN.read("hardware.csv", text)
    assert column(reading, "time") == [NOON, NOON + 1]
    assert column(reading, "gpu") == [50, 60]
    assert column(reading, "cpu") == [30, 31]
    assert reading.hardware is not None
    assert np.isnan(reading.hardware.columns["ram"][0])
    assert reading.unread == 1


def test_a_table_with_any_other_column_is_not_perfdoctors() -> None:
    assert OWN.score("x.csv", "time,loss,gpu\n1,2,3\n") == 0


@given(
    st.sampled_from(["", "time,gpu\n", "# gpu sm fb\n", "index, utilization.gpu [%]\n"]),
    st.text(alphabet='0123456789 .,;:|%-+/#\n\r\x00°MiBWCgpuN日[]"', max_size=200),
)
def test_no_text_makes_a_reader_fail(start: str, text: str) -> None:
    for reader in (CSV, TABLE, DMON, OWN):
        assert 0 <= reader.score("x", start + text) <= 1
        hardware = reader.read("x", start + text).hardware
        sizes = [] if hardware is None else [c.size for c in hardware.columns.values()]
        assert all(size == len(hardware or ()) for size in sizes)
