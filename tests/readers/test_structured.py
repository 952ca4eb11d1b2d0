"""Lines of JSON and tables: names and values become columns."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from perfdoctor.readers.records import METRIC, Reading
from perfdoctor.readers.structured import read_csv, read_json_lines
from perfdoctor.record import Run

READ = Callable[..., Reading]


def jsonl(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_rows_of_different_names_stand_in_one_table(reading_of: READ) -> None:
    rows = [{"step": 1, "step_time": 0.5}, {"epoch": 1, "val_loss": 2.0}, {"step_time": 0.7}]
    records = reading_of(jsonl(*rows) * 2, "x.jsonl").records
    assert records.line.tolist() == [1, 2, 3, 4, 5, 6]
    assert records.column("step_s")[[0, 2]].tolist() == [0.5, 0.7]
    assert np.isnan(records.column("step_s")[1])
    assert records.column("metric:val_loss")[1] == 2.0


def test_a_value_that_is_whole_and_one_that_is_not_may_mean_different_things() -> None:
    rows = jsonl({"step": 3}, {"step": 0.25})
    records = read_json_lines("x", [rows.encode()], {}).records()
    assert records.column("step")[0] == 3
    assert np.isnan(records.column("step")[1])


def test_the_first_of_two_columns_with_one_meaning_counts() -> None:
    text = b"step,iter,step_time\n1,7,0.5\n2,8,0.5\n,9,0.5\n"
    records = read_csv("x", [text], {}).records()
    assert records.column("step").tolist() == [1, 2, 9]


def test_moments_in_cells_are_read_each_with_its_own_digits() -> None:
    text = "timestamp,step\n" + "".join(f"2024-05-01 10:00:{i:02d}.250,{i}\n" for i in range(60))
    time = read_csv("x", [text.encode()], {}).records().column("time")
    assert np.diff(time).tolist() == [1.0] * 59
    assert time[0] == pytest.approx(1714557600.25)


@pytest.mark.parametrize("parts", [1, 10**3, 10**6, 10**9])
def test_parts_of_seconds_since_1970_are_seconds_in_the_end(parts: int) -> None:
    rows = jsonl(*({"step": i, "timestamp": (1714557600 + i) * parts} for i in range(3)))
    time = read_json_lines("x", [rows.encode()], {}).records().column("time")
    assert time.tolist() == [1714557600.0, 1714557601.0, 1714557602.0]


def test_what_can_be_no_moment_is_none_whatever_its_name() -> None:
    rows = jsonl({"step": 1, "timestamp": 1e40}, {"step": 2, "timestamp": 1714557600})
    time = read_json_lines("x", [rows.encode()], {}).records().column("time")
    assert np.isnan(time[0])
    assert time[1] == 1714557600


def test_durations_and_numbers_as_text_are_numbers() -> None:
    rows = jsonl({"step": "1", "epoch_time": "0:01:03"}, {"step": "2", "epoch_time": "1:00:00"})
    records = read_json_lines("x", [rows.encode()], {}).records()
    assert records.column("step").tolist() == [1, 2]
    assert records.column("epoch_s").tolist() == [63, 3600]


def test_nested_objects_are_named_by_their_path_and_statistics_are_their_mean() -> None:
    rows = jsonl({"step": 1, "time": {"step_time": 0.5}, "loss": {"mean": 2.0, "std": 0.1}})
    records = read_json_lines("x", [rows.encode()], {}).records()
    assert records.column("step_s").tolist() == [0.5]
    assert records.column("metric:loss").tolist() == [2.0]


def test_a_line_that_is_not_whole_costs_only_itself() -> None:
    rows = jsonl({"step": 1, "step_time": 0.5}) + '{"step": 2, "st\n' + '{"step": 3, "loss": NaN}\n'
    table = read_json_lines("x", [rows.encode()], {})
    assert table.records().column("step").tolist() == [1, 3]
    assert (table.unread, table.unread_samples[0].line) == (1, 2)


def test_numbers_too_large_for_a_float_are_none() -> None:
    rows = f'{{"step": 1, "step_time": {10**400}}}\n{{"step": 2, "step_time": 0.5}}\n'
    found = read_json_lines("x", [rows.encode()], {}).records().column("step_s")
    assert not np.isfinite(found[0])
    assert found[1] == 0.5


def test_a_table_of_thousands_of_names_keeps_some_hundred_of_them() -> None:
    names = ",".join(f"layer{i}" for i in range(3000))
    text = f"step,{names}\n" + "".join(f"{i}" + ",0.5" * 3000 + "\n" for i in range(3))
    columns = read_csv("x", [text.encode()], {}).records().columns
    assert columns["step"].tolist() == [0, 1, 2]
    assert sum(role.startswith(METRIC) for role in columns) < 500


def test_rows_are_the_same_however_the_file_is_cut_into_blocks() -> None:
    text = "\ufeff\nstep,step_time\r\n".encode() + b"".join(b"%d,0.5\r\n" % i for i in range(3000))
    pieces = [text[i : i + 7] for i in range(0, len(text), 7)]
    whole, cut = read_csv("x", [text], {}).records(), read_csv("x", pieces, {}).records()
    assert cut.column("step").tolist() == whole.column("step").tolist() == list(range(3000))
    assert cut.line.tolist() == whole.line.tolist() == list(range(3, 3003))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_may_end_in_any_way(end: str) -> None:
    text = end.join(["step,step_time", "1,0.5", "2,0.7", ""])
    assert read_csv("x", [text.encode()], {}).records().column("step_s").tolist() == [0.5, 0.7]


def test_cut_rows_are_counted_and_a_header_again_is_none() -> None:
    text = b"a,b,step,step_time\n1,1,1,0.5\n3\na,b,step,step_time\n1,1,2,0.5\n"
    table = read_csv("x", [text], {})
    assert table.records().column("step").tolist() == [1, 2]
    assert (table.unread, table.unread_samples[0].line) == (1, 3)


def test_a_quote_that_is_never_closed_loses_no_row_before_it() -> None:
    rows = "".join(f"{i},0.5\n" for i in range(50_000))
    table = read_csv("x", [f'step,step_time\n1,0.5\n"2,0.5\n{rows}'.encode()], {})
    assert table.records().column("step")[0] == 1
    assert table.unread >= 1


def test_decimal_commas_are_read_where_semicolons_part_the_cells() -> None:
    records = read_csv("x", [b"step;step_time\n1;0,5\n2;0,25\n"], {}).records()
    assert records.column("step_s").tolist() == [0.5, 0.25]


def test_the_steps_of_a_table_that_tells_of_episodes_are_those_of_a_game() -> None:
    rows = [{"global_step": i * 100, "episodic_return": 3.0, "time": i} for i in range(5)]
    columns = read_json_lines("x", [jsonl(*rows).encode()], {}).records().columns
    assert "step" not in columns
    assert columns["env_steps"].tolist() == [0, 100, 200, 300, 400]


def test_updates_of_such_a_table_are_steps_of_the_training() -> None:
    rows = [{"num_updates": i, "episodic_return": 3.0} for i in range(5)]
    assert "step" in read_json_lines("x", [jsonl(*rows).encode()], {}).records().columns


def eeg(n: int, phase: str, moment_ms: int, cells: str) -> str:
    return f"{n};{phase};{moment_ms};{cells}\n"


def test_names_may_stand_in_the_last_line_of_a_comment(run_of: Callable[..., Run]) -> None:
    rows = [eeg(i, "tr", 1_700_000_000_000 + 80 * i, f"5.5;21.5;48.25;{3000 + i}")
            for i in range(1, 60)]  # fmt: skip
    rows[29] += "".join(eeg(i, "ev", 1_700_000_002_400 + i, "5.5;9.5;;9000") for i in range(6))
    head = "\ufeff# a run, lr=0.5\n# two lines\n#n;ph;clock_ms;T_io;T_fw;T_bw;Hz_ex\n"
    run = run_of(head + "".join(rows), "run.csv")
    assert run.source.format == "csv"
    assert run.step_s.size == 59
    assert np.nanmedian(run.step_s) == pytest.approx(0.08)
    stages = {stage.name: float(np.nanmedian(stage.exposed_s)) for stage in run.stages}
    assert stages["data_loading"] == pytest.approx(0.0055)
    assert stages["forward"] == pytest.approx(0.0215)
    assert np.nanmedian(run.rates["samples_per_s"]) == pytest.approx(3030, abs=1)


def test_names_may_stand_below_a_comment(reading_of: READ) -> None:
    rows = "".join(f"{i},0.25,{3 - i / 50}\n" for i in range(30))
    reading = reading_of(f"# made by hand\nstep,step_time,loss\n{rows}", "run.csv")
    assert reading.format == "csv"
    assert set(reading.records.column("step_s")) == {0.25}


def test_a_first_column_that_does_not_go_on_counts_no_steps() -> None:
    text = b"n,step_time\n" + b"".join(b"256,0.%d\n" % i for i in range(20, 40))
    assert "step" not in read_csv("x", [text], {}).records()


def test_milliseconds_that_are_too_many_for_a_time_are_a_moment() -> None:
    text = b"step,clock_ms,step_time_us\n" + b"".join(
        b"%d,%d,%d\n" % (i, 1_700_000_000_000 + 250 * i, 2_500_000_000) for i in range(9)
    )
    records = read_csv("x", [text], {}).records()
    assert np.diff(records.column("time")) == pytest.approx(0.25)
    assert records.column("step_s")[0] == pytest.approx(2500)


def test_parts_that_fit_the_step_are_in_seconds(run_of: Callable[..., Run]) -> None:
    rows = "".join(f"{i},{1_700_000_000 + 80 * i}.5,5.5,21.5,48.25\n" for i in range(30))
    run = run_of(f"step,timestamp,t_io,t_fw,t_bw\n{rows}", "run.csv")
    assert np.nanmedian(run.stages[0].exposed_s) == pytest.approx(5.5)


def dll(step: object, second: float, data: dict[str, float], kind: str = "LOG") -> str:
    row = {"timestamp": f"{1_600_000_000 + second:.6f}", "type": kind, "step": step, "data": data}
    return f"DLLL {json.dumps(row)}\n"


def test_dllogger_counts_in_lists(run_of: Callable[..., Run]) -> None:
    text = dll("PARAMETER", 0, {"epochs": 3.0, "step": 5.0})
    for epoch in range(3):
        for i in range(0, 200, 20):
            data = {"train.data_time": 0.125, "train.compute_time": 0.5, "train.total_ips": 409.5}
            text += dll([epoch, i], 150 * epoch + 0.625 * i + 1, data)
        text += dll([epoch], 150 * epoch + 126, {"train.loss": 2.5, "train.compute_time": 0.5})
        text += "".join(dll([epoch, 200, i], 150 * epoch + 127 + i, {"val.data_time": 0.25})
                        for i in range(10))  # fmt: skip
        text += dll([epoch], 150 * epoch + 140, {"val.loss": 2.5})
    run = run_of(text, "log.json")
    assert run.source.format == "nvidia_dllogger_json"
    assert run.step_s.size == 30
    assert np.nanmedian(run.step_s) == pytest.approx(0.625)
    assert np.nanmedian(run.stages[0].exposed_s) == pytest.approx(0.125)
    assert run.epochs is not None
    assert run.epochs.number.tolist() == [0, 1, 2]
    assert run.epochs.time_s[:2] == pytest.approx(150)


def test_a_single_counter_of_dllogger_counts_steps(run_of: Callable[..., Run]) -> None:
    text = "".join(dll([i], i / 2, {"train_iter_time": 0.5}) for i in range(20))
    run = run_of(text, "log.json")
    assert run.step_s.tolist() == [0.5] * 20
    assert run.epochs is None


def test_three_counters_of_dllogger_are_of_a_validation(run_of: Callable[..., Run]) -> None:
    text = "".join(dll([0, i], i, {"iter_time": 0.5}) for i in range(20))
    text += "".join(dll([0, 20, i], 20 + i, {"iter_time": 0.75}) for i in range(30))
    assert run_of(text, "log.json").step_s.tolist() == [0.5] * 20
