"""Reports survive writing and reading, and files are whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from builders import make_comparison, make_diagnosis, make_recommendation, make_report, make_run

from perfdoctor import schema
from perfdoctor.errors import PerfdoctorError
from perfdoctor.record import Probe
from perfdoctor.report import Abstained, Trial
from perfdoctor.summarise import summarise

OLD_FILES = Path(__file__).parent / "old_reports"


def full_report():
    return make_report(
        diagnosis=make_diagnosis(),
        recommendations=(
            make_recommendation(),
            make_recommendation(rank=2, verified=Trial(outcome="verified", speedup=1.2, pairs=9)),
        ),
        abstained=(Abstained(rule="PD201", missing="probes.h2d_pinned"),),
        comparison=make_comparison(),
        probes={
            "bf16": Probe(name="bf16", speedup=2, low=1.5, high=2.5, pairs=8, affects=("forward",))
        },
    )


def test_a_report_is_the_same_after_writing_and_reading():
    report = full_report()
    assert schema.from_json(schema.to_json(report)) == report


def test_a_summarised_run_can_be_written_and_read():
    report = summarise(make_run())
    again = schema.from_json(schema.to_json(report))
    assert again.stages == report.stages
    assert again.series == report.series


def test_the_json_has_the_keys_of_the_contract():
    data = json.loads(schema.to_json(full_report()))
    contract = {
        "schema_version", "tool", "created_at", "source", "environment", "configuration",
        "steps", "epochs", "stages", "throughput", "utilisation", "memory", "hotspots",
        "diagnosis", "recommendations", "abstained", "warnings", "series",
    }  # fmt: skip
    assert contract <= set(data)
    assert data["schema_version"] == 1
    stage = data["stages"]["data_loading"]
    statistics = {"count", "total_s", "mean_s", "std_s", "min_s", "p50_s", "p95_s", "p99_s"}
    assert statistics | {"max_s", "p50_ci", "share", "hidden_s"} <= set(stage)
    advice = data["recommendations"][0]
    assert {
        "rank", "rule", "name", "title", "stage", "advice", "change", "snippet", "evidence",
        "effort", "safety", "predicted", "verified",
    } <= set(advice)  # fmt: skip
    assert advice["verified"] is None
    assert set(advice["predicted"]) == {"speedup", "low", "high", "model"}


def test_what_was_not_measured_is_null_and_not_zero():
    data = json.loads(schema.to_json(make_report()))
    assert data["memory"]["peak_bytes"] is None
    assert data["inference"] is None


@pytest.mark.parametrize("path", sorted(OLD_FILES.glob("*.json")), ids=lambda p: p.stem)
def test_every_old_version_can_still_be_read(path):
    report = schema.from_json(path.read_bytes(), str(path))
    assert report.schema_version <= schema.SCHEMA_VERSION
    assert report.stages
    assert report.recommendations


def test_there_is_an_old_file_of_every_version():
    versions = {json.loads(p.read_bytes())["schema_version"] for p in OLD_FILES.glob("*.json")}
    assert versions == set(range(1, schema.SCHEMA_VERSION + 1))


@pytest.mark.parametrize(
    ("data", "slug", "words"),
    [
        (b"{", "report-not-json", "x.json is not JSON"),
        (b"[1]", "not-a-report", "x.json is not a perfdoctor report"),
        (b'{"schema_version": 99}', "report-too-new", "upgrade perfdoctor"),
        (b'{"schema_version": 1}', "report-invalid", "x.json: Object missing required field"),
        (b'{"schema_version": 1, "kind": "check"}', "not-a-report", "x.json is a check that"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(data, slug, words):
    with pytest.raises(PerfdoctorError, match=words) as caught:
        schema.from_json(data, "x.json")
    assert caught.value.slug == slug
    assert "\n" not in str(caught.value)


def test_writing_replaces_a_file_whole(tmp_path):
    target = tmp_path / "report.json"
    target.write_bytes(b"old")
    schema.write_atomically(target, b"new")
    assert target.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "report.json"
    target.write_bytes(b"old")

    def full(self: Path, other: Path) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(PerfdoctorError, match=r"No space left"):
        schema.write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_missing_folder_is_one_clear_line(tmp_path):
    with pytest.raises(PerfdoctorError, match=r"cannot write .*choose another place"):
        schema.write_atomically(tmp_path / "no" / "report.json", b"")
