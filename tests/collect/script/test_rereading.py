"""Which reading in a dataset is the same for every sample, by the source."""

from __future__ import annotations

import linecache
import textwrap
from itertools import count

import pytest
from made import line_with

from perfdoctor.collect.script.rereading import same_each_time

_NUMBERS = count()
_HEAD = """\
import csv, json, os, pickle, random, sqlite3, zipfile
from pathlib import Path
import h5py
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import Dataset
STORE = "store.npz"
"""
_CLASS = """\
class Rows(Dataset):
    def __init__(self, path, paths, idx):
        self.path, self.paths, self.idx = path, paths, idx
        self.root = Path(path).parent
        self.handle = open(path)
        self.numbers = iter(range(9))
        self.archive = np.load(path)
"""


def told(text: str, callee: str | None) -> bool | None:
    """Of the line that ends in "# here"."""
    file = f"/home/me/rereading_{next(_NUMBERS)}.py"
    lines = textwrap.dedent(text).splitlines(keepends=True)
    linecache.cache[file] = (1, None, lines, file)
    return same_each_time(file, line_with(file, "# here"), callee)


def in_class(body: str, callee: str | None, head: str = _CLASS) -> bool | None:
    return told(_HEAD + head + textwrap.indent(textwrap.dedent(body), "    "), callee)


def in_getitem(body: str, callee: str | None) -> bool | None:
    text = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return in_class(f"def __getitem__(self, i):\n{text}\n", callee)


@pytest.mark.parametrize(
    ("body", "callee"),
    [
        ("with np.load(self.path) as z:\n    x = z['x'][i]  # here", "NpzFile.__getitem__"),
        ("with np.load(self.path) as z:  # here\n    return z['x'][i]", "load"),
        ("with np.load(self.path) as z:  # here\n    return z['x'][i]", "NpzFile.__exit__"),
        ("return np.load(STORE)['x'][i]  # here", "NpzFile.__getitem__"),
        ("return np.load(STORE)['x'][i]  # here", "load"),
        ("return self.archive['x'][i]  # here", "NpzFile.__getitem__"),
        ("return pd.read_csv(self.path).iloc[i]  # here", "read_csv"),
        ("table = pd.read_csv(self.path, sep=';')  # here\nreturn table.values[i]", "read_csv"),
        ("return json.load(open(self.path))[i]  # here", "load"),
        ("with open(self.path) as f:\n    rows = json.load(f)  # here\nreturn rows[i]", "load"),
        ("text = Path(self.path).read_text()\nreturn json.loads(text)[i]  # here", "loads"),
        ("with self.path.open() as f:\n    return list(csv.reader(f))[i]  # here", None),
        ("with open(self.path) as f:\n    for k, line in enumerate(f):  # here\n"
         "        if k == i:\n            return line", None),
        ("return pickle.load(open(self.path, 'rb'))[i]  # here", None),
        ("return torch.tensor(pickle.load(open(self.path, 'rb'))[i])  # here", None),
        ("with h5py.File(self.path, 'r') as f:  # here\n    return f['x'][i]", "File.__init__"),
        ("with h5py.File(self.path) as f:\n    return f['x'][:][i]  # here", "Dataset.__getitem__"),
        ("return torch.load(self.path, weights_only=True)[i]  # here", "load"),
        ("name = os.path.join(self.root, 'all.npy')\nreturn np.load(name)[i]  # here", "load"),
        ("return np.load(self.root / 'all.npy')[i]  # here", "load"),
        ("if i < 0:\n    i += len(self)\nreturn np.load(self.path)[i]  # here", "load"),
        ("if i >= len(self):\n    raise IndexError\nreturn np.load(self.path)[i]  # here", "load"),
        ("try:\n    return np.load(self.path)[i]  # here\nexcept OSError:\n    raise", "load"),
        ("return sorted(os.listdir(self.root))[i]  # here", None),
        ("db = sqlite3.connect(self.path)  # here\nreturn db.execute(i)", "sqlite3.connect"),
        ("z = zipfile.ZipFile(self.path)  # here\nreturn z.read(self.idx[i])", "ZipFile.__init__"),
        ("im = Image.open(self.path).convert('RGB')  # here\nreturn im.crop(i)", "Image.convert"),
        ("parts = [np.load(p) for p in self.paths]  # here\nreturn parts[0][i]", "load"),
        ("with open(self.path) as f:\n    next(f)\n    rows = f.readlines()  # here", None),
    ],
)  # fmt: skip
def test_what_does_not_come_from_the_index_is_the_same_for_every_sample(body, callee):
    assert in_getitem(body, callee) is True


@pytest.mark.parametrize(
    ("body", "callee"),
    [
        ("return np.load(self.paths[i])['x']  # here", "NpzFile.__getitem__"),
        ("return np.load(self.paths[i])  # here", "load"),
        ("path = self.paths[self.idx[i]]\nreturn Image.open(path)  # here", "open"),
        ("return np.load(f'{self.root}/{i}.npy')  # here", "load"),
        ("return np.load(os.path.join(self.root, str(i)))  # here", "load"),
        ("return np.load(self.root / f'{i}.npy')  # here", "load"),
        ("with np.load(self.path) as z:\n    return z[f'x{i}']  # here", "NpzFile.__getitem__"),
        ("with h5py.File(self.path) as f:\n    return f['x'][i]  # here", "Dataset.__getitem__"),
        ("return pd.read_csv(self.path).iloc[i]  # here", "_iLocIndexer.__getitem__"),
        ("p = self.paths[0]\nif i > 9:\n    p = self.paths[1]\nnp.load(p)  # here", "load"),
        ("if i > 9:\n    return np.load(self.paths[1])  # here\nreturn 1", "load"),
        ("for p in self.paths:\n    if len(p) > i:\n        break\nnp.load(p)  # here", "load"),
        ("with open(self.path) as f:\n    f.seek(self.idx[i])\n    pickle.load(f)  # here", None),
        ("with open(self.path) as f:\n    f.seek(self.idx[i])\n    f.read(9)  # here", None),
        ("self.current = self.paths[i]\nreturn np.load(self.current)  # here", "load"),
        ("z = zipfile.ZipFile(self.path)\nreturn z.read(self.paths[i])  # here", "ZipFile.read"),
        ("a, b = self.paths[i]\nreturn np.load(a), np.load(b)  # here", "load"),
        ("return [np.load(p) for p in self.paths[i]]  # here", "load"),
    ],
)  # fmt: skip
def test_a_file_or_a_part_of_it_for_each_sample_is_not(body, callee):
    assert in_getitem(body, callee) is False


@pytest.mark.parametrize(
    ("body", "callee"),
    [
        ("return np.load(random.choice(self.paths))  # here", "load"),
        ("p = list(self.paths)\nrandom.shuffle(p)\nreturn np.load(p[0])  # here", "load"),
        ("return np.load(self.paths[next(self.numbers)])  # here", "load"),
        ("return pickle.load(self.handle)  # here", "pickle.load"),
        ("return pickle.load(self.path)  # here", "pickle.load"),
        ("return self.handle.read()  # here", "read"),
        ("return json.loads(next(self.handle))  # here", "loads"),
        ("return np.load(self.handle)  # here", "load"),
        ("self.idx += 1\nreturn np.load(self.find())  # here", "load"),
        ("return np.load(find())  # here", "load"),
        ("return pd.read_csv(self.path).sample(1)  # here", "DataFrame.sample"),
        ("if self.f is None:\n    self.f = h5py.File(self.path)  # here", "File.__init__"),
        ("if i not in self.seen:\n    self.seen[i] = np.load(self.path)[i]  # here", "load"),
        ("if i in C:\n    return C[i]\nx = np.load(self.path)  # here\nC[i] = x[i]", "load"),
        ("x = np.load(self.path)[i]  # here\nself.seen.append(x)\nreturn x", "load"),
        ("x = self.x[i]\nreturn (x - x.mean()) / x.std()  # here", None),
        ("return torch.from_numpy(self.x.sum())  # here", "torch.from_numpy"),
        ("return [self.x[j] for j in range(i)]  # here", None),
    ],
)  # fmt: skip
def test_what_is_drawn_or_goes_on_or_is_kept_or_not_read_cannot_be_told(body, callee):
    assert in_getitem(body, callee) is None


_READS = """
def _read(self, {0}):
    return np.load({1})  # here
def __getitem__(self, i):
    return {2}
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (_READS.format("name", "self.root / name", "self._read('x.npy')[i]"), True),
        (_READS.format("name", "self.root / name", "self._read(name='x.npy')[i]"), True),
        (_READS.format("name", "name", "self._read(self.paths[i])"), False),
        (_READS.format("*names", "names[0]", "self._read(*self.paths[i])"), False),
        (_READS.format("name", "self.path", "self._read(self.paths[i])[i]"), True),
        (_READS.format("k", "self.path", "self._read(0)[i] if i else self._read(i)[i]"), True),
        (_READS.format("k", "self.paths[k]", "self._read(0)[i] if i else self._read(i)"), False),
        ("@property" + _READS.format("k=0", "self.path", "self._read[i]"), True),
        ("@cached_property" + _READS.format("k=0", "self.path", "self._read[i]"), None),
        ("@lru_cache" + _READS.format("k=0", "self.path", "self._read()[i]"), None),
        (_READS.format("k", "self.path", "self.seen.setdefault(i, self._read(0)[i])"), None),
        (_READS.format("k", "self.path", "self.x[i]"), None),
        (_READS.format("k", "self.at", "self.find(i)\n    return self._read(0)"), True),
        (
            _READS.format(
                "k",
                "self.at",
                "0\ndef __getitems__(self, i):\n    self.at = i\n    return self._read(0)",
            ),
            None,
        ),
    ],
)
def test_a_method_that_reads_is_judged_by_what_it_is_called_with(text, found):
    assert in_class(text, "load") is found


@pytest.mark.parametrize(
    ("call", "found"), [("table(self.path)", True), ("table(self.paths[i])", False)]
)
def test_so_are_functions_and_classes_of_the_same_file(call, found):
    function = "def table(path):\n    return pd.read_csv(path)  # here\n"
    made = "class table:\n    def __init__(self, p):\n        self.d = pd.read_csv(p)  # here\n"
    for text in (function, made):
        whole = f"{text}{_CLASS}    def __getitem__(self, i):\n        return {call}.d[i]\n"
        assert told(_HEAD + whole, "read_csv") is found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("for i in range(9):\n    yield np.load(self.path)[i]  # here", True),
        ("for p in self.paths:\n    yield np.load(p)  # here", False),
        ("k = 0\nwhile k < 9:\n    k += 1\n    yield np.load(self.paths[k])  # here", False),
        ("x = np.load(self.path)  # here\nfor row in x:\n    yield row", None),
        ("while True:\n    x = np.load(self.path)  # here\n    for r in x:\n        yield r", None),
    ],
)
def test_each_turn_of_the_loop_that_yields_is_a_sample(body, found):
    text = "def __iter__(self):\n" + textwrap.indent(body, "    ")
    assert in_class(text, "load") is found


def test_a_base_class_of_the_same_file_counts():
    base = _CLASS + "    def __getitem__(self, i):\n        return self.make(i)\n"
    derived = (
        "class More(Rows):\n    def make(self, i):\n        return np.load(self.path)[i]  # here"
    )
    assert told(_HEAD + base + derived, "load") is True


def test_an_object_that_is_no_dataset_may_be_one_samples():
    text = "class Sample:\n    def __getitem__(self, k):\n        np.load(self.path)[k]  # here"
    assert told(_HEAD + text, "load") is None
    sized = text.replace("class Sample:", "class Sample:\n    def __len__(self):\n        return 9")
    assert told(_HEAD + sized, "load") is True


def test_other_code_and_files_without_source_are_not_judged():
    assert told(_HEAD + "x = np.load(STORE)  # here", "load") is None
    assert in_class("def check(self):\n    return np.load(self.path)  # here", "load") is None
    assert same_each_time("/nowhere/data.py", 3, "load") is None
