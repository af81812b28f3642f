"""The other side of an export's check: runs the README's snippet as written, where this package cannot be imported.

Run as a file, ``python -I export_child.py``, in the exported folder. Texts come as JSON on stdin: none touches the
disk. The answer goes to stdout as JSON: ``labels``, a list of names for each text, ``logits`` or null, and ``printed``,
what the example in the snippet wrote.
"""

import contextlib
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

BLOCKED = "evalsuite"


def snippet_of(readme: str) -> str:
    """The first block of Python in a README."""
    found = re.search(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    if found is None:
        raise SystemExit("README.md holds no block of Python")
    return found[1]


def answers(source: str, texts: list[str]) -> dict[str, Any]:
    """What a snippet says of texts: executed as written, then asked by its own ``classify``."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "README.md", "exec"), namespace)
    logits: list[Any] = []
    if score := namespace.get("score"):

        def noted(given: list[str]) -> Any:
            found = score(given)
            logits.extend(found.tolist())
            return found

        namespace["score"] = noted
    labels = [[given] if isinstance(given, str) else list(given) for given, _ in namespace["classify"](texts)]
    return {"labels": labels, "logits": logits or None, "printed": printed.getvalue()}


def main() -> None:
    """Read texts, answer."""
    sys.modules[BLOCKED] = None  # type: ignore[assignment]  # every import of it fails
    # libraries print on stdout as they like, those in C too; the answer must be the only thing there
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    found = answers(snippet_of(Path("README.md").read_text(encoding="utf-8")), json.load(sys.stdin))
    with channel:
        json.dump(found, channel)


if __name__ == "__main__":
    main()
