"""Runs what model cards print, where nobody has evalsuite."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXT = "Text to classify."  # what every snippet classifies

RUNNER = """
import contextlib, io, json, os, runpy, sys
absent, *folders = sys.argv[1:]
found = []
for folder in folders:
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        logits = runpy.run_path("snippet.py").get("logits")
    found.append([printed.getvalue(), None if logits is None else logits[0].tolist()])
assert not any(name.startswith(tuple(json.loads(absent))) for name in sys.modules)
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Ran:
    """What a snippet printed, and the first row of its ``logits`` where it has them."""

    printed: str
    logits: Any


def run_cards(methods: Mapping[Path, Any], absent: Sequence[str] = ("evalsuite",)) -> list[Ran]:
    """Save every method in its folder and run its snippet there, as printed, all in one fresh process.

    One for all, as most of its time goes into importing transformers. It must not have imported ``absent``.
    """
    for folder, method in methods.items():
        folder.mkdir(exist_ok=True)
        method.save(folder)
        (folder / "snippet.py").write_text(method.card_snippet(), encoding="utf-8")
    command = [sys.executable, "-I", "-c", RUNNER, json.dumps(list(absent)), *map(str, methods)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == 0, child.stderr
    return [Ran(*entry) for entry in json.loads(child.stdout)]
