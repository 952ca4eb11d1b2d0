"""Which calls open or read a file, by their names."""

from __future__ import annotations

import pytest

from perfdoctor.rules.observed import HotLine
from perfdoctor.rules.run_shards import opens


def line(call: str) -> HotLine:
    return HotLine("data.py", 3, "load_rows", call, "data_loading", 0.3, "main")


@pytest.mark.parametrize(
    "call",
    [
        "open",
        "np.load",
        "torch.load",
        "load_npz",
        "pickle.loads",
        "Image.open",
        "urlopen",
        "read_parquet",
        "pd.read_sql",
        "GzipFile.read",
        "f.readinto",
        "f.readlines",
        "TarFile.extractall",
        "cursor.fetchall",
        "client.get_object",
        "h5py.File",
        "_load_shard",
        "np.memmap",
        "zlib.decompress",
    ],
)
def test_what_opens_or_reads_is_known_by_its_name(call: str) -> None:
    assert opens(line(call))


@pytest.mark.parametrize(
    "call",
    [
        "Thread.join",
        "PreloadedSet.__getitem__",
        "Spreadsheet.row",
        "loader.row",
        "reader",
        "profile",
    ],
)
def test_what_only_sounds_alike_does_not(call: str) -> None:
    assert not opens(line(call))
