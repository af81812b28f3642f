"""One patent record as its file has it: what every way of parsing gives."""

from __future__ import annotations

from dataclasses import dataclass, field

FIELDS = {"ti": "title", "ab": "abstract", "cl": "claims", "txt": "description"}
"""Element -> what it holds."""


@dataclass
class PatentRecord:
    """One patent. Texts are raw: white space and glued words are as they were.

    main: the main IPC code, "" if there is none; secondary: the other codes; quirks: names of what was repaired.
    """

    number: str = ""
    publication: str = ""
    main: str = ""
    secondary: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    quirks: list[str] = field(default_factory=list)


def pick_language(found: list[tuple[str, str, str]]) -> dict[str, str]:
    """One text a field, of ``found`` (field, language, text): its English elements where it has any, else all."""
    texts: dict[str, str] = {}
    for name in dict.fromkeys(name for name, _, _ in found):
        mine = [(language.upper(), text) for other, language, text in found if other == name]
        english = [text for language, text in mine if language == "EN"]
        texts[name] = "\n".join(english or [text for _, text in mine])
    return texts
