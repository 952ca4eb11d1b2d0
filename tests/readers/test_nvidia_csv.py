"""nvidia-smi's CSV in all its choices of columns, units and header."""

from __future__ import annotations

import calendar

import numpy as np
import pytest

from perfdoctor.readers.nvidia_csv import NvidiaSmiCsv
from perfdoctor.readers.records import Reading

MIB = 2**20
CSV = NvidiaSmiCsv()
NOON = float(calendar.timegm((2024, 5, 6, 12, 0, 0)))


def column(reading: Reading, role: str) -> list[float]:
    assert reading.hardware is not None
    return [round(float(value), 3) for value in reading.hardware.columns[role]]


def read_csv(text: str) -> Reading:
    assert CSV.score("gpu.csv", text) >= 0.9
    return CSV.read("gpu.csv", text)


def test_a_header_names_the_columns_in_any_order_and_units_stand_in_the_cells() -> None:
    reading = read_csv(
        "power.draw [W], timestamp, memory.total [MiB], memory.used [MiB], utilization.gpu [%], "
        "clocks.current.sm [MHz], temperature.gpu, name\n"
        "201.50 W, 2024/05/06 12:00:00.250, 40000 MiB, 10000 MiB, 91 %, 1410 MHz, 65, NVIDIA A100\n"
        "199.50 W, 2024/05/06 12:00:01.250, 40000 MiB, 20000 MiB, 89 %, 1400 MHz, 66, NVIDIA A100\n"
    )
    assert column(reading, "time") == [NOON + 0.25, NOON + 1.25]
    assert column(reading, "gpu") == [91, 89]
    assert column(reading, "gpu_memory") == [25, 50]
    assert column(reading, "memory_bytes") == [10000 * MIB, 20000 * MIB]
    assert column(reading, "gpu_power_w") == [201.5, 199.5]
    assert column(reading, "gpu_clock_mhz") == [1410, 1400]
    assert column(reading, "gpu_temperature_c") == [65, 66]
    assert reading.hardware is not None
    assert list(reading.hardware.line) == [2, 3]
    assert len(reading.records) == 0


def test_without_units_the_header_still_tells_them() -> None:
    reading = read_csv(
        "timestamp, utilization.gpu [%], memory.used [MiB]\n2024/05/06 12:00:00.000, 7, 300\n"
    )
    assert column(reading, "gpu") == [7]
    assert column(reading, "memory_bytes") == [300 * MIB]
    assert reading.hardware is not None
    assert "gpu_memory" not in reading.hardware


def test_a_busy_memory_controller_is_not_a_full_memory() -> None:
    reading = read_csv("timestamp, utilization.memory [%]\n2024/05/06 12:00:00.000, 55 %\n")
    assert column(reading, "gpu_memory_busy") == [55]
    assert reading.hardware is not None
    assert "gpu_memory" not in reading.hardware


def test_power_alone_is_enough() -> None:
    reading = read_csv("timestamp, power.draw [W]\n2024/05/06 12:00:00.000, 22.89 W\n")
    assert column(reading, "gpu_power_w") == [22.89]


def test_what_the_card_does_not_support_is_not_zero() -> None:
    reading = read_csv(
        "utilization.gpu [%], power.draw [W], fan.speed [%]\n"
        "5 %, [N/A], [Not Supported]\n15 %, 30.00 W, [Not Supported]\n"
    )
    assert column(reading, "gpu") == [5, 15]
    assert reading.hardware is not None
    assert np.isnan(reading.hardware.columns["gpu_power_w"][0])


def test_several_gpus_become_one_record_a_round() -> None:
    rows = ["index, timestamp, utilization.gpu [%], memory.used [MiB], memory.total [MiB]"]
    for second in range(3):
        for gpu in range(2):
            time = f"2024/05/06 12:00:0{second}.00{gpu}"
            rows.append(f"{gpu}, {time}, {100 * gpu} %, {1000 * (gpu + 1)} MiB, 4000 MiB")
    reading = read_csv("\n".join(rows))
    assert column(reading, "gpu") == [50, 50, 50]
    assert column(reading, "memory_bytes") == [2000 * MIB] * 3
    assert column(reading, "gpu_memory") == [50, 50, 50]
    assert column(reading, "time") == [NOON, NOON + 1, NOON + 2]
    assert "2 GPUs" in reading.notes[0]
    assert "1 with 100 %" in reading.notes[0]


def test_gpus_without_a_name_are_told_by_the_bursts_in_which_they_come() -> None:
    rows = ["timestamp, utilization.gpu [%]"]
    for second in range(20):
        rows += [f"2024/05/06 12:00:{second:02}.00{gpu}, {10 * gpu} %" for gpu in range(4)]
    assert column(read_csv("\n".join(rows)), "gpu") == [15] * 20


def test_one_gpu_sampled_quickly_stays_one() -> None:
    rows = ["timestamp, utilization.gpu [%]"]
    rows += [f"2024/05/06 12:00:00.{50 * i:03}, {i} %" for i in range(20)]
    assert column(read_csv("\n".join(rows)), "gpu") == list(range(20))


def test_a_gpu_that_falls_out_of_a_round_does_not_shift_the_others() -> None:
    reading = read_csv(
        "index, utilization.gpu [%]\n0, 10 %\n1, 30 %\n1, 50 %\n0, 20 %\n1, 40 %\n",
    )
    assert column(reading, "gpu") == [20, 35, 40]


def test_without_a_header_units_and_dates_tell_the_columns() -> None:
    text = "".join(
        f"2024/05/06 12:00:0{i}.000, NVIDIA GeForce RTX 4090, 0, {i} %, 2 %, {1000 + i} MiB, "
        f"24564 MiB, 61, 250.5 W, 450.00 W\n"
        for i in range(6)
    )
    reading = read_csv(text)
    assert column(reading, "gpu") == [0, 1, 2, 3, 4, 5]
    assert column(reading, "gpu_memory_busy") == [2] * 6
    assert column(reading, "memory_bytes") == [(1000 + i) * MIB for i in range(6)]
    assert column(reading, "gpu_memory")[0] == pytest.approx(100 * 1000 / 24564, abs=1e-3)
    assert column(reading, "gpu_power_w") == [250.5] * 6
    assert column(reading, "gpu_temperature_c") == [61] * 6
    assert "no header" in reading.notes[0]


@pytest.mark.parametrize("total", ["", ", 1000 MiB"])
def test_without_a_header_used_and_free_memory_cannot_be_told_apart(total: str) -> None:
    text = "".join(f"{i} %, {900 + i} MiB, {100 - i} MiB{total}\n" for i in range(5))
    reading = read_csv(text)
    assert reading.hardware is not None
    assert set(reading.hardware.columns) == {"gpu"}


def test_a_decimal_comma_is_no_new_cell() -> None:
    reading = read_csv(
        "timestamp, power.draw [W], utilization.gpu [%]\n"
        "2024/05/06 12:00:00.000, 22,89 W, 5 %\n2024/05/06 12:00:01.000, 1.022,89 W, 6 %\n"
    )
    assert column(reading, "gpu_power_w") == [22.89, 1022.89]


def test_rows_without_the_space_that_the_header_has_are_read() -> None:
    reading = read_csv("timestamp, utilization.gpu [%]\n2024/05/06 12:00:00.000,5 %\n")
    assert column(reading, "gpu") == [5]


def test_semicolons_and_quotes_of_a_spreadsheet_are_read() -> None:
    reading = read_csv('"timestamp";"power.draw [W]"\n"2024/05/06 12:00:00.000";"22,5 W"\n')
    assert column(reading, "gpu_power_w") == [22.5]


def test_a_repeated_header_is_skipped_and_a_broken_row_is_counted() -> None:
    header = "timestamp, utilization.gpu [%]"
    reading = read_csv(
        f"{header}\n2024/05/06 12:00:00.000, 5 %\n{header}\n2024/05/06 12:00:01.000, 6 %\n"
        "Unable to determine the device handle: Unknown Error, lost, gone\n2024/05/06 12:0"
    )
    assert column(reading, "gpu") == [5, 6]
    assert reading.unread == 2
    assert reading.unread_samples[0].line == 5


def test_utf16_as_powershell_writes_it_is_read() -> None:
    text = "timestamp, utilization.gpu [%]\r\n2024/05/06 12:00:00.000, 5 %\r\n"
    reading = CSV.read("gpu.csv", b"\xff\xfe" + text.encode("utf-16-le"))
    assert column(reading, "gpu") == [5]
