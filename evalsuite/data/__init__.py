"""Reading labelled text: tables, hub datasets and patent trees, their splits, and checks of what was read."""

from evalsuite.data.declarative import task_from_yaml
from evalsuite.data.documents import build_splits
from evalsuite.data.splits import document_hash, fingerprint, normalise, text_hash
from evalsuite.data.table import TableOptions, load_table

__all__ = [
    "TableOptions",
    "build_splits",
    "document_hash",
    "fingerprint",
    "load_table",
    "normalise",
    "task_from_yaml",
    "text_hash",
]
