"""The paper's figures, read from the data file that ships with the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from evalsuite.config import read_yaml


@dataclass(frozen=True)
class System:
    """One thing that the paper has run.

    model: as the paper calls it, None where that is not known. cell: options that find our runs of it in the sweep of
    its corpus, None where we have none, for the reason ``why``. teacher: the system it is distilled from. assumed: what
    the paper leaves open and the grid had to settle.
    """

    name: str
    corpus: str
    title: str
    model: str | None = None
    cell: Mapping[str, Any] | None = None
    teacher: str | None = None
    assumed: str = ""
    why: str = ""


@dataclass(frozen=True)
class Figure:
    """One published figure: from ``low`` to ``high``, None where an end is open or, with ``known`` False, unknown.

    printed: as it stands in print, empty where its digits say the same. said: what is published in words. against: the
    system that a gain is reckoned from.
    """

    system: System
    quantity: str
    known: bool
    low: float | None = None
    high: float | None = None
    printed: str = ""
    said: str = ""
    against: System | None = None

    def off(self, value: float) -> float:
        """How far a value is from what is published, 0 where it is inside the range."""
        if self.low is not None and value < self.low:
            return value - self.low
        return value - self.high if self.high is not None and value > self.high else 0.0


@dataclass(frozen=True)
class Paper:
    """Where the figures are from (``source``: title, id, version, url, read, unknown), and the figures."""

    source: Mapping[str, str]
    systems: Mapping[str, System]
    figures: tuple[Figure, ...]

    @property
    def corpora(self) -> list[str]:
        """The corpora, in the order of the systems."""
        return list(dict.fromkeys(system.corpus for system in self.systems.values()))


def read_data(name: str) -> dict[str, Any]:
    """A data file of this package."""
    with resources.as_file(resources.files("evalsuite.reproduce") / f"{name}.yaml") as path:
        return read_yaml(path)


def read_paper() -> Paper:
    """The figures of arXiv 2512.12677 (v3), as far as they are known here."""
    data = read_data("published")
    systems = {name: System(name, **entry) for name, entry in data["systems"].items()}
    return Paper(data["paper"], systems, tuple(_figure(entry, systems) for entry in data["figures"]))


def _figure(entry: Mapping[str, Any], systems: Mapping[str, System]) -> Figure:
    published = entry["published"]
    low, high = published if isinstance(published, list) else (published, published)
    return Figure(
        system=systems[entry["system"]],
        quantity=entry["quantity"],
        known=published is not None,
        low=low,
        high=high,
        printed=entry.get("printed", ""),
        said=entry.get("said", ""),
        against=systems[entry["against"]] if "against" in entry else None,
    )
