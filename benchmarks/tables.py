"""The tables of ``README.md``, written between its markers from ``results/*.json``: `python -m benchmarks.tables`.

A marker is a comment, ``<!-- NAME -->``, and what lies between it and ``<!-- end -->`` is replaced. NAME is a case, a
curve of cost against scale, ``scale_`` before its name, or ``overview``: every case in one table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.commands import RESULTS, side_cells
from benchmarks.scale.tables import markdown as curve_table
from evalsuite.report.markup import markdown_table

README = Path(__file__).parent / "README.md"
BLOCK = re.compile(r"<!-- (?!end)(\S+) -->\n.*?<!-- end -->", re.DOTALL)
COLUMNS = ("side", "median s", "least", "largest", "peak MB", "ratio (least to largest)", "target")


def fill(text: str, results: Mapping[str, Any]) -> str:
    """``text`` with what stands between its markers written anew.

    Raises:
        KeyError: a marker of something that was never measured.
    """

    def block(found: re.Match[str]) -> str:
        name = found.group(1)
        if name == "overview":
            inner = overview({case: one for case, one in results.items() if "ratios" in one})
        else:
            inner = one_case(results[name]) if "ratios" in results[name] else one_curve(results[name])
        return f"<!-- {name} -->\n{inner}\n<!-- end -->"

    return BLOCK.sub(block, text)


def read_results(folder: Path = RESULTS) -> dict[str, Any]:
    """Every case and every curve that was measured at full size, by its name."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    kept = {name: one for name, one in found.items() if "ratios" in one or "stages" in one}
    return {name: one for name, one in kept.items() if not one["small"]}


def overview(results: Mapping[str, Any]) -> str:
    """One line for each peer of each case."""
    rows = []
    for name, found in sorted(results.items(), key=lambda item: (int(re.sub(r"\D", "", item[0])), item[0])):
        for side in found["sides"][1:]:
            ratio = found["ratios"][side["name"]]
            cells = side_cells(found, side)
            checks = "the same" if all(check["ok"] for check in found["checks"]) else "DIFFERS"
            memory = f"{ratio['memory']:.2f}" if "memory" in ratio else ""
            rows.append([name, found["work"], cells[0], cells[5], cells[6], memory, checks])
    columns = ("row", "work", "peer", "ratio (least to largest)", "target", "memory", "outputs")
    return markdown_table(columns, rows, right={3})


def one_case(found: Mapping[str, Any]) -> str:
    """The table of a case, then its command, checks, floor, date, machine and versions."""
    lines = [markdown_table(COLUMNS, [side_cells(found, side) for side in found["sides"]], right={1, 2, 3, 4, 5}), ""]
    lines.append(f"`{found['command']}`, {found['rounds']} rounds, {found['date']}, {machine(found)}.")
    lines += [
        f"{'Equal' if check['ok'] else 'NOT EQUAL'}: {check['what']} {check['value']:.3g} (limit {check['limit']:g})."
        for check in found["checks"]
    ]
    if floor := found["floor"]:
        lines.append(f"Floor: {floor['seconds']:.3g} s, {floor['share']:.0%} of our time: {floor['how']}.")
    for side in found["sides"]:
        if side["tried"]:
            tried = "; ".join(f"{settings_of(one)}: {one['seconds']:.3g} s" for one in side["tried"])
            lines.append(f"Tried for {side['name']}: {tried}.")
    return "\n".join([*lines[:2], "  \n".join(lines[2:])])


def one_curve(found: Mapping[str, Any]) -> str:
    """The table of a curve, its picture, command, date and machine."""
    name = f"scale_{found['curve']}"
    picture = f"![Seconds and memory against {found['unit']}](results/{name}.svg)"
    return f"{curve_table(found)}\n\n{picture}\n\n`{found['command']}`, {found['date']}, {machine(found)}."


def settings_of(tried: Mapping[str, Any]) -> str:
    """Settings as NAME=VALUE."""
    return ", ".join(f"{name}={value}" for name, value in tried["settings"].items())


def machine(found: Mapping[str, Any]) -> str:
    """The processor with the cores that were used, a GPU where there was one, and the versions of both sides."""
    described, peers = found["machine"], found["peers"]
    gpus = [gpu["name"] for gpu in described["gpu"]]
    where = ", ".join([f"{described['processor']}, {found['cores']} cores", *gpus])
    return f"{where}; torch {described['packages']['torch']}; " + ", ".join(
        f"{name} {value}" for name, value in peers.items() if name != "torch"
    )


def main() -> None:
    """Write the tables."""
    README.write_text(fill(README.read_text(encoding="utf-8"), read_results()), encoding="utf-8")


if __name__ == "__main__":
    main()
