"""How code of one side is run: its folder, its environment, and whose modules it really loads."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from perfdoctor.errors import PerfdoctorError, UserCodeError
from perfdoctor.gate.repository import Repository
from perfdoctor.gate.worktrees import AFTER, Checkout

_PERFDOCTOR = str(Path(__file__).resolve().parents[2])
_SHOWN_LINES = 15
_MISSING = ("data-missing", "file-missing")
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class RunningSide:
    """One side, ready to run.

    Attributes:
        label: "before" or "after". cwd: where it runs. python: its interpreter.
        environment: variables to add. others: top folders of other checkouts, of which nothing may
            be loaded. packages: the project's own modules.
    """

    label: str
    checkout: Checkout
    cwd: Path
    python: str
    environment: Mapping[str, str]
    others: tuple[Path, ...]
    packages: frozenset[str]

    def check_origins(self, modules: Mapping[str, str]) -> None:
        """That every module of the project is this side's own.

        With an editable install, `import project` may give the user's checkout on both sides:
        then both would run the same code, and every check would pass.

        Raises:
            PerfdoctorError: one is not.
        """
        for name, file in sorted(modules.items()):
            if self._foreign(name, Path(file)):
                raise PerfdoctorError(
                    f"the {self.label} side imported {name} from {file}, which is not its own "
                    f"code; an installed copy or an editable install goes first: use "
                    "--setup 'pip install -e .'",
                    slug="wrong-code-imported",
                )

    def _foreign(self, name: str, file: Path) -> bool:
        place = file.resolve()
        if place.is_relative_to(self.checkout.root.resolve()):
            return False
        # an environment may lie within the checkout that it was made for
        if any(place.is_relative_to(other.resolve()) for other in self.others):
            return not any(part in _INSTALLED for part in place.parts)
        return name.partition(".")[0] in self.packages and not _standard(place)


def _standard(place: Path) -> bool:
    library = Path(os.__file__).parent
    return place.is_relative_to(library) and not any(part in _INSTALLED for part in place.parts)


def prepare(
    repository: Repository, checkouts: tuple[Checkout, Checkout], setup: str | None
) -> tuple[RunningSide, RunningSide]:
    """Both sides, each with an environment of its own if `setup` is to be run in it.

    Raises:
        UserCodeError: `setup` fails.
        PerfdoctorError: the old side has no such folder.
    """
    packages = repository.packages()
    sides = []
    for own, other in (checkouts, checkouts[::-1]):
        cwd = own.at(repository.below)
        if not cwd.is_dir():
            raise PerfdoctorError(
                f"the folder {repository.below} does not exist in {own.commit[:12]}, so that "
                "nothing can be measured there",
                slug="base-cannot-run",
            )
        environment = _environment(own, cwd)
        python = sys.executable
        if setup is not None:
            python = _own_environment(own, environment)
            _run_setup(own, cwd, setup, environment)
        label = "after" if own.side == AFTER else "before"
        others = tuple({repository.root, other.root} - {own.root})
        sides.append(RunningSide(label, own, cwd, python, environment, others, packages))
    return sides[0], sides[1]


def _environment(checkout: Checkout, cwd: Path) -> dict[str, str]:
    """Its own code first, its own caches of compiled kernels; perfdoctor last."""
    roots = dict.fromkeys((cwd, cwd / "src", checkout.root, checkout.root / "src"))
    path = [str(root) for root in roots if root.is_dir()]
    path += [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return {
        "PYTHONPATH": os.pathsep.join([*path, _PERFDOCTOR]),
        "TORCHINDUCTOR_CACHE_DIR": str(checkout.scratch / "inductor"),
        "TRITON_CACHE_DIR": str(checkout.scratch / "triton"),
        "PERFDOCTOR_SIDE": checkout.side.rstrip("_"),
    }


def _own_environment(checkout: Checkout, environment: dict[str, str]) -> str:
    """A virtual environment that also sees everything that is installed here, after its own."""
    home = checkout.scratch / "venv"
    shared = find_spec("pip") is not None  # installing it anew takes ten times as long
    command = [sys.executable, "-m", "venv", "--system-site-packages", str(home)]
    _checked(
        [*command, *(["--without-pip"] if shared else [])],
        checkout, "making an environment", environment, Path.cwd(),
    )  # fmt: skip
    python = home / "bin" / "python"
    if shared:
        pip = home / "bin" / "pip"
        pip.write_text(f'#!/bin/sh\nexec "{python}" -m pip "$@"\n')
        pip.chmod(0o755)
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    inherited = [p for p in sys.path if any(part in p for part in _INSTALLED)]
    lines = [f"import site; site.addsitedir({path!r})" for path in inherited]
    Path(found.stdout.strip(), "zz_inherited.pth").write_text("\n".join(lines) + "\n")
    environment["VIRTUAL_ENV"] = str(home)
    environment["PATH"] = os.pathsep.join([str(home / "bin"), os.environ.get("PATH", "")])
    return str(python)


def _run_setup(checkout: Checkout, cwd: Path, setup: str, environment: Mapping[str, str]) -> None:
    shell = shutil.which("bash") or "/bin/sh"
    _checked([shell, "-c", setup], checkout, f"--setup {setup!r}", environment, cwd)


def _checked(
    command: list[str], checkout: Checkout, what: str, environment: Mapping[str, str], cwd: Path
) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise UserCodeError(
            f"{what} failed for the {checkout.side.rstrip('_')} side ({checkout.commit[:12]}), "
            f"exit code {done.returncode}",
            slug="setup-failed",
            details=as_asked(checkout, last_lines(done.stdout)),
        )


def last_lines(text: str, count: int = _SHOWN_LINES) -> str:
    """The end of what a process printed."""
    return "\n".join(text.splitlines()[-count:])


def on_side(side: RunningSide, error: PerfdoctorError) -> PerfdoctorError:
    """An error, with the side on which it happened: it is no regression, and no pass."""
    told = as_asked(side.checkout, str(error))
    message = f"the {side.label} side ({side.checkout.commit[:12]}) cannot be measured: {told}"
    if error.slug in _MISSING:
        message += "; what git does not hold, such as data that it ignores, --share PATH brings"
    if isinstance(error, UserCodeError):
        details = as_asked(side.checkout, error.details)
        return UserCodeError(message, slug=error.slug, details=details)
    return PerfdoctorError(message, slug=error.slug)


def as_asked(checkout: Checkout, text: str) -> str:
    """With files of the checkout, which is gone when this is read, as git calls them: REV:PATH."""
    if checkout.in_place:
        return text
    revision = checkout.commit[:12]
    for root in dict.fromkeys((checkout.root.resolve(), checkout.root.absolute())):
        known = re.escape(str(root))
        text = re.sub(rf"{known}/", f"{revision}:", text)
        text = re.sub(rf"{known}(?![\w.-])", revision, text)  # its scratch folder is called alike
    return text
