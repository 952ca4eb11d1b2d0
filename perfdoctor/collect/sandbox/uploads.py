"""What a script uploads to the Hugging Face Hub is left out; what it loads from there is not.

`HF_HUB_OFFLINE` would refuse both, and end a script that makes its repository first.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from perfdoctor.collect.script.imports import after_import

_HUB = "huggingface_hub.hf_api"
#: Methods of `HfApi` that change something there, by what they return.
_COMMITS = (
    "create_commit", "upload_file", "upload_folder", "delete_file", "delete_files", "delete_folder",
)  # fmt: skip
_REPOSITORIES = ("create_repo", "duplicate_space", "duplicate_repo")
_NOTHING = (
    "preupload_lfs_files", "upload_large_folder", "delete_repo", "move_repo", "create_branch",
    "delete_branch", "create_tag", "delete_tag", "super_squash_history", "update_repo_settings",
    "update_repo_visibility", "sync_bucket", "batch_bucket_files", "delete_bucket",
)  # fmt: skip


def leave_out() -> None:
    """From now on, once the Hub's library is imported."""
    after_import(_HUB, _hub)


def _hub() -> None:
    module = sys.modules[_HUB]
    answers: tuple[tuple[tuple[str, ...], Callable[[Any, str], Any]], ...] = (
        (_COMMITS, _commit),
        (_REPOSITORIES, lambda module, repository: module.RepoUrl(_url(repository))),
        (_NOTHING, lambda module, repository: None),
    )
    for names, answer in answers:
        for name in names:
            if hasattr(module.HfApi, name):
                _replace(module, name, answer)


def _replace(module: Any, name: str, answer: Callable[[Any, str], Any]) -> None:
    original = getattr(module.HfApi, name)
    signature = inspect.signature(original)

    @functools.wraps(original)
    def left_out(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        result = answer(module, str(given.get("repo_id", "left/out")))
        return _done(result) if given.get("run_as_future") else result

    setattr(module.HfApi, name, left_out)
    if hasattr(module, name):
        setattr(module, name, getattr(module.api, name))


def _done(result: Any) -> Future[Any]:
    future = Future[Any]()
    future.set_result(result)
    return future


def _commit(module: Any, repository: str) -> Any:
    number = "0" * 40
    return module.CommitInfo(
        commit_url=f"{_url(repository)}/commit/{number}",
        commit_message="",
        commit_description="",
        oid=number,
    )


def _url(repository: str) -> str:
    return f"https://huggingface.co/{repository}"
