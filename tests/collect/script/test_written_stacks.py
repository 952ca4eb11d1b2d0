"""The part of forward passes that writes stacks down."""

from __future__ import annotations

import pytest
from made import Frame, library, seen, user

from perfdoctor.collect.script import recorder
from perfdoctor.collect.script.written_stacks import stacks_of_forward

WRITES = (
    Frame("/usr/lib/python3.12/linecache.py", 80, "checkcache", 60),
    Frame("/usr/lib/python3.12/traceback.py", 218, "format_stack", 210),
    user("forward"),
)
COMPUTES = (library("torch/nn/modules/linear.py", "Linear.forward"), user("forward"))


@pytest.mark.parametrize("label", [recorder.FORWARD, recorder.AFTER_FORWARD, recorder.LOSS])
def test_the_part_is_that_of_the_looks_time(label):
    looks = [seen(*WRITES, seconds=3.0, count=60, label=label)]
    looks += [seen(*COMPUTES, seconds=1.0, count=20, label=label)]
    looks += [seen(*COMPUTES, seconds=9.0, count=90, label=recorder.BACKWARD)]
    assert stacks_of_forward(looks) == {"stacks_of_forward": 0.75}


def test_a_script_that_writes_none_has_no_such_setting():
    assert stacks_of_forward([seen(*COMPUTES, count=90, label=recorder.FORWARD)]) == {}


def test_few_looks_tell_nothing():
    assert stacks_of_forward([seen(*WRITES, count=49, label=recorder.FORWARD)]) == {}


def test_a_stack_written_elsewhere_is_none_of_the_forward():
    looks = [seen(*WRITES, count=90, label=recorder.BACKWARD)]
    looks += [seen(*COMPUTES, count=90, label=recorder.FORWARD)]
    assert stacks_of_forward(looks) == {}
