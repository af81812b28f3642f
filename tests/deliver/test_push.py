"""Pushing to a hub: a real client against a real server on loopback, and every way in which that one may fail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from hub_server import Fault, Hub, Repository, Server, drops, fails, says, serving
from huggingface_hub import constants

import evalsuite
from evalsuite.deliver.push import Pushed, check_request, push
from evalsuite.deliver.push_files import pack
from evalsuite.errors import EvalsuiteError, ModelError, UsageError

REPO = "ann/news"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> Path:
    """A finished run with a large file, whose task is not private."""
    folder = tmp_path_factory.mktemp("runs")
    return evalsuite.run("ag_news", "tfidf", output_path=str(folder), train_limit=100, limit=20).directory


@pytest.fixture(scope="module")
def private_run(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return evalsuite.run("clv", "tfidf", output_path=str(folder), train_limit=100, limit=20).directory


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """The hub of the client in this process; waits between its attempts take no time."""
    with serving(Hub()) as server, monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", server.url)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        patch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))
        patch.setenv("HF_TOKEN", "hf_test")
        yield server
        huggingface_hub.close_session()


def content(directory: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.rglob("*") if path.is_file()}


def test_the_files_arrive_in_a_private_repository(run: Path, server: Server) -> None:
    before = content(run)
    parcel = pack(run)
    pushed = push(parcel, REPO)
    repository = server.hub.repositories[REPO]
    assert pushed == Pushed(f"{server.url}/{REPO}", server.hub.commit(REPO, "main"), True, ())
    assert repository.private
    assert repository.messages == ["Upload with evalsuite"]
    assert set(repository.files) == {
        "README.md", "config.yaml", "results.json", "task.json", "tfidf.npz", "vocabulary.json"
    }  # fmt: skip
    assert repository.files["tfidf.npz"] == (run / "tfidf.npz").read_bytes()
    assert repository.files["README.md"].decode().startswith("---\n")
    assert content(run) == before


def test_every_request_has_the_token_but_the_one_to_storage(run: Path, server: Server) -> None:
    push(pack(run), REPO)
    assert dict(server.hub.requests) == {
        "create": "Bearer hf_test",
        "info": "Bearer hf_test",
        "card": "Bearer hf_test",
        "preupload": "Bearer hf_test",
        "batch": "Bearer hf_test",
        "put": "",
        "commit": "Bearer hf_test",
    }


def test_again_commits_nothing_new_and_a_branch_is_made(run: Path, server: Server) -> None:
    first = push(pack(run), REPO, message="one")
    again = push(pack(run), REPO, message="two")
    assert again.commit == first.commit
    push(pack(run), REPO, revision="v2", message="three")
    repository = server.hub.repositories[REPO]
    assert repository.messages[0] == "one"
    assert set(repository.branches) == {"main", "v2"}
    assert "snapshot_download" not in repository.files["README.md"].decode()  # tfidf has no snippet


def test_public_is_said_by_the_person_alone(run: Path, server: Server) -> None:
    """A repository that is there already may be public, and a push does not change that."""
    server.hub.repositories[REPO] = Repository(private=False)
    with pytest.raises(UsageError, match="ann/news is there already and public; add --public"):
        push(pack(run), REPO)
    assert server.hub.repositories[REPO].files == {}
    assert not push(pack(run), REPO, public=True).private
    assert not push(pack(run), "ann/other", public=True).private
    server.hub.repositories["ann/mine"] = Repository(private=True)
    assert push(pack(run), "ann/mine", public=True).private


@pytest.mark.parametrize("repo", ["news", "a/b/c", "ann/ne ws", "ann/.news", "ann/ne--ws", "", "ann/", "../news"])
def test_a_name_that_no_repository_can_have(repo: str, run: Path) -> None:
    with pytest.raises(UsageError, match="write owner/name"):
        check_request(pack(run), repo, False, False)


def test_a_private_task_needs_leave_and_a_private_place(private_run: Path, server: Server) -> None:
    parcel = pack(private_run)
    with pytest.raises(UsageError, match=r"the task is private.*--allow_private_upload"):
        check_request(parcel, REPO, False, False)
    with pytest.raises(UsageError, match="to a private repository only"):
        check_request(parcel, REPO, True, True)
    check_request(parcel, REPO, False, True)
    push(parcel, REPO)
    assert not [name for name in server.hub.repositories[REPO].files if "samples" in name]


def test_without_a_token(run: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ModelError, match="there is no token for the hub; run `hf auth login`, or set HF_TOKEN"):
        push(pack(run), REPO)
    assert server.hub.requests == []


def test_offline(run: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set, so nothing can be pushed; unset it"):
        push(pack(run), REPO)


def refused(server: Server, run: Path, repo: str = REPO) -> ModelError:
    """What a push that fails says; the run and the repository are as before."""
    before = content(run)
    with pytest.raises(ModelError) as caught:
        push(pack(run), repo)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("; the run is as it was")
    assert caught.value.exit_code == 3
    assert content(run) == before
    assert all(repository.files == {} for repository in server.hub.repositories.values())
    return caught.value


def test_a_token_that_the_hub_does_not_know(run: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    told = str(refused(server, run))
    assert "the hub does not know the token (401); run `hf auth login`" in told
    assert "hf_secret" not in told


def test_somebody_else_s_name(run: Path, server: Server) -> None:
    assert "the token may not write there (403); take one with write access to 'bob'" in str(
        refused(server, run, "bob/news")
    )


FAULTS: list[tuple[str, Callable[[], list[Fault]], str]] = [
    ("create", lambda: [fails(500)], "the hub is out of order (500); try the same command later"),
    ("create", lambda: [drops], "try the same command again"),
    ("create", lambda: [says(b"<html>a proxy's page</html>")], "try the same command again"),
    ("info", lambda: [fails(503)], "the hub is out of order (503)"),
    ("card", lambda: [drops], "try the same command again"),
    ("preupload", lambda: [fails(502)] * 6, "the hub is out of order (502)"),
    ("preupload", lambda: [says({})], "preupload_info is improperly formatted"),
    ("batch", lambda: [fails(403)], "the token may not write there (403)"),
    ("put", lambda: [fails(500)] * 6, "the hub is out of order (500)"),
    ("put", lambda: [drops] * 6, "try the same command again"),
    ("commit", lambda: [fails(409)], "the repository was changed at the same time (409); try the same command again"),
    ("commit", lambda: [fails(429)], "the hub asks for patience (429)"),
    ("commit", lambda: [fails(500)], "the hub is out of order (500)"),
    ("commit", lambda: [fails(413, "too large")], "413"),
    ("commit", lambda: [drops], "try the same command again"),
]


@pytest.mark.parametrize(("step", "fault", "told"), FAULTS)
def test_a_push_that_fails_is_one_line_and_can_be_done_again(
    step: str, fault: Callable[[], list[Fault]], told: str, run: Path, server: Server
) -> None:
    server.hub.faults[step] = fault()
    error = refused(server, run)
    assert told in str(error)
    assert "signature" not in str(error)
    assert not server.hub.faults[step]
    push(pack(run), REPO)
    assert "tfidf.npz" in server.hub.repositories[REPO].files


@pytest.mark.parametrize(("step", "fault"), [("preupload", fails(503)), ("put", fails(500)), ("put", drops)])
def test_one_failure_on_the_way_is_tried_again(step: str, fault: Fault, run: Path, server: Server) -> None:
    server.hub.faults[step] = [fault]
    push(pack(run), REPO)
    assert "tfidf.npz" in server.hub.repositories[REPO].files


def test_what_the_hub_says_of_the_card(run: Path, server: Server) -> None:
    server.hub.card_warnings = ["no licence"]
    [told] = push(pack(run), REPO).warnings
    assert told.endswith("- no licence")
    server.hub.repositories.clear()
    server.hub.card_errors = ["tags must be a list"]
    assert "Invalid metadata in README.md. - tags must be a list" in str(refused(server, run))


def test_a_hub_that_is_not_there(run: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "look at http://127.0.0.1:9/ann/news" in str(refused(server, run))


def test_no_error_is_swallowed(run: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("a mistake of the program")

    monkeypatch.setattr("evalsuite.deliver.push.finish_card", broken)
    with pytest.raises(KeyError) as caught:
        push(pack(run), REPO)
    assert not isinstance(caught.value, EvalsuiteError)
