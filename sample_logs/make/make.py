"""Make the sample logs again: `python sample_logs/make/make.py [--work DIR] [NAME ...]`.

Each maker runs in a process of its own and writes under DIR (/tmp/demo), so that no path of this
machine gets into a log. Logs go to DIR/logs, readings to DIR/expected, truths to DIR/truth; then
`collect` copies logs beside this folder and writes expected.toml.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODULES = (
    "vision",
    "language",
    "search",
    "generic",
    "traps",
    "chinese",
    "bars",
    "hardware",
    "frameworks",
)


def main() -> None:
    """Make the named samples, or all; then collect everything that lies in DIR."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--work", type=Path, default=Path("/tmp/demo"))
    parser.add_argument("--jobs", type=int, default=6, help="most of the time they sleep")
    parser.add_argument("--run-here", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.update(SAMPLE_WORK=str(options.work), TZ="UTC", COLUMNS="100")
    os.environ.update(PYTHONWARNINGS="ignore", TRANSFORMERS_VERBOSITY="error")
    if options.run_here:
        os.environ["SAMPLE_MAKER"] = options.run_here
        makers()[options.run_here]()
        return
    names = options.names or list(makers())
    with ThreadPoolExecutor(options.jobs) as pool:
        failed = [name for name in pool.map(lambda n: make(n, options.work), names) if name]
    collect(options.work, HERE.parent)
    describe(HERE.parent / "README.md")
    if failed:
        raise SystemExit("not made: " + ", ".join(failed))


def makers() -> dict[str, Any]:
    """All makers by name; modules are imported for their `@sample`."""
    sys.path.insert(0, str(HERE))
    for name in MODULES:
        importlib.import_module(name)
    from sheet import MAKERS

    return MAKERS


def make(name: str, work: Path) -> str | None:
    """Run one maker in its own process; its name where it failed."""
    work.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / "make.py"), "--work", str(work), "--run-here", name]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"{name}: {done.stderr[-2000:]}\n")
    return name if done.returncode else None


def collect(work: Path, target: Path) -> None:
    """Copy the logs and write expected.toml, files in order."""
    tables = []
    for path in sorted((work / "expected").glob("*.json")):
        name = path.stem.replace("__", "/")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(work / "logs" / name, target / name)
        pairs = json.loads(path.read_text())
        body = "".join(f"{key} = {json.dumps(value)}\n" for key, value in pairs.items())
        tables.append(f'["{name}"]\n{body}')
    head = "# The expected reading of each log; see README.md. Written by make/make.py.\n\n"
    (target / "expected.toml").write_text(head + "\n".join(tables), encoding="utf-8")


def describe(readme: Path) -> None:
    """Write the table of files into the README: the first line of the maker's docstring."""
    mark = "<!-- files -->\n"
    rows = ["| file | module, maker | what it shows |", "| --- | --- | --- |"]
    for path, maker in made_by(readme.with_name("expected.toml")):
        function = makers()[maker]
        rows.append(f"| {path} | {function.__module__}, {maker} | {function.__doc__} |")
    head = readme.read_text().split(mark)[0]
    readme.write_text(head + mark + "\n".join(rows) + "\n")


def made_by(expected: Path) -> list[tuple[str, str]]:
    """(file, maker) of all files."""
    text = expected.read_text()
    return re.findall(r'^\["(.+)"\]\nmade_by = "(.+)"$', text, re.MULTILINE)


if __name__ == "__main__":
    main()
