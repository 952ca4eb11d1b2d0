"""Which lines make a whole of which only a window is used."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from perfdoctor.collect.script.parts_taken import part_taken


def found(tmp_path: Path, source: str) -> str | None:
    """Of the line that ends with "# here"."""
    file = tmp_path / f"train{len(source)}.py"
    file.write_text(textwrap.dedent(source))
    lines = file.read_text().splitlines()
    return part_taken(str(file), next(i for i, x in enumerate(lines, 1) if x.endswith("# here")))


@pytest.mark.parametrize(
    ("rest", "window"),
    [
        ("return x[start : start + n], y", "x[start:start + n]"),
        ("x = x[start : start + n]\nreturn torch.from_numpy(x)", "x[start:start + n]"),
        ("a, b = x.shape\nreturn x[:, a : a + 8, b : b + 8]", "x[:, a:a + 8, b:b + 8]"),
        ("return x.narrow(0, start, n)", "x.narrow(0, start, n)"),
        ("return to_tensor(x.crop(box))", "x.crop(box)"),
        ("x = x / 3\nz = filtered(x)\nreturn z[start : start + n]", "z[start:start + n]"),
        ("if len(x) < n:\n    x = pad(x, n)\nreturn x[start : start + n]", "x[start:start + n]"),
        (
            "if len(x) > n:\n    x = x[start : start + n]\nelse:\n    x = pad(x)\nreturn x",
            "x[start:start + n]",
        ),
        ("return x[start : start + n], x[last : last + n]", "x[start:start + n]"),
        ("return x", None),
        ("return x[:n]", None),
        ("return x[:-1], x[1:]", None),
        ("return x[0:n]", None),
        ("return x[index]", None),
        ("return x[start : start + n], x.mean()", None),
        ("m = x.mean()\nreturn x[start : start + n] - m", None),
        ("return [x[s : s + n] for s in starts]", None),
        ("parts = []\nfor s in starts:\n    parts.append(x[s : s + n])\nreturn parts", None),
        ("show(x)\nreturn x[start : start + n]", None),
        ("return len(x)", None),
    ],
)
def test_nothing_but_windows_is_used(tmp_path: Path, rest: str, window: str | None) -> None:
    body = textwrap.indent("x = resample(read(self.paths[i]))  # here\n" + rest, " " * 8)
    source = f"class Clips:\n    def __getitem__(self, i):\n{body}\n"
    assert found(tmp_path, source) == window


@pytest.mark.parametrize(
    ("use", "window"),
    [
        ("x, rate = self.read(i)\n        return x[s : s + rate]", "x[s:s + rate]"),
        ("return self.read(i)", None),
        ("return self.read(i)[0].mean()", None),
    ],
)
def test_a_whole_may_be_handed_on(tmp_path: Path, use: str, window: str | None) -> None:
    source = f"""
    class Clips:
        def read(self, i):
            x, rate = wavfile.read(self.paths[i])
            x = x.astype("float32")  # here
            return x, rate

        def __getitem__(self, i):
            {use.replace(chr(10), chr(10) + "    ")}
    """
    assert found(tmp_path, source) == window


@pytest.mark.parametrize(
    ("use", "part"),
    [
        ("x = x[self.some(len(x))]\n        return x", "x[self.some(len(x))]"),
        ("return x[indices]", "x[indices]"),
        ("return x[start : start + 8]", "x[start:start + 8]"),
        ("return x[torch.randperm(len(x))]", None),
        ("return x[x.argsort()]", None),
        ("return x[mask]", None),
        ("return x[0]", None),
        ("return x", None),
    ],
)
def test_of_items_some_may_be_chosen(tmp_path: Path, use: str, part: str | None) -> None:
    source = f"""
    class Clips:
        def load(self, path):
            return resized(Image.open(path))  # here

        def __getitem__(self, i):
            x = np.stack([self.load(path) for path in self.paths[i]])
            {use.replace(chr(10), chr(10) + "    ")}
    """
    assert found(tmp_path, source) == part


def test_of_one_whole_the_numbers_may_be_any(tmp_path: Path) -> None:
    source = """
    def clip(path, indices):
        x = resample(load(path))  # here
        return x[indices]
    """
    assert found(tmp_path, source) is None


def test_all_who_are_handed_it_must_take_a_part(tmp_path: Path) -> None:
    source = """
    def read(path):
        return filtered(load(path))  # here

    def clip(path, s, n):
        x = read(path)
        return x[s : s + n]
    """
    assert found(tmp_path, source) == "x[s:s + n]"
    more = source + "\n    def whole(path):\n        x = read(path)\n        return x.std()\n"
    assert found(tmp_path, more) is None


def test_what_a_loop_around_makes_is_its_own(tmp_path: Path) -> None:
    source = """
    def clips(paths, n):
        for path in paths:
            x = resample(load(path))  # here
            start = draw(len(x) - n)
            yield x[start : start + n]
    """
    assert found(tmp_path, source) == "x[start:start + n]"


def test_outside_of_functions_nothing_is_said(tmp_path: Path) -> None:
    assert found(tmp_path, "x = load(path)  # here\ny = x[s : s + n]\n") is None
    assert part_taken(str(tmp_path / "none.py"), 3) is None
