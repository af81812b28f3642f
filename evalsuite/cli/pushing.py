"""``evalsuite push``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from evalsuite.cli import console

if TYPE_CHECKING:
    from evalsuite.deliver.push_files import Parcel

commands = typer.Typer()


@commands.command("push")
def push_command(
    run: str = typer.Argument(metavar="RUN", help="A run's directory, or a folder made by: evalsuite export."),
    repo: str = typer.Argument(metavar="REPO", help="The hub's repository, owner/name; made where it is not there."),
    public: bool = typer.Option(False, "--public", help="Let everybody see it; private unless said."),
    revision: str = typer.Option(None, "--revision", help="Branch to commit to (default: main)."),
    commit_message: str = typer.Option("", "--commit-message", help="The commit's message."),
    base_model: str = typer.Option(None, "--base-model", help="Hub id of a base model that is a local folder here."),
    allow_private_upload: bool = typer.Option(
        False, "--allow-private-upload", help="Push the model of a private task, to a private repository."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print what would be pushed; stop."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on stdout."),
) -> None:
    """Publish a run's model, card and results on the Hugging Face hub; never documents, logs or training states."""
    from evalsuite.deliver.push import check_request, push
    from evalsuite.deliver.push_files import pack

    parcel = pack(Path(run), base_model)
    check_request(parcel, repo, public, allow_private_upload)
    for line in parcel.warnings:
        console.note(f"warning: {line}")
    if dry_run:
        _show(parcel, repo, public, as_json)
        return
    pushed = push(parcel, repo, public=public, revision=revision, message=commit_message)
    for line in pushed.warnings:
        console.note(f"warning: {line}")
    if public and pushed.private:
        console.note(f"warning: {repo} was there before and is private; it stays so")
    if as_json:
        facts = {"url": pushed.url, "commit": pushed.commit, "private": pushed.private, "bytes": parcel.size}
        console.out(json.dumps({**facts, "files": _names(parcel)}, ensure_ascii=False))
        return
    kind = "private" if pushed.private else "public"
    console.out(f"{len(parcel.files) + 1} files, {parcel.size:,} bytes: {pushed.url} ({kind}), commit {pushed.commit}")


def _names(parcel: Parcel) -> list[str]:
    from evalsuite.deliver.push_files import CARD

    return [CARD, *(file.name for file in parcel.files)]


def _show(parcel: Parcel, repo: str, public: bool, as_json: bool) -> None:
    from evalsuite.deliver.push_card import finish_card
    from evalsuite.deliver.push_files import CARD

    card = finish_card(parcel.card, repo, base=parcel.base, licence=parcel.licence)
    sizes = {CARD: len(card.encode()), **{file.name: file.size for file in parcel.files}}
    if as_json:
        plan = {"repo": repo, "private": not public, "files": sizes, "left_out": dict(parcel.left_out)}
        console.out(json.dumps({**plan, "card": card}, ensure_ascii=False))
        return
    console.table(("file", "bytes"), [(name, f"{size:,}") for name, size in sizes.items()], right=("bytes",))
    for name, reason in parcel.left_out.items():
        console.note(f"stays here: {name} ({reason})")
    front, end, _ = card.removeprefix("---\n").partition("\n---\n")
    console.out(f"\n---\n{front}{end}".rstrip())
