"""What in a dataset or a transform is drawn at random for each sample, by the source."""

from __future__ import annotations

import linecache
import textwrap
from itertools import count

import pytest
from made import line_with

from perfdoctor.collect.script.drawing import drawn_each_time

_NUMBERS = count()
_HEAD = """\
import random
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch.utils.data import Dataset, IterableDataset
from torchvision import transforms as T
from elsewhere import change
"""
_CLASS = """\
class Photos(Dataset):
    def __init__(self, paths, transform=None):
        self.paths, self.small = paths, [None for _ in paths]
        self.rng = np.random.default_rng(0)
        self.flip = T.RandomHorizontalFlip()
        self.epoch = 0
    def __len__(self):
        return len(self.paths)
    def set_epoch(self, epoch):
        self.epoch = epoch
    def turned(self, image):
        return image.rotate(self.angle())
    def angle(self):
        return random.uniform(-9, 9)
    def opened(self, i):
        return Image.open(self.paths[i])  # opened
"""


def told(text: str, callee: str | None = None, mark: str = "# here") -> bool | None:
    """Of the line that ends in the mark."""
    file = f"/home/me/drawing_{next(_NUMBERS)}.py"
    lines = (_HEAD + textwrap.dedent(text)).splitlines(keepends=True)
    linecache.cache[file] = (1, None, lines, file)
    return drawn_each_time(file, line_with(file, mark), callee)


def in_getitem(body: str, callee: str | None = None, mark: str = "# here") -> bool | None:
    text = textwrap.indent(textwrap.dedent(body).strip(), "        ")
    return told(f"{_CLASS}    def __getitem__(self, i):\n{text}\n", callee, mark)


def in_call(body: str) -> bool | None:
    text = textwrap.indent(textwrap.dedent(body).strip(), "        ")
    return told(f"class Change:\n    def __call__(self, image):\n{text}\n")


@pytest.mark.parametrize(
    "body",
    [
        "x = Image.open(self.paths[i]).rotate(random.uniform(-9, 9))  # here",
        "x = np.load(self.paths[i]) + np.random.randn(4)  # here",
        "x = np.load(self.paths[i])\nreturn F.dropout(x)  # here",
        "x = torch.load(self.paths[i]) + torch.randn(9)  # here",
        "x = np.load(self.paths[i])\nx += self.rng.normal(size=4)  # here",
        "a = random.random()\nb = 1 + a\nreturn np.load(self.paths[i]) * b  # here",
        "x = np.load(self.paths[i])\nx[random.randrange(9) :] = 0\nreturn x.astype(int)  # here",
        "x = np.load(self.paths[i])\nif random.random() < 0.5:\n    x = np.fft.fft(x)  # here",
        "x = np.load(self.paths[i])\nif random.random() < 0.5:\n    x = x[::-1]\n"
        "return torch.from_numpy(x).permute(1, 0)  # here",
        "rng = np.random.default_rng()\nreturn rng.uniform(size=9)  # here",
        "rng = np.random.default_rng((i, self.epoch))\nreturn rng.uniform(size=9)  # here",
        "return np.pad(self.turned(Image.open(self.paths[i])), 9)  # here",
        "return self.flip(Image.open(self.paths[i]))  # here",
        "return T.RandomCrop(9)(Image.open(self.paths[i]))  # here",
        "k = random.choice([1, 2, 3])\nreturn np.load(self.paths[i]).repeat(k)  # here",
        "x = np.load(self.paths[i])\nfor _ in range(3):\n    y = x * 2  # here\n"
        "    x = x + random.random()",
    ],
)
def test_what_is_made_of_random_numbers_is_drawn_for_each_sample(body):
    assert in_getitem(body) is True


@pytest.mark.parametrize(
    "body",
    [
        "x = Image.open(self.paths[i]).resize((9, 9))  # here",
        "x = Image.open(self.paths[i]).resize((9, 9))  # here\nif random.random() < 0.5:\n"
        "    x = x.transpose(0)\nreturn x",
        "x = Image.open(self.paths[i])\nx = x.resize((9, 9))  # here\n"
        "x = x.rotate(random.uniform(-9, 9))\nreturn x",
        "noise = np.random.randn(4)\nx = np.load(self.paths[i])  # here\nreturn x + noise",
        "x = 0\nif i:\n    x = random.random()\nx = np.load(self.paths[i])\nnp.fft.fft(x)  # here",
        "for path in self.paths[i]:\n    x = np.load(path)  # here\n    x = x + random.random()",
        "rng = np.random.default_rng(i)\nreturn np.pad(rng.uniform(0, 1, 9), 9)  # here",
        "x = Image.open(self.paths[i])\nreturn np.fft.fft(np.asarray(x).transpose(2, 0))  # here",
    ],
)
def test_what_is_the_same_for_the_same_sample_is_not(body):
    assert in_getitem(body) is False


@pytest.mark.parametrize(
    "body",
    [
        "x = change(Image.open(self.paths[i]))\nreturn np.asarray(x)  # here",
        "j = random.randrange(9)\nreturn np.load(self.paths[j])  # here",
        "if random.random() < 0.1:\n    return 0\nreturn np.load(self.paths[i])  # here",
        "random.seed(i)\nreturn np.load(self.paths[i]) + random.random()  # here",
        "path = random.choice(self.paths)\nreturn np.load(path)  # here",
        "return np.fft.fft(random.choice(self.small))  # here",
        "return np.fft.fft(self.small[random.randrange(9)])  # here",
        "try:\n    x = np.load(self.paths[i])\nexcept OSError:\n    x = random.random()\n"
        "return np.fft.fft(x)  # here",
        "try:\n    x = 1\nexcept OSError:\n    i = random.randrange(9)\nnp.load(str(i))  # here",
    ],
)
def test_what_the_source_does_not_tell_is_left_open(body):
    assert in_getitem(body) is None


def test_of_a_line_with_several_calls_the_one_that_takes_the_time_counts():
    body = "x = Image.open(self.paths[i]).convert('RGB').rotate(random.uniform(0, 9))  # here"
    assert in_getitem(body, "Image.convert") is False
    assert in_getitem(body, "Image.rotate") is True


def test_a_function_that_is_given_what_was_drawn_gives_what_is_drawn():
    assert in_getitem("return self.opened(i)", mark="# opened") is False
    body = "x = shrunk(np.load(self.paths[i]) + {})\nreturn x"
    tail = "\ndef shrunk(x):\n    return np.fft.fft(x)  # here\n"
    for given, drawn in (("random.random()", True), ("1.0", False)):
        text = textwrap.indent(body.format(given), "        ")
        assert told(f"{_CLASS}    def __getitem__(self, i):\n{text}{tail}") is drawn


@pytest.mark.parametrize(
    ("body", "drawn"),
    [
        ("return image.filter(ImageFilter.GaussianBlur(random.uniform(0, 1)))  # here", True),
        ("if random.random() > 0.5:\n    return image\nreturn image.filter(1)  # here", True),
        ("return image.filter(ImageFilter.GaussianBlur(1))  # here", None),
        ("w = random.randint(0, 9)\nreturn image.crop((w, w, w + 9, w + 9))  # here", True),
    ],
)
def test_a_transform_of_the_scripts_own_is_looked_at_by_itself(body, drawn):
    assert in_call(body) is drawn


@pytest.mark.parametrize(
    ("transform", "drawn"),
    [
        ("T.Compose([T.RandomResizedCrop(9), T.ToTensor()])", True),
        ("T.Compose([T.Resize(9), T.ToTensor()])", False),
        ("T.Compose([T.Resize(9), T.RandomCrop(9)])", None),
        ("T.ColorJitter(0.4)", True),
        ("T.Resize(9)", False),
        ("change", None),
        ("train", True),
    ],
)
def test_transforms_of_torchvision_are_known_where_they_are_made(transform, drawn):
    text = f"""\
        class Photos(Dataset):
            def __init__(self, paths, transform):
                self.paths = paths
                self.transform = transform
            def __getitem__(self, i):
                return self.transform(Image.open(self.paths[i]))  # here
        train = T.Compose([T.RandomCrop(9), T.ToTensor()])
        data = Photos([], transform={transform})
    """
    assert told(text, "Compose.__call__") is drawn


def test_the_order_of_the_samples_may_be_drawn():
    text = """\
        class Stream(IterableDataset):
            def __iter__(self):
                for i in np.random.permutation(len(self.paths)):
                    x = np.load(self.paths[i])
                    yield np.fft.fft(x){}  # here
    """
    assert told(text.format("")) is None
    assert told(text.format(" + random.random()")) is True


def test_without_source_nothing_is_told():
    assert drawn_each_time("<string>", 3, None) is None
    assert told("x = 1  # here") is None
