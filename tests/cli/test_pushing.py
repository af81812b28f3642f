"""The command that publishes a run: what it prints, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from hub_server import Hub, Repository, Server, fails, serving
from huggingface_hub import constants

import evalsuite


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, few_resamples: None) -> dict[str, Path]:
    """A run of public data, and one of a private task."""
    folder = str(tmp_path_factory.mktemp("runs"))
    return {
        task: evalsuite.run(task, "majority", output_path=folder, limit=20).directory for task in ("ag_news", "clv")
    }


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(Hub()) as server, monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", server.url)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_TOKEN", "hf_test")
        yield server
        huggingface_hub.close_session()


def test_push(cli: Callable[..., Any], runs: dict[str, Path], server: Server) -> None:
    done = cli("push", runs["ag_news"], "ann/news", "--commit_message", "first", "--revision", "main")
    assert (done.code, done.err) == (0, "")
    commit = server.hub.commit("ann/news", "main")
    size = sum(map(len, server.hub.repositories["ann/news"].files.values()))
    assert done.out == f"5 files, {size:,} bytes: {server.url}/ann/news (private), commit {commit}\n"
    assert server.hub.repositories["ann/news"].messages == ["first"]


def test_push_as_json(cli: Callable[..., Any], runs: dict[str, Path], server: Server) -> None:
    told = json.loads(cli("push", runs["ag_news"], "ann/news", "--public", "--json").out)
    assert told["url"] == f"{server.url}/ann/news"
    assert told["private"] is False
    assert set(told["files"]) == set(server.hub.repositories["ann/news"].files)


def test_dry_run_asks_nobody(cli: Callable[..., Any], runs: dict[str, Path], server: Server) -> None:
    done = cli("push", runs["ag_news"], "ann/news", "--dry_run")
    assert done.code == 0
    assert server.hub.requests == []
    listed = {line.split()[0]: line.split()[-1] for line in done.out.splitlines()[1:6]}
    assert set(listed) == {"README.md", "config.yaml", "majority.json", "results.json", "task.json"}
    assert listed["task.json"] == f"{(runs['ag_news'] / 'task.json').stat().st_size:,}"
    assert "stays here: samples_ag_news.jsonl (documents)" in done.err
    front = done.out.partition("\n---\n")[2].removesuffix("---\n")
    assert yaml.safe_load(front)["tags"] == ["text-classification", "evalsuite", "majority"]
    plan = json.loads(cli("push", runs["ag_news"], "ann/news", "--dry-run", "--json").out)
    assert plan["files"].keys() == listed.keys()
    assert plan["private"] is True
    assert plan["card"].startswith("---\n")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("news",), 2, "write owner/name"),
        (("bob/news",), 3, "the token may not write there (403)"),
        (("ann/public",), 2, "ann/public is there already and public"),
    ],
)
def test_exit_codes(
    cli: Callable[..., Any],
    runs: dict[str, Path],
    server: Server,
    arguments: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    server.hub.repositories["ann/public"] = Repository(private=False)
    done = cli("push", runs["ag_news"], *arguments)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert told in done.err
    assert done.err.count("\n") == 1


def test_no_run(cli: Callable[..., Any], tmp_path: Path) -> None:
    done = cli("push", tmp_path, "ann/news")
    assert done.code == 6
    assert "is not a run directory" in done.err


def test_a_private_task(cli: Callable[..., Any], runs: dict[str, Path], server: Server) -> None:
    for more in ((), ("--public",), ("--dry_run",)):
        done = cli("push", runs["clv"], "ann/clv", *more)
        assert done.code == 2
        assert "the task is private" in done.err
    assert cli("push", runs["clv"], "ann/clv", "--allow_private_upload", "--public").code == 2
    assert server.hub.requests == []
    assert cli("push", runs["clv"], "ann/clv", "--allow_private_upload").code == 0
    assert server.hub.repositories["ann/clv"].private


def test_a_private_repository_stays_private_and_that_is_told(
    cli: Callable[..., Any], runs: dict[str, Path], server: Server
) -> None:
    server.hub.repositories["ann/news"] = Repository(private=True)
    done = cli("push", runs["ag_news"], "ann/news", "--public")
    assert done.err == "warning: ann/news was there before and is private; it stays so\n"
    assert "(private)" in done.out


def test_a_push_that_fails_leaves_the_run_as_it_was(
    cli: Callable[..., Any], runs: dict[str, Path], server: Server
) -> None:
    from evalsuite.store import open_run

    server.hub.faults["commit"] = [fails(500)]
    done = cli("push", runs["ag_news"], "ann/news")
    assert done.code == 3
    assert "the hub is out of order (500); try the same command later; the run is as it was" in done.err
    open_run(runs["ag_news"], verify=True)
    assert cli("push", runs["ag_news"], "ann/news").code == 0
