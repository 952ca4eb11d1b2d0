"""Functions that read files, go on in open ones, or draw something anew, by their names."""

from __future__ import annotations

import re

#: Functions of modules that read a file, by their last name.
READER = re.compile(
    r"load|load_file|load_from_disk|loadtxt|loadmat|genfromtxt|fromfile|memmap|read|read_\w+"
    r"|scan_\w+|reader|DictReader|\w*open|open_\w+|\w*File|HDFStore|SoundFile|safe_load|connect"
    r"|parse|imread|\w*read_image|decode_image|dcmread|getline|listdir|scandir|glob|iglob|walk"
)
#: These read on in an open file, whose place in it they do not know.
FROM_HANDLE = frozenset(["json", "pickle", "yaml", "marshal", "csv", "dill", "_pickle"])
#: Methods that read whatever they are called on.
OPENING = re.compile(r"open|read_text|read_bytes|glob|rglob|iterdir")
#: And those that only name another file, or another text.
OF_PATHS = re.compile(
    rf"{OPENING.pattern}|join|joinpath|with_suffix|with_name|with_stem|format|replace|r?strip"
    r"|lower|upper|resolve|expanduser|absolute|as_posix|encode|exists|is_file"
)
#: Those that move on in what they are called on.
MOVING = frozenset(["seek", "read", "readline", "skip", "send", "recv", "setpos", "readframes"])
#: Those that keep what they are given.
KEEPING = frozenset(["append", "add", "update", "setdefault", "put", "set", "insert", "extend"])
#: What may give something else each time.
CHANGES = re.compile(
    r"rand|sample|shuffle|choice|permut(?!e)|seed|jitter|noise|augment|uuid|\btime\b|\bnow\b|getpid"
    r"|worker",
    re.IGNORECASE,
)
#: Built-in functions that give the same for the same.
BUILTIN = re.compile(
    r"len|str|int|float|bool|bytes|bytearray|memoryview|list|tuple|dict|set|frozenset|sorted|range"
    r"|enumerate|zip|min|max|sum|map|filter|reversed|iter|abs|round|any|all|slice|repr"
)
#: Questions about the type of a value, not about the value.
TYPES_ASKED = frozenset(["isinstance", "issubclass", "is_tensor", "callable", "type"])
#: Modules whose functions give the same for the same, but for `CHANGES`.
PURE = re.compile(
    r"numpy|torch|pandas|os|pathlib|json|io|csv|math|itertools|operator|struct|ast|base64|codecs"
    r"|gzip|bz2|lzma|zlib|zipfile|tarfile|pickle|yaml|xml|sqlite3|wave|PIL|cv2|h5py|scipy|imageio"
    r"|skimage|soundfile|librosa|torchaudio|torchvision|pyarrow|polars|xarray|safetensors|joblib"
    r"|contextlib|functools|copy|re|glob|string|textwrap|tifffile|zarr"
)
#: What makes objects that know how far they were read.
HANDLE = re.compile(r"\w*open|\w*File|\w*[rR]eader|\w+IO|connect|HDFStore|SoundFile|iter|cycle")
