"""Which commits are compared, and checkouts that leave nothing behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from perfdoctor.errors import PerfdoctorError
from perfdoctor.gate import against, repository
from perfdoctor.gate.worktrees import checked_out


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e@x", "-C", str(folder), *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def commit(folder: Path, name: str, text: str) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", text)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repo(tmp_path):
    """main: one, three. work (checked out): one, two."""
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-qb", "main")
    commit(folder, "code.py", "one")
    git(folder, "checkout", "-qb", "work")
    commit(folder, "code.py", "two")
    git(folder, "checkout", "-q", "main")
    commit(folder, "other.py", "three")
    git(folder, "checkout", "-q", "work")
    return repository.find(folder)


def left_behind(repo) -> list[str]:
    return [*git(repo.root, "worktree", "list").splitlines()[1:],
            *(p.name for p in (repo.root / ".git" / "worktrees").glob("*"))]  # fmt: skip


def test_the_old_side_is_where_the_branch_began(repo):
    assert repo.merge_base("main") == git(repo.root, "rev-parse", "main~1")


def test_a_revision_that_is_not_there_is_told_with_a_way_out(repo):
    with pytest.raises(PerfdoctorError, match=r"no revision 'nope'.*git fetch"):
        repo.merge_base("nope")


def test_a_revision_cannot_be_an_option(repo):
    with pytest.raises(PerfdoctorError, match="no revision"):
        repo.commit("--all")


def test_a_shallow_clone_is_told_to_be_deepened(repo, tmp_path):
    git(tmp_path, "clone", "-q", "--depth=1", "--no-single-branch", f"file://{repo.root}", "c")
    with pytest.raises(PerfdoctorError, match="fetch-depth: 0"):
        repository.find(tmp_path / "c").merge_base("origin/main")


def test_no_repository_is_one_line(tmp_path):
    with pytest.raises(PerfdoctorError, match="is in no git repository"):
        repository.find(tmp_path)


def test_both_sides_are_checked_out_at_paths_of_one_length_and_removed(repo):
    with checked_out(repo, repo.merge_base("main")) as (before, after):
        assert (before.root / "code.py").read_text() == "one"
        assert (after.root / "code.py").read_text() == "two"
        assert len(str(before.root)) == len(str(after.root))
        root = before.root.parent
    assert not root.exists()
    assert left_behind(repo) == []


def test_changes_that_are_not_committed_are_measured_where_they_are(repo):
    (repo.root / "code.py").write_text("three")
    with checked_out(repo, repo.merge_base("main")) as (_, after):
        assert after.in_place and after.root == repo.root
    assert (repo.root / "code.py").read_text() == "three"
    assert left_behind(repo) == []


def test_what_runs_leave_behind_is_no_change_and_a_new_module_is(repo):
    (repo.root / "out.json").write_text("{}")
    assert not repo.dirty
    (repo.root / "new").mkdir()
    (repo.root / "new" / "module.py").write_text("")
    assert repo.dirty


def test_beside_a_checkout_with_a_long_path_the_old_side_has_one_as_long(tmp_path):
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    git(folder, "init", "-qb", "main")
    base = commit(folder, "code.py", "one")
    (folder / "code.py").write_text("two")
    with checked_out(repository.find(folder), base) as (before, after):
        assert after.in_place and len(str(before.root)) == len(str(after.root))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_nothing_is_left_whatever_happens_inside(repo, error):
    with pytest.raises(error), checked_out(repo, repo.merge_base("main")) as (before, _):
        (before.root / "new").mkdir()
        (before.root / "new" / "file").write_text("untracked")
        raise error
    assert left_behind(repo) == []


def test_an_interrupt_while_git_makes_the_second_checkout_leaves_nothing(repo, monkeypatch):
    original, calls = repository.Repository.git, []

    def interrupted(self, *arguments, **more):
        if arguments[:2] == ("worktree", "add"):
            calls.append(arguments)
            if len(calls) == 2:
                raise KeyboardInterrupt
        return original(self, *arguments, **more)

    monkeypatch.setattr(repository.Repository, "git", interrupted)
    with pytest.raises(KeyboardInterrupt), checked_out(repo, repo.merge_base("main")):
        pass
    assert left_behind(repo) == []


def test_two_checks_at_once_do_not_touch_each_other(repo):
    base = repo.merge_base("main")
    with checked_out(repo, base) as (first, _):
        with checked_out(repo, base) as (second, _):
            assert second.root != first.root
        assert (first.root / "code.py").read_text() == "one"
        assert git(first.root, "rev-parse", "HEAD") == base
    assert left_behind(repo) == []


def test_worktrees_of_the_user_stay(repo, tmp_path):
    git(repo.root, "worktree", "add", "-q", str(tmp_path / "mine"), "main")
    with checked_out(repo, repo.merge_base("main")):
        pass
    assert len(left_behind(repo)) == 2  # listed once, and one folder


def test_shared_data_is_seen_by_both_sides_and_survives(repo):
    (repo.root / ".gitignore").write_text("data\n")
    git(repo.root, "add", "-A")
    git(repo.root, "commit", "-qm", "ignore")
    (repo.root / "data").mkdir()
    (repo.root / "data" / "a.bin").write_text("x")
    with checked_out(repo, repo.merge_base("main"), ["data"]) as sides:
        assert [(side.root / "data" / "a.bin").read_text() for side in sides] == ["x", "x"]
    assert (repo.root / "data" / "a.bin").read_text() == "x"


def test_sharing_what_is_not_there_is_one_line_and_leaves_nothing(repo):
    with (
        pytest.raises(PerfdoctorError, match="--share data: there is no such file"),
        checked_out(repo, repo.merge_base("main"), ["data"]),
    ):
        pass
    assert left_behind(repo) == []


def test_hooks_of_the_user_do_not_run(repo):
    hook = repo.root / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with checked_out(repo, repo.merge_base("main")):
        pass


def test_the_project_s_modules_are_those_at_its_top_and_in_src(repo):
    commit(repo.root, "src/pack/__init__.py", "x")
    commit(repo.root, "deep/inner/__init__.py", "y")
    assert repo.packages() == {"code", "pack"}


def with_submodule(repo, tmp_path) -> Path:
    """A submodule `part` on the branch work, whose file says "first"."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-qb", "main")
    commit(other, "part.py", "first")
    git(repo.root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "part")
    git(repo.root, "commit", "-qm", "with a part")
    return repo.root / "part"


def test_submodules_are_checked_out_at_the_commit_of_each_side_and_removed(repo, tmp_path):
    part = with_submodule(repo, tmp_path)
    base = git(repo.root, "rev-parse", "HEAD")
    commit(part, "part.py", "second")
    git(repo.root, "commit", "-qam", "newer part")
    with checked_out(repo, base) as (before, after):
        assert (before.root / "part" / "part.py").read_text() == "first"
        assert (after.root / "part" / "part.py").read_text() == "second"
    assert left_behind(repo) == []
    assert git(part, "worktree", "list").count("\n") == 0
    assert git(repo.root, "status", "--porcelain") == ""


def test_a_commit_that_a_submodule_does_not_have_is_told_with_a_way_out(repo, tmp_path):
    with_submodule(repo, tmp_path)
    missing = "1" * 40
    git(repo.root, "update-index", "--cacheinfo", f"160000,{missing},part")
    git(repo.root, "commit", "-qm", "gone")
    base = git(repo.root, "rev-parse", "HEAD")
    with pytest.raises(PerfdoctorError, match=r"no revision '1+' in .*part; `git fetch"), \
            checked_out(repo, base):  # fmt: skip
        pass
    assert left_behind(repo) == []


def test_files_that_git_lfs_has_not_brought_are_known(repo):
    commit(repo.root, ".gitattributes", "*.bin filter=lfs\n")
    commit(repo.root, "data.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    commit(repo.root, "small.bin", "the data")
    assert repo.pointers() == ["data.bin"]


def test_a_hook_that_calls_it_does_not_choose_the_repository(repo, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert repo.commit("HEAD") == repo.merge_base("work")


def test_settings_of_git_in_the_environment_hold(repo, monkeypatch):
    for name, value in {"COUNT": "1", "KEY_0": "alias.here", "VALUE_0": "rev-parse HEAD"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert repo.git("here") == repo.commit("HEAD")


def test_a_side_without_files_of_git_lfs_is_told_before_it_fails_of_it(repo, capsys):
    commit(repo.root, ".gitattributes", "*.bin filter=lfs\n")
    commit(repo.root, "data.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with checked_out(repo, repo.merge_base("main")) as checkouts:
        (note,) = against.missing_files(checkouts)
    assert note.startswith("1 file of git-lfs: only pointers are in")
    assert "data.bin" in capsys.readouterr().err
