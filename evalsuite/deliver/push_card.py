"""The model card as it is published: the repository's name, the base model's licence, and a snippet that fetches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from evalsuite.report.card import RUN_HERE

LICENCE = ("license", "license_name", "license_link")
FETCH = """import os
from huggingface_hub import snapshot_download

os.chdir(snapshot_download({repo!r}{revision}))

"""


def split_card(text: str) -> tuple[dict[str, Any], str]:
    """(front matter, body) of a card; the front matter is empty where there is none that can be read."""
    if not text.startswith("---\n"):
        return {}, text
    front, _, body = text[4:].partition("\n---\n")
    try:
        data = yaml.safe_load(front)
    except yaml.YAMLError:
        return {}, text
    return (data, body) if isinstance(data, dict) else ({}, text)


def finish_card(
    text: str,
    repo: str,
    *,
    revision: str | None = None,
    base: str | None = None,
    licence: Mapping[str, str] | None = None,
) -> str:
    """The card of ``repo``.

    ``base``: hub id of the base model; without one the card names none, since a name that is no hub id leads to nothing
    or to another's model. ``licence``: what the base model's card says of its licence, which binds what is made of it.
    """
    front, body = split_card(text)
    front.pop("base_model", None)
    front |= {"base_model": base} if base else {}
    if licence and "license" not in front:
        front |= licence
        told = licence.get("license_name") or licence["license"]
        line = f"The base model's card names its licence `{told}`, which holds for what is made of it.\n\n"
        body = body.replace("## Data\n", f"## Licence\n\n{line}## Data\n", 1)
    for entry in front.get("model-index") or ():
        entry["name"] = repo
    fetch = FETCH.format(repo=repo, revision=f", revision={revision!r}" if revision else "")
    fetched = f"This fetches the repository and runs in it:\n\n```python\n{fetch}"
    body = body.replace(f"{RUN_HERE}\n\n```python\n", fetched, 1)
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n{body}"


def licence_of(front: Mapping[str, Any]) -> dict[str, str]:
    """The keys of a card's front matter that name its licence."""
    return {key: str(front[key]) for key in LICENCE if front.get(key)} if front.get("license") else {}
