"""Which work of an iterable dataset every worker does for all samples, by the source."""

from __future__ import annotations

import linecache
import textwrap
from itertools import count

import pytest

from perfdoctor.collect.script.repeating import repeated_in_workers

_NUMBERS = count()
_HEAD = """\
import itertools
from itertools import islice
import numpy as np
from torch.utils.data import Dataset, IterableDataset, get_worker_info

class Clips(IterableDataset):
    def __init__(self, paths):
        self.paths = paths
    def read(self, path):
        return np.load(path)  # read
    def samples(self):
        for path in self.paths:
            yield self.read(path)  # samples
    def order(self):
        return np.random.permutation(len(self.paths))
"""
_INFO = "info = get_worker_info()\n"


def marked(body: str, head: str = _HEAD) -> set[str]:
    """The marks of the lines that every worker runs for all samples."""
    file = f"/home/me/repeating_{next(_NUMBERS)}.py"
    inside = textwrap.indent(_INFO + textwrap.dedent(body).strip(), "        ")
    lines = f"{head}    def __iter__(self):\n{inside}\n".splitlines(keepends=True)
    linecache.cache[file] = (1, None, lines, file)
    found = [text for n, text in enumerate(lines, 1) if repeated_in_workers(file, n)]
    return {text.partition("# ")[2].strip() for text in found if "# " in text}


@pytest.mark.parametrize(
    "body",
    [
        "return itertools.islice(self.samples(), info.id, None, info.num_workers)",
        "yield from islice(self.samples(), info.id, None, info.num_workers)",
        "w, n = (info.id, info.num_workers) if info else (0, 1)\n"
        "return islice(self.samples(), w, None, n)",
        "every = self.samples()\nreturn islice(every, info.id, None, info.num_workers)",
        "for k, x in enumerate(self.samples()):\n"
        "    if k % info.num_workers != info.id:\n        continue\n    yield x",
        "for k, x in enumerate(self.samples()):\n"
        "    if k % info.num_workers == info.id:\n        yield x",
        "n = info.num_workers\nk = 0\nfor x in self.samples():\n    k += 1\n"
        "    if k % n != info.id:\n        continue\n    yield x",
        "return iter(list(self.samples())[info.id :: info.num_workers])",
    ],
)
def test_what_is_made_before_it_is_split_is_made_by_every_worker(body):
    assert marked(body) == {"read", "samples"}


@pytest.mark.parametrize(
    "body",
    [
        "for k, path in enumerate(self.paths):\n    x = self.read(path)\n"
        "    if k % info.num_workers != info.id:\n        continue\n    yield x",
        "for k, path in enumerate(self.paths):\n    x = self.read(path)\n"
        "    if k % info.num_workers == info.id:\n        yield x",
        "return islice(map(self.read, self.paths), info.id, None, info.num_workers)",
        "return islice((self.read(p) for p in self.paths), info.id, None, info.num_workers)",
        "every = [self.read(path) for path in self.paths]\n"
        "yield from every[info.id :: info.num_workers]",
    ],
)
def test_so_is_what_is_read_one_by_one_in_the_loop(body):
    assert marked(body) == {"read"}


def test_work_in_the_loop_itself_is_told_line_by_line():
    body = """\
    for k, path in enumerate(self.paths):
        x = np.load(path)  # loaded
        if k % info.num_workers != info.id:
            continue
        yield np.fft.fft(x)  # kept
    """
    assert marked(body) == {"loaded"}
    body = "yield from islice((np.load(p) for p in self.paths), 0, None, info.num_workers)  # one"
    assert marked(body) == {"one"}


@pytest.mark.parametrize(
    "body",
    [
        "for path in self.paths[info.id :: info.num_workers]:\n    yield self.read(path)",
        "for path in islice(self.paths, info.id, None, info.num_workers):\n"
        "    yield self.read(path)",
        "order = self.order()[info.id :: info.num_workers]\n"
        "for i in order:\n    yield self.read(self.paths[i])",
        "order = np.random.permutation(9)\nfor i in order[info.id :: info.num_workers]:  # order\n"
        "    yield self.read(i)",
        "for k, path in enumerate(self.paths):\n"
        "    if k % info.num_workers != info.id:\n        continue\n    yield self.read(path)",
        "for k, path in enumerate(self.paths):\n"
        "    if k % info.num_workers == info.id:\n        yield self.read(path)",
        "for k, x in enumerate(self.samples()):\n"
        "    if k % info.num_workers == 0:\n        print(k)\n    yield x",
        "for k, x in enumerate(self.samples()):\n    if k % 2:\n        continue\n    yield x",
        "return islice(self.samples(), 0, None, 2)",
        "return islice(self.samples(), info.num_workers)",
        "return self.samples()",
    ],
)
def test_files_and_numbers_that_are_split_before_the_work_are_not_accused(body):
    assert marked(body) == set()


def test_a_dataset_that_is_asked_by_number_is_none_of_it():
    head = _HEAD.replace("IterableDataset)", "Dataset)").replace("import Dataset)", "import")
    body = "return islice(self.samples(), info.id, None, info.num_workers)"
    text = marked(body, head.replace("Clips(Dataset)", "Sampler"))
    assert text == set()


def test_without_source_nothing_is_repeated():
    assert not repeated_in_workers("<string>", 3)
