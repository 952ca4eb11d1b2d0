"""Which lines sort all there is, to take the first few."""

from __future__ import annotations

import textwrap

import pytest

from perfdoctor.collect.script.whole_sorts import whole_sort


def found(tmp_path, source):
    """Of the line that ends with "# here"."""
    file = tmp_path / "train.py"
    file.write_text(textwrap.dedent(source))
    lines = file.read_text().splitlines()
    return whole_sort(str(file), next(i for i, x in enumerate(lines, 1) if x.endswith("# here")))


@pytest.mark.parametrize(
    ("line", "how"),
    [
        ("near = d.sort(dim=-1)[0][:, :, :nsample]", "sort"),
        ("near = d.sort(-1).indices[..., :k]", "sort"),
        ("near = torch.sort(d, dim=1, descending=True)[1][:, :16]", "sort"),
        ("near = torch.argsort(d, dim=-1)[..., : self.k].cpu()", "argsort"),
        ("near = np.argsort(d)[-k:]", "argsort"),
        ("return sorted(items, key=score)[:k]", "sorted"),
        ("near = d.sort(-1)[0]", None),
        ("near = d.sort(-1)[0][: len(d) // 2]", None),
        ("near = np.sort(d)[k:]", None),
        ("near = np.sort(d)[:-k]", None),
        ("near = np.sort(d)[::2]", None),
        ("near = np.sort(d)[k // 2]", None),
        ("near = d.topk(k)[1][:, :4]", None),
        ("near = d.sort(-1)[0][:, :k] + e.sort(-1)[0]", None),
    ],
)
def test_only_the_first_few_are_taken(tmp_path, line, how):
    source = f"""
        def query(self, d, e, k, nsample, items):
            {line}  # here
            return near
    """
    assert found(tmp_path, source) == how


@pytest.mark.parametrize(
    ("use", "how"),
    [
        ("return order[:, :k]", "sort"),
        ("return order[:, :k], order[:, :1]", "sort"),
        ("return order", None),
        ("return order[:, :k], order.shape", None),
        ("return values[:, :k], order[:, :k]", "sort"),
        ("return values, order[:, :k]", None),
        ("return 0", None),
    ],
)
def test_what_is_taken_may_stand_in_another_line(tmp_path, use, how):
    source = f"""
        def query(d, k):
            values, order = d.sort(dim=-1)  # here
            {use}
    """
    assert found(tmp_path, source) == how


def test_what_is_kept_for_others_may_be_used_whole(tmp_path):
    source = """
        def query(self, d, k):
            self.order = d.argsort()  # here
            return self.order[:k]
    """
    assert found(tmp_path, source) is None


def test_a_line_that_is_no_statement_is_nothing(tmp_path):
    assert found(tmp_path, "x = [\n    1,  # here\n]\n") is None
    assert whole_sort(str(tmp_path / "none.py"), 3) is None
