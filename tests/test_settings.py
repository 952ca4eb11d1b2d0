"""Settings of a project, from whichever file has them."""

from __future__ import annotations

import pytest

from perfdoctor import plugins, settings
from perfdoctor.errors import PerfdoctorError

FILES = {
    "perfdoctor.toml": 'disable = ["PD105", "small-batch"]\n[thresholds]\nmin_speedup = 1.1\n',
    "pyproject.toml": '[tool.perfdoctor]\ndisable = ["PD105", "small-batch"]\n'
    "thresholds = { min_speedup = 1.1 }\n",
    "setup.cfg": "[perfdoctor]\ndisable = PD105, small-batch\n"
    "[perfdoctor:thresholds]\nmin_speedup = 1.1\n",
}


@pytest.mark.parametrize("name", FILES)
def test_each_file_gives_the_same_settings(name, tmp_path):
    (tmp_path / name).write_text(FILES[name])
    found = settings.load(tmp_path)
    assert found.disable == {"PD105", "small-batch"}
    assert found.thresholds == {"min_speedup": 1.1}
    assert found.path == tmp_path / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("perfdoctor.toml", "[thresholds]\nPD205.memory_share = 0.9\n"),
        ("perfdoctor.toml", '[thresholds]\n"PD205.memory_share" = 0.9\n'),
        ("pyproject.toml", "[tool.perfdoctor.thresholds.PD205]\nmemory_share = 0.9\n"),
        ("setup.cfg", "[perfdoctor:thresholds]\nPD205.memory_share = 0.9\n"),
    ],
)
def test_a_threshold_of_a_rule_is_written_as_it_comes_naturally(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    assert settings.load(tmp_path).thresholds == {"PD205.memory_share": 0.9}


def test_the_nearest_folder_above_counts(tmp_path):
    (tmp_path / "perfdoctor.toml").write_text(FILES["perfdoctor.toml"])
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert settings.load(below).disable == {"PD105", "small-batch"}


def test_no_file_is_no_setting(tmp_path):
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = x\n")
    assert settings.load(tmp_path).disable == frozenset()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("perfdoctor.toml", "disable = [", "cannot read .*perfdoctor.toml"),
        ("perfdoctor.toml", "disabled = []", "unknown setting 'disabled'; known are"),
        ("perfdoctor.toml", "[thresholds]\na = 'x'", "threshold 'a' must be a number, not 'x'"),
        ("perfdoctor.toml", "[thresholds]\nPD101.a = true", "'PD101.a' must be a number, not True"),
        ("perfdoctor.toml", "[thresholds]\na = nan", "threshold 'a' must be a number, not nan"),
        ("perfdoctor.toml", "thresholds = 0.5", "thresholds must be a table of numbers, not 0.5"),
        ("perfdoctor.toml", 'disable = "PD101"', "disable must be a list of codes or names"),
        ("pyproject.toml", "[tool.perfdoctor]\ndisable = [101]", "disable must be a list of codes"),
        ("setup.cfg", "[perfdoctor:thresholds]\nPD101.a = high\n", "'PD101.a' must be a number"),
        ("setup.cfg", "[perfdoctor\n", "cannot read .*setup.cfg"),
    ],
)
def test_a_file_with_a_mistake_is_named(name, text, words, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(PerfdoctorError, match=words) as caught:
        settings.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_extension_that_fails_to_load_is_told_and_the_others_stay(monkeypatch):
    class Entry:
        def __init__(self, name, value):
            self.name, self.value = name, value

        def load(self):
            if isinstance(self.value, Exception):
                raise self.value
            return self.value

    entries = [Entry("good", "rule"), Entry("bad", ImportError("no such thing"))]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
    loaded = plugins.load(plugins.RULES)
    assert loaded.objects == ("rule",)
    assert loaded.problems == ("perfdoctor.rules entry point 'bad' failed to load: no such thing",)
