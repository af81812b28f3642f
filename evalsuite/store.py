"""One run, one directory: complete or not there.

A run works in ``<run id>.partial`` beside its final place and is renamed once everything, the ``COMPLETE`` marker last,
is on disk. An interrupted run leaves its ``.partial`` directory with checkpoints, and the same command goes on from it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from filelock import FileLock, Timeout

from evalsuite.errors import StoreError, UsageError
from evalsuite.samples import PARQUET
from evalsuite.spec import RunResult

SCHEMA_VERSION = 1
MARKER = "COMPLETE"
RESULTS = "results.json"
_TABLES = (RESULTS, "samples_*.jsonl", PARQUET)
_UNFINISHED = (".partial", ".replaced")


def digest_of(data: Any) -> str:
    """A short stable hash of plain data, the same on every machine."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def file_digest(path: Path) -> str:
    """blake2b of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@dataclass(frozen=True)
class RunDirectory:
    """Where a run lives: ``final`` once complete, ``partial`` while it works."""

    final: Path

    @classmethod
    def place(cls, output_path: str | Path, task: str, method: str, model: str, run_id: str) -> RunDirectory:
        """``<output>/<task>__<method>/<model with / as __>/<run id>``.

        Raises:
            UsageError: a task's or a method's name that is no name for a folder.
        """
        for kind, name in (("task", task), ("method", method)):
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
                raise UsageError(f"{kind} name {name!r} names a folder: use letters, digits, '_', '-' and '.'")
        return cls(Path(output_path) / f"{task}__{method}" / file_name(model) / run_id)

    @property
    def partial(self) -> Path:
        return self.final.with_name(self.final.name + ".partial")

    @property
    def complete(self) -> bool:
        return (self.final / MARKER).is_file()

    @contextmanager
    def claim(self) -> Iterator[Path]:
        """Hold the run for this process alone; gives the working directory.

        Raises:
            StoreError: the place cannot be written, the disk is full, or another process holds the run.
        """
        with writing(self.partial):
            self.partial.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.final.with_name(f".{self.final.name}.lock"), timeout=0)
            try:
                lock.acquire()
            except Timeout:
                raise StoreError(f"{self.final} is being written by another process; wait for it to end") from None
        try:
            with writing(self.partial):
                yield self.partial
        finally:
            # Before the release: another process must not take the lock of a file that is about to go.
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def finish(self) -> None:
        """Seal the working directory and move it to its final place; a previous run there is replaced."""
        files = sorted(path for path in self.partial.rglob("*") if path.is_file() and path.name != MARKER)
        manifest = {
            path.relative_to(self.partial).as_posix(): {"bytes": path.stat().st_size, "blake2b": file_digest(path)}
            for path in files
        }
        write_json(self.partial / MARKER, manifest)
        for path in (*files, self.partial / MARKER):
            _sync(path)
        replaced = self.final.with_name(self.final.name + ".replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if self.final.exists():
            self.final.rename(replaced)
        self.partial.rename(self.final)
        shutil.rmtree(replaced, ignore_errors=True)


def file_name(model: str) -> str:
    """A model's name as one path component: ``/`` becomes ``__``; a local folder is called by its last part."""
    if Path(model).is_absolute() or model.startswith("."):
        model = Path(model).resolve().name
    kept = (character if character.isalnum() or character in "._-@" else "_" for character in model.replace("/", "__"))
    return "".join(kept) or "none"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into one clear line."""
    try:
        yield
    except Exception as error:
        advice = {
            errno.ENOSPC: "the disk is full; free space or choose another --output_path",
            errno.EDQUOT: "the quota is used up; free space or choose another --output_path",
            errno.EROFS: "the file system is read-only; choose another --output_path",
            errno.EACCES: "permission denied; choose another --output_path",
            errno.EPERM: "permission denied; choose another --output_path",
            errno.ENOTDIR: "a part of the path is a file; choose another --output_path",
            errno.EEXIST: "a part of the path is a file; choose another --output_path",
            errno.ENAMETOOLONG: "the path is too long; choose a shorter --output_path",
        }.get(_system_error(error))
        if advice is None:
            raise
        raise StoreError(f"cannot write {getattr(error, 'filename', None) or path}: {advice}") from error


def _system_error(error: Exception) -> int:
    """The number of the operating system's error, 0 where it is none.

    safetensors and tokenizers, written in Rust, raise errors of their own kinds with the number in the message.
    """
    if isinstance(error, OSError):
        return error.errno or 0
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else 0


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, data: Any) -> None:
    """JSON that any reader takes: NaN and infinity become null."""
    write_text(path, json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_yaml(path: Path, data: Mapping[str, Any]) -> None:
    """YAML in the order given."""
    write_text(path, yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True))


def plain(data: Any) -> Any:
    """Data as JSON holds it: lists for tuples, sets and arrays, text for paths, None for NaN and infinity."""
    if hasattr(data, "tolist"):  # a number or an array of numpy's
        data = data.tolist()
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(value) for value in data]
    if isinstance(data, set | frozenset):
        return sorted(map(plain, data))
    if isinstance(data, Path):
        return str(data)
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


def open_run(directory: str | Path, *, verify: bool | Literal["tables"] = False) -> RunResult:
    """Read a complete run. ``verify`` also compares hashes with the marker: of every file, or of those alone that hold
    its numbers ("tables": the results and the scored documents), which takes no longer for a large model.

    Raises:
        StoreError: not a run, not complete, of another schema, or changed since it was written.
    """
    directory = Path(directory)
    if not (directory / MARKER).is_file():
        known = directory.name.endswith(_UNFINISHED) or (directory / "config.yaml").is_file()
        state = "is not complete" if known else "is not a run directory"
        raise StoreError(f"{directory} {state}: there is no {MARKER} file; list runs with: evalsuite ls runs")
    manifest = _read_json(directory / MARKER)
    if not all(isinstance(entry, dict) and entry.keys() >= {"bytes", "blake2b"} for entry in manifest.values()):
        raise StoreError(f"{directory} is not a run directory: its {MARKER} file is not evalsuite's")
    for name, entry in manifest.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise StoreError(f"{path} is missing or was changed after the run; run it again with --overwrite always")
        hashed = any(map(path.match, _TABLES)) if verify == "tables" else verify
        if hashed and file_digest(path) != entry["blake2b"]:
            raise StoreError(f"{path} was changed after the run (hash differs); run it again with --overwrite always")
    results = _read_json(directory / RESULTS)
    if results.get("schema_version") != SCHEMA_VERSION:
        raise StoreError(
            f"{directory} has schema version {results.get('schema_version')}, expected {SCHEMA_VERSION}; "
            "read it with the evalsuite that wrote it, or run it again"
        )
    return RunResult(directory, results, fresh=False)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from None
    if not isinstance(data, dict):
        raise StoreError(f"{path} holds {type(data).__name__}, expected an object")
    return data


def find_runs(root: str | Path) -> list[Path]:
    """The complete runs below ``root``, sorted by path."""
    # A run that works has checkpoints with markers of their own; a run that was cut short may have left both kinds.
    markers = (marker for marker in Path(root).rglob(MARKER) if (marker.parent / RESULTS).is_file())
    return sorted(
        marker.parent for marker in markers if not any(part.endswith(_UNFINISHED) for part in marker.parent.parts)
    )
