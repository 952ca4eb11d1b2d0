"""Ranks meet through files; here all of them are this process, on a clock of the test's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perfdoctor.collect.script.ranks import PATIENCE_S, PREFIX, Mark, Meeting, Place, meet, place_of

TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "0",
}


class Clock:
    """Time passes only in `sleep`; what is to happen meanwhile happens at the first one."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.now, self._meanwhile = 0.0, meanwhile

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._meanwhile()
        self._meanwhile = lambda: None


def at(folder: Path, rank: int, world: int = 3, clock: Clock | None = None) -> Meeting:
    clock = clock or Clock()
    return Meeting(Place(rank, world, "job"), folder, clock, clock.sleep)


def begun(folder: Path, *ranks: int, world: int = 3) -> list[Meeting]:
    found = [at(folder, rank, world) for rank in ranks]
    for meeting in found:
        meeting.begin()
    return found


def kill(meeting: Meeting) -> None:
    """Its process is none that ever lived."""
    path = meeting.home / f"rank-{meeting.place.rank}.begun"
    found = json.loads(path.read_bytes())
    path.write_text(json.dumps({**found, "started_s": 1.0}))


def move_away(meeting: Meeting) -> None:
    path = meeting.home / f"rank-{meeting.place.rank}.begun"
    found = json.loads(path.read_bytes())
    path.write_text(json.dumps({**found, "host": "another"}))


def ends_well(meeting: Meeting) -> object:
    return meeting.hand_in(b"part %d" % meeting.place.rank, failed=False, first=False)


def fails(meeting: Meeting) -> object:
    return meeting.hand_in(b"part %d" % meeting.place.rank, failed=True, first=True)


def is_told_to_end(meeting: Meeting) -> object:
    return meeting.hand_in(b"part %d" % meeting.place.rank, failed=True, first=False)


# -- which rank ---------------------------------------------------------------------------------


def test_torchrun_and_accelerate_tell_rank_and_world() -> None:
    place = place_of(TORCHRUN)
    assert place is not None
    assert (place.rank, place.world) == (1, 4)


def test_srun_tells_them_too_but_a_batch_script_is_no_rank() -> None:
    step = {"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}
    place = place_of(step)
    assert place is not None
    assert (place.rank, place.world) == (2, 4)
    assert place_of({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}) is None


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "0"},
    ],
)
def test_a_process_by_itself_is_no_rank(environment: dict[str, str]) -> None:
    assert place_of(environment) is None


def test_ranks_of_one_start_share_a_name_and_a_restart_has_another() -> None:
    others = [{**TORCHRUN, "RANK": "3", "LOCAL_RANK": "3"}, {**TORCHRUN, "MASTER_PORT": "1"}]
    others.append({**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "1"})
    groups = [place.group for e in (TORCHRUN, *others) if (place := place_of(e))]
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


# -- who merges ---------------------------------------------------------------------------------


def test_rank_0_takes_all_parts_and_the_others_none(tmp_path: Path) -> None:
    zero, one, two = begun(tmp_path, 0, 1, 2)
    assert ends_well(two) is None
    assert ends_well(one) is None
    found = zero.hand_in(b"part 0", failed=False, first=False)
    assert found is not None
    assert found.parts == {0: b"part 0", 1: b"part 1", 2: b"part 2"}
    assert found.died == found.running == found.absent == ()


def test_rank_0_waits_for_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, one, two = begun(tmp_path, 0, 1, 2)
    clock = Clock(lambda: (ends_well(one), ends_well(two)))
    found = at(tmp_path, 0, clock=clock).hand_in(b"part 0", failed=False, first=False)
    assert found is not None
    assert set(found.parts) == {0, 1, 2}
    assert capsys.readouterr().err == ""


def test_it_waits_a_bounded_time_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, one, _two = begun(tmp_path, 0, 1, 2)
    ends_well(one)
    clock = Clock()
    found = at(tmp_path, 0, clock=clock).hand_in(b"part 0", failed=False, first=False)
    assert found is not None
    assert found.running == (2,)
    assert PATIENCE_S <= clock.now <= PATIENCE_S + 0.1
    assert capsys.readouterr().err == "perfdoctor: waiting up to 5 s for rank 2 to end\n"


def test_for_dead_ranks_nobody_waits(tmp_path: Path) -> None:
    _, one, two = begun(tmp_path, 0, 1, 2)
    kill(one)
    kill(two)
    clock = Clock()
    found = at(tmp_path, 0, clock=clock).hand_in(b"part 0", failed=False, first=False)
    assert found is not None
    assert found.died == (1, 2)
    assert clock.now == 0.0


def test_a_rank_that_never_began_is_told_from_one_that_died(tmp_path: Path) -> None:
    begun(tmp_path, 0, 2)
    found = at(tmp_path, 0).hand_in(b"part 0", failed=False, first=False)
    assert found is not None
    assert (found.absent, found.running) == ((1,), (2,))


def test_what_a_dead_rank_handed_in_before_is_there(tmp_path: Path) -> None:
    zero, one = begun(tmp_path, 0, 1, world=2)
    one.hand_in_partial(b"so far")
    kill(one)
    found = zero.hand_in(b"part 0", failed=False, first=False)
    assert found is not None
    assert found.parts[1] == b"so far"
    assert found.died == (1,)


def test_the_lowest_living_rank_merges_if_rank_0_died(tmp_path: Path) -> None:
    zero, _one, two = begun(tmp_path, 0, 1, 2)
    kill(zero)
    clock = Clock(lambda: is_told_to_end(two))
    found = at(tmp_path, 1, clock=clock).hand_in(b"part 1", failed=True, first=False)
    assert found is not None
    assert found.died == (0,)
    assert set(found.parts) == {1, 2}


def test_a_higher_rank_that_is_told_to_end_leaves_it_to_a_lower_one(tmp_path: Path) -> None:
    zero, one, _two = begun(tmp_path, 0, 1, 2)
    kill(zero)
    clock = Clock(lambda: (one.home / "rank-1.part").write_bytes(b"here\npart 1"))
    assert is_told_to_end(at(tmp_path, 2, clock=clock)) is None


def test_the_first_to_fail_does_not_wait_for_ranks_that_wait_for_it(tmp_path: Path) -> None:
    begun(tmp_path, 0, 1, 2)
    clock = Clock()
    assert fails(at(tmp_path, 0, clock=clock)) is None
    assert clock.now == 0.0


def test_after_a_failure_those_that_are_told_to_end_merge_what_all_saw(tmp_path: Path) -> None:
    zero, _one, two = begun(tmp_path, 0, 1, 2)
    assert fails(zero) is None
    clock = Clock(lambda: is_told_to_end(two))
    found = at(tmp_path, 1, clock=clock).hand_in(b"part 1", failed=True, first=False)
    assert found is not None
    assert set(found.parts) == {0, 1, 2}


def test_who_fails_because_another_rank_died_waits_and_merges(tmp_path: Path) -> None:
    _zero, one, two = begun(tmp_path, 0, 1, 2)
    kill(one)
    clock = Clock(lambda: fails(two))
    found = at(tmp_path, 0, clock=clock).hand_in(b"part 0", failed=True, first=True)
    assert found is not None
    assert (set(found.parts), found.died) == ({0, 2}, (1,))


def test_ranks_that_fail_one_after_the_other_are_merged_by_the_last(tmp_path: Path) -> None:
    zero, one = begun(tmp_path, 0, 1, world=2)
    assert fails(zero) is None
    kill(zero)
    assert fails(one) is not None


def test_ranks_that_fail_at_the_same_moment_are_merged_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero, one = begun(tmp_path, 0, 1, world=2)
    monkeypatch.setattr(Meeting, "_trouble_before", lambda self: False)
    monkeypatch.setattr(Meeting, "_others_live", lambda self: True)
    assert [fails(zero) is not None, fails(one) is not None] == [False, True]


def test_ranks_on_other_hosts_leave_it_to_rank_0(tmp_path: Path) -> None:
    zero, _one = begun(tmp_path, 0, 1, world=2)
    move_away(zero)
    clock = Clock()
    assert ends_well(at(tmp_path, 1, 2, clock)) is None
    assert clock.now == 0.0


def test_if_rank_0_is_lost_on_another_host_the_next_one_merges_after_a_while(
    tmp_path: Path,
) -> None:
    zero, _one = begun(tmp_path, 0, 1, world=2)
    move_away(zero)
    clock = Clock()
    found = at(tmp_path, 1, 2, clock).hand_in(b"part 1", failed=True, first=False)
    assert found is not None
    assert found.running == (0,)
    assert clock.now >= PATIENCE_S


def test_only_one_gets_the_lock(tmp_path: Path) -> None:
    zero, _one = begun(tmp_path, 0, 1, world=2)
    (zero.home / "merging").write_bytes(Mark.mine().to_bytes())
    assert ends_well(zero) is None


def test_merged_is_merged_a_late_rank_is_silent(tmp_path: Path) -> None:
    zero, one = begun(tmp_path, 0, 1, world=2)
    kill(one)
    assert ends_well(zero) is not None
    zero.close()
    assert list(tmp_path.iterdir()) == []
    assert ends_well(one) is None
    assert list(tmp_path.iterdir()) == []


def test_a_rank_that_does_not_merge_leaves_the_files_to_who_does(tmp_path: Path) -> None:
    zero, one = begun(tmp_path, 0, 1, world=2)
    ends_well(one)
    one.close()
    assert ends_well(zero) is not None


# -- leftovers ----------------------------------------------------------------------------------


def age(path: Path, seconds: float) -> None:
    when = path.stat().st_mtime - seconds
    os.utime(path, (when, when))


def test_parts_of_an_earlier_run_of_the_same_name_are_not_taken(tmp_path: Path) -> None:
    for meeting in begun(tmp_path, 0, 1, world=2):
        meeting.hand_in_partial(b"old")
        (meeting.home / f"rank-{meeting.place.rank}.part").write_bytes(b"here\nold")
        kill(meeting)
    for path in (tmp_path / f"{PREFIX}job").iterdir():
        age(path, 3600)
    (zero,) = begun(tmp_path, 0, world=2)
    found = zero.hand_in(b"new", failed=False, first=False)
    assert found is not None
    assert found.parts == {0: b"new"}
    assert found.absent == (1,)


def test_a_rank_clears_away_its_own_part_of_an_earlier_run(tmp_path: Path) -> None:
    _zero, one = begun(tmp_path, 0, 1, world=2)
    ends_well(one)
    begun(tmp_path, 1, world=2)
    assert not (one.home / "rank-1.part").exists()


def test_the_lock_of_a_merger_that_died_holds_nobody_up(tmp_path: Path) -> None:
    (zero,) = begun(tmp_path, 0, world=2)
    gone = Mark("nowhere", 1, 1.0)
    alive_nowhere = json.loads(Mark.mine().to_bytes()) | {"started_s": gone.started_s}
    (zero.home / "merging").write_text(json.dumps(alive_nowhere))
    zero, one = begun(tmp_path, 0, 1, world=2)
    ends_well(one)
    assert ends_well(zero) is not None


def test_folders_of_dead_runs_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead, living, fresh = (
        Meeting(Place(0, 2, name), tmp_path) for name in ("dead", "living", "fresh")
    )
    for meeting in (dead, living, fresh):
        meeting.begin()
    for meeting in (dead, fresh):
        kill(meeting)
    for meeting in (dead, living):
        age(meeting.home, 3600)
    begun(tmp_path, 0)
    names = {path.name.removeprefix(PREFIX) for path in tmp_path.iterdir()}
    assert names == {"living", "fresh", "job"}


def test_a_folder_that_cannot_be_written_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert meet(TORCHRUN, tmp_path / "none") is None
    assert "each reports for itself" in capsys.readouterr().err
    assert meet({}, tmp_path) is None


def test_to_meet_takes_neither_numpy_nor_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from perfdoctor.collect.script.ranks import meet;"
        f"meet({TORCHRUN!r}, Path({str(tmp_path)!r}));"
        "print(sorted({'numpy', 'torch', 'msgspec'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_report_of_one_rank_goes_when_another_one_has_merged(tmp_path: Path) -> None:
    report = tmp_path / "performance_report_ä.json"
    report.write_text("{}")
    first, second = (Meeting(Place(rank, 2, "group"), tmp_path) for rank in (0, 1))
    first.begin()
    second.begin()
    second.remove_report()
    assert report.exists()
    first.note_report(report)
    second.remove_report()
    assert not report.exists()
