"""Files → runs."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfdoctor import schema
from perfdoctor.errors import PerfdoctorError
from perfdoctor.readers import templates
from perfdoctor.readers.gathering import Gathered, gather

NOON = datetime(2024, 5, 1, 12, 0, 0)


def log(step_s: float = 0.25, start: datetime = NOON, count: int = 40) -> str:
    return "".join(
        f"{start + timedelta(seconds=i * 10)} step {i * 10} step_time: {step_s} s\n"
        for i in range(count)
    )


def smi(start: datetime = NOON, count: int = 40, use: int = 55) -> str:
    head = "timestamp, utilization.gpu [%], utilization.memory [%], memory.used [MiB]\n"
    return head + "".join(
        f"{start + timedelta(seconds=i * 10):%Y/%m/%d %H:%M:%S}.000, {use} %, 2 %, 1129 MiB\n"
        for i in range(count)
    )


def metrics(count: int = 5) -> str:
    return "epoch,train_loss,val_acc\n" + "".join(f"{i},2.{i},0.{i}5\n" for i in range(count))


def collected(*paths: Path | str) -> Gathered:
    return gather([str(path) for path in paths], lambda what, done, total: None)


def write(folder: Path, **contents: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name.replace("_", ".")).write_text(content)
    return folder


def test_a_folder_with_log_metrics_and_samples_is_one_run(tmp_path: Path) -> None:
    folder = write(tmp_path / "run7", train_log=log(), smi_csv=smi(), metrics_csv=metrics())
    [run] = collected(folder).runs
    assert run.name == "run7"
    assert run.step_s == pytest.approx([0.25] * 40)
    assert run.epochs is not None
    assert run.epochs.metrics["val_acc"] == pytest.approx([0.05 + i / 10 for i in range(5)])
    assert run.utilisation["gpu"] == pytest.approx([55] * 40)
    assert sorted(Path(read.path).name for read in run.logs) == [
        "metrics.csv",
        "smi.csv",
        "train.log",
    ]


def test_a_folder_of_folders_is_several_runs(tmp_path: Path) -> None:
    for name, step_s in (("fast", 0.1), ("slow", 0.4)):
        write(tmp_path / "runs" / name, train_log=log(step_s))
    found = collected(tmp_path / "runs").runs
    assert {run.name: float(run.step_s[0]) for run in found} == {"fast": 0.1, "slow": 0.4}


def test_folders_of_trainers_between_the_folder_and_its_files_make_no_runs(tmp_path: Path) -> None:
    write(tmp_path / "out" / "lightning" / "version_0", train_log=log(), metrics_csv=metrics())
    [run] = collected(tmp_path / "out").runs
    assert len(run.logs) == 2


def test_files_named_singly_are_runs_of_their_own(tmp_path: Path) -> None:
    folder = write(tmp_path, a_log=log(0.1), b_log=log(0.2))
    assert [run.name for run in collected(folder / "a.log", folder / "b.log").runs] == [
        "a.log",
        "b.log",
    ]
    assert len(collected(str(folder / "*.log")).runs) == 2


def test_samples_named_beside_a_log_are_joined_to_it(tmp_path: Path) -> None:
    folder = write(tmp_path, a_log=log(), smi_csv=smi())
    [run] = collected(folder / "a.log", folder / "smi.csv").runs
    assert run.utilisation["gpu"].size == 40


def test_only_samples_from_the_run_s_time_count(tmp_path: Path) -> None:
    # the sampler ran from an hour before to an hour after
    begin = NOON - timedelta(hours=1)
    count = 2 * 360 + 40
    rows = smi(begin, count).splitlines()
    for i in range(1, count + 1):
        if not 360 <= i - 1 < 400:
            rows[i] = rows[i].replace(" 55 %", " 3 %")
    folder = write(tmp_path, a_log=log(), smi_csv="\n".join(rows) + "\n")
    [run] = collected(folder).runs
    assert set(run.utilisation["gpu"]) == {55.0}
    assert run.utilisation["gpu"].size == 40


def test_samples_from_another_time_are_left_out_and_said_to_be(tmp_path: Path) -> None:
    folder = write(tmp_path, a_log=log(), smi_csv=smi(NOON + timedelta(days=3)))
    [run] = collected(folder).runs
    assert "gpu" not in run.utilisation
    assert "smi.csv was not recorded while this run went on; it is left out" in run.warnings


def test_of_two_runs_each_gets_the_samples_of_its_own_time(tmp_path: Path) -> None:
    later = NOON + timedelta(days=1)
    folder = write(
        tmp_path, a_log=log(), b_log=log(start=later), c_csv=smi(use=11), d_csv=smi(later, use=99)
    )
    first, second = collected(
        *(folder / name for name in ("a.log", "b.log", "c.csv", "d.csv"))
    ).runs
    assert set(first.utilisation["gpu"]) == {11.0}
    assert set(second.utilisation["gpu"]) == {99.0}
    for run in (first, second):
        assert not any(".csv" in warning for warning in run.warnings)
        assert len(run.logs) == 2


def test_samples_cannot_be_placed_where_the_log_has_no_times(tmp_path: Path) -> None:
    plain = "".join(f"step {i} step_time 0.25 s\n" for i in range(20))
    [run] = collected(write(tmp_path, a_log=plain, smi_csv=smi())).runs
    assert run.utilisation["gpu"].size == 40
    said = "a.log has no dates to find its samples in smi.csv by: all of them count."
    assert said in run.notes


def test_samples_without_times_are_said_to_have_none(tmp_path: Path) -> None:
    dmon = (
        "# gpu   pwr  temp    sm   mem   enc   dec\n"
        + "    0   111    83    25     7     0     0\n" * 9
    )
    [run] = collected(write(tmp_path, a_log=log(), b_txt=dmon)).runs
    said = "b.txt does not tell when its samples were taken: all of them count."
    assert said in run.notes


def test_samples_alone_tell_how_long_they_were_taken(tmp_path: Path) -> None:
    [run] = collected(write(tmp_path, smi_csv=smi())).runs
    assert run.wall_s == 390
    assert run.started_at == NOON.replace(tzinfo=timezone.utc).timestamp()


def test_bytes_of_memory_are_no_percentage_of_use(tmp_path: Path) -> None:
    [run] = collected(write(tmp_path, a_log=log(), smi_csv=smi())).runs
    assert "memory_bytes" not in run.utilisation


def asked(*paths: Path, **how: Any) -> Gathered:
    return gather([str(path) for path in paths], lambda what, done, total: None, **how)


def test_a_file_that_a_format_says_nothing_about_is_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path, a_csv="step,step_time\n1,0.5\n2,0.5\n", b_log="hello\n" * 30)
    found = asked(folder / "a.csv", folder / "b.log", format_name="csv")
    assert [run.name for run in found.runs] == ["a.csv"]
    [left_out] = found.skipped
    assert left_out.reason == "nothing in it can be read as csv, which --format asks for"


def test_a_file_that_a_template_does_not_fit_is_read_with_a_warning(tmp_path: Path) -> None:
    folder = write(tmp_path, a_log=log(), b_log="<7> zeit 41\n" * 30)
    own = templates.parse("pattern", ("<{step:d}> zeit {step_time_ms:f}",))
    found = asked(folder / "a.log", folder / "b.log", own=[own], templates=own.templates)
    first, second = found.runs
    said = "a.log: no line gives a value by the template '<{step:d}> zeit {step_time_ms:f}'"
    assert f"{said}; it was read as generic" in first.warnings
    assert second.source.format == "pattern"
    assert not any("by the template" in warning for warning in second.warnings)


def test_a_template_is_tried_on_all_of_a_file_not_on_its_head_alone(tmp_path: Path) -> None:
    far = "warming up\n" * 150_000 + "<7> zeit 41\n" * 30 + "cooling down\n" * 20_000
    folder = write(tmp_path, a_log=far)
    own = templates.parse("pattern", ("<{step:d}> zeit {step_time_ms:f}",))
    [run] = asked(folder / "a.log", own=[own], templates=own.templates).runs
    assert run.source.format == "pattern"


def test_samples_alone_are_a_run_without_steps(tmp_path: Path) -> None:
    [run] = collected(write(tmp_path, smi_csv=smi())).runs
    assert run.step_s.size == 0
    assert run.utilisation["gpu"] == pytest.approx([55] * 40)


def test_the_file_that_tells_most_leads(tmp_path: Path) -> None:
    table = "step,step_time_s\n0,9.0\n1,9.0\n"
    [run] = collected(write(tmp_path, a_csv=table, z_log=log())).runs
    assert run.step_s == pytest.approx([0.25] * 40)
    assert run.logs[0].path.endswith("z.log")


def test_one_unreadable_file_among_many_is_reported_and_the_rest_read(tmp_path: Path) -> None:
    folder = write(tmp_path, a_log=log(), b_log="", c_log=log(0.5))
    (folder / "d.log").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "e.jsonl").write_text('{"a":' * 100_000)
    found = collected(*(folder / name for name in ("a.log", "b.log", "c.log", "d.log")))
    assert [run.name for run in found.runs] == ["a.log", "c.log"]
    skipped = {Path(file.path).name: file.reason for file in found.skipped}
    assert skipped["b.log"] == "the file is empty"
    assert skipped["d.log"].startswith("neither text nor a known binary format")
    assert [run.name for run in collected(folder).runs] == [folder.name]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission_is_reported(tmp_path: Path) -> None:
    folder = write(tmp_path, a_log=log(), b_log=log())
    (folder / "b.log").chmod(0)
    assert [file.reason for file in collected(folder).skipped] == [
        "cannot be read: Permission denied"
    ]


def test_where_nothing_can_be_read_the_first_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(PerfdoctorError, match=r"a\.log: the file is empty"):
        collected(write(tmp_path, a_log="", b_log=""))


def test_no_file_at_all_is_one_line() -> None:
    with pytest.raises(PerfdoctorError, match="no logs given"):
        gather([], lambda what, done, total: None)


def test_what_was_said_of_every_file_is_kept(tmp_path: Path) -> None:
    long = "".join(f"epoch {i} val_acc: 0.{i}\n" for i in range(5)) + "x" * 20_000 + "\n"
    [run] = collected(write(tmp_path, a_log=log(), b_txt=long)).runs
    assert "b.txt: 1 overlong lines were read only at their beginning." in run.notes


def test_reports_of_earlier_runs_are_handed_on(tmp_path: Path) -> None:
    from builders import make_report

    (tmp_path / "old.json").write_bytes(schema.to_json(make_report()))
    (tmp_path / "a.log").write_text(log())
    found = collected(tmp_path / "old.json", tmp_path / "a.log")
    assert len(found.runs) == len(found.reports) == 1


def test_progress_counts_the_bytes_of_each_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text(log(count=1000))
    seen: list[tuple[str, float, float]] = []
    gather([str(path)], lambda what, done, total: seen.append((what, done, total)))
    size = float(path.stat().st_size)
    assert seen[0] == (f"reading {path}", 0.0, size)
    assert seen[-1] == (f"reading {path}", size, size)


def test_the_start_of_a_run_is_what_its_stamps_say(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text(log())
    [run] = collected(path).runs
    assert run.started_at == NOON.replace(tzinfo=timezone.utc).timestamp()
    assert run.wall_s == pytest.approx(390)
