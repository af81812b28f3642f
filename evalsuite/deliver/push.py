"""Publishes a run on a model hub that speaks Hugging Face's interface; the run itself is only read."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from evalsuite.deliver.push_card import finish_card, licence_of
from evalsuite.deliver.push_files import CARD, Parcel
from evalsuite.errors import ModelError, UsageError

MAIN = "main"


@dataclass(frozen=True)
class Pushed:
    """What came of a push. commit: its hash. private: whether the repository is. warnings: the hub's on the card."""

    url: str
    commit: str
    private: bool
    warnings: tuple[str, ...]


def check_request(parcel: Parcel, repo: str, public: bool, allow_private_upload: bool) -> None:
    """Refuse what must not be uploaded, or cannot, before the hub is asked.

    Raises:
        UsageError: a name that no repository can have, or the model of a private task without leave.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UsageError(f"{repo!r} is no name of a repository: {_line(error)}; write owner/name") from None
    if repo.count("/") != 1:
        raise UsageError(f"{repo!r} is no full name of a repository; write owner/name")
    if parcel.private and not allow_private_upload:
        raise UsageError(
            "the task is private, and a model may repeat what it has read; add --allow_private_upload to push it to a"
            " private repository all the same"
        )
    if parcel.private and public:
        raise UsageError("the task is private: its model goes to a private repository only; leave --public away")


def push(parcel: Parcel, repo: str, *, public: bool = False, revision: str | None = None, message: str = "") -> Pushed:
    """Create the repository where it is not there, private unless ``public``, and commit all files at once.

    What is in the repository already and has another name stays. Nothing is committed where anything fails.

    Raises:
        ModelError: no token, no right to write, or a hub that cannot be reached or does not work.
        UsageError: the hub is switched off, or the repository is public and ``public`` was not said.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token

    if constants.is_offline_mode():
        raise UsageError("HF_HUB_OFFLINE is set, so nothing can be pushed; unset it")
    if not (token := get_token()):
        raise ModelError("there is no token for the hub; run `hf auth login`, or set HF_TOKEN")
    api = HfApi(token=token, library_name="evalsuite")
    branch = None if revision in (None, MAIN) else revision
    with _told(repo, api.endpoint), _quiet() as told:
        url = api.create_repo(repo, private=not public, exist_ok=True)
        private = bool(api.model_info(repo).private)
        if not private and not public:
            raise UsageError(f"{repo} is there already and public; add --public if all may see the model")
        if branch is not None:
            api.create_branch(repo, branch=branch, exist_ok=True)
        licence = _base_licence(api, parcel.base) or parcel.licence
        card = finish_card(parcel.card, repo, revision=branch, base=parcel.base, licence=licence)
        files = [
            CommitOperationAdd(file.name, file.content if isinstance(file.content, bytes) else str(file.content))
            for file in parcel.files
        ]
        commit = api.create_commit(
            repo,
            [CommitOperationAdd(CARD, card.encode()), *files],
            commit_message=message or "Upload with evalsuite",
            revision=branch,
        )
    return Pushed(str(url), commit.oid, private, tuple(told))


def _base_licence(api: Any, base: str | None) -> dict[str, str]:
    """The licence that the base model's card states; empty where there is no such model, or it states none."""
    from huggingface_hub.errors import HfHubHTTPError

    if base is None:
        return {}
    try:
        data = api.model_info(base).card_data
    except (
        HfHubHTTPError
    ):  # no reason not to publish: the card then names the base, and its licence is to be read there
        return {}
    return licence_of(data.to_dict()) if data else {}


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Gives what the hub's client would have warned of; bars only where a person is looking."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    told: list[str] = []
    hide = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if hide:
        disable_progress_bars()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield told
        told += [_line(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    finally:
        if hide:
            enable_progress_bars()


@contextmanager
def _told(repo: str, endpoint: str) -> Iterator[None]:
    """The hub's errors, those of the network and those of the client as one line each."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases are the HTTP library's own error and OSError. RuntimeError: a file's upload failed. ValueError: the hub
    # refuses the card, or answers in another form than agreed.
    expected: Any = (*HfHubHTTPError.__bases__, RuntimeError, ValueError)
    try:
        yield
    except expected as error:
        raise ModelError(f"{repo} was not pushed: {_explain(error, repo, endpoint)}; the run is as it was") from error


def _explain(error: BaseException, repo: str, endpoint: str) -> str:
    cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if status is None:
        return f"{_line(cause)}; look at {endpoint}/{repo}, and try the same command again"
    meaning = {
        401: "the hub does not know the token (401); run `hf auth login`, or set another HF_TOKEN",
        403: f"the token may not write there (403); take one with write access to {repo.partition('/')[0]!r}",
        404: f"the hub has no such place (404): is {repo.partition('/')[0]!r} your name, or your organisation's?",
        409: "the repository was changed at the same time (409); try the same command again",
        412: "the repository was changed at the same time (412); try the same command again",
        429: "the hub asks for patience (429); try the same command later",
    }
    if status >= 500:
        return f"the hub is out of order ({status}); try the same command later"
    return meaning.get(status, _line(cause))


def _line(error: object) -> str:
    """One line, without the part of an address that may be a signature."""
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", " ".join(str(error).split()))
    return text[:400] or type(error).__name__
