"""The standard library's side of ``tree_reading``: a plain loop that keeps number, codes and three texts."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

from benchmarks.worker import Work, serve

TEXTS = ("tis/ti", "abs/ab", "cls/cl")


def from_string(path: str) -> ET.Element:
    """The whole record."""
    with FileIO(path) as file:
        return ET.fromstring(file.readall())


def from_path(path: str) -> ET.Element:
    """The whole record."""
    return ET.parse(path).getroot()


def in_steps(path: str) -> ET.Element:
    """The record up to the end of its claims."""
    with FileIO(path) as file:
        events = iter(ET.iterparse(file, ("start", "end")))
        root: ET.Element = next(events)[1]
        for event, element in events:
            if event == "end" and element.tag == "cls":
                break
        return root


FORMS: dict[str, Callable[[str], ET.Element]] = {"string": from_string, "path": from_path, "steps": in_steps}


def setup(job: Path, settings: dict[str, Any]) -> Work:
    """Reads the tree; a file that does not parse is left out."""
    parse = FORMS[settings["form"]]

    def work() -> dict[str, Any]:
        numbers, codes, texts = [], [], []
        for folder, _, names in os.walk(job / "tree"):
            for name in names:
                try:
                    record = parse(f"{folder}/{name}")
                except ET.ParseError:
                    continue
                numbers.append(record.get("an", ""))
                scheme = record.find("ipcs")
                codes.append(
                    "" if scheme is None else " ".join([scheme.get("mc", ""), *(ipc.get("ic", "") for ipc in scheme)])
                )
                texts.append("\n".join("".join(text.itertext()) for place in TEXTS for text in record.iterfind(place)))
        return {"numbers": numbers, "codes": codes, "texts": texts}

    return work


if __name__ == "__main__":
    serve(setup)
