"""A file that maps code prefixes to categories."""

from __future__ import annotations

import csv
from pathlib import Path

from evalsuite.errors import DataError


def read_label_map(path: Path) -> dict[str, str]:
    """Prefix -> category, in the order of the file: a YAML or JSON mapping, or a CSV file of two columns, no header.

    Raises:
        DataError: no such file, another form, a prefix that occurs twice, or fewer than two categories.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the label map {path}: {error}") from error
    if path.suffix.lower() == ".csv":
        rows = [row for row in csv.reader(text.splitlines()) if row]
    else:
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise DataError(f"{path}: not YAML ({' '.join(str(error).split())[:160]})") from error
        rows = [[key, value] for key, value in content.items()] if isinstance(content, dict) else [[]]
    if any(len(row) != 2 for row in rows):
        raise DataError(f"{path}: expected a mapping from code prefix to category, for instance 'A61: health'")
    pairs = [(str(prefix).strip().upper(), str(category).strip()) for prefix, category in rows]
    if len({prefix for prefix, _ in pairs}) < len(pairs):
        raise DataError(f"{path}: a code prefix occurs twice; each prefix has one category")
    if len({category for _, category in pairs}) < 2:
        raise DataError(f"{path}: expected two or more categories, got {len({category for _, category in pairs})}")
    return dict(pairs)
