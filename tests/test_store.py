"""One run, one directory: complete or not there, whatever stops the writing."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite.errors import StoreError, UsageError
from evalsuite.store import (
    MARKER,
    RESULTS,
    SCHEMA_VERSION,
    RunDirectory,
    file_name,
    find_runs,
    open_run,
    plain,
    write_json,
    write_text,
)


def complete_run(folder: Path, **results: Any) -> RunDirectory:
    directory = RunDirectory(folder)
    with directory.claim() as workdir:
        write_json(workdir / RESULTS, {"schema_version": SCHEMA_VERSION, **results})
        write_text(workdir / "log.txt", "some words\n")
        directory.finish()
    return directory


def fail(directory: RunDirectory) -> None:
    with directory.claim() as workdir:
        write_text(workdir / "log.txt", "so far")
        _ = 1 / 0


def change(path: Path, edit: Callable[[str], str]) -> None:
    path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_run_appears_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "runs" / "id")
    with directory.claim() as workdir:
        write_json(workdir / RESULTS, {"schema_version": SCHEMA_VERSION, "answer": 42})
        assert not directory.complete
        assert not directory.final.exists()
        directory.finish()
    assert directory.complete
    assert names(tmp_path / "runs") == {"id"}
    assert open_run(directory.final, verify=True).results["answer"] == 42


def test_an_exception_leaves_a_partial_directory_only(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "id")
    with pytest.raises(ZeroDivisionError):
        fail(directory)
    assert names(tmp_path) == {"id.partial"}
    assert find_runs(tmp_path) == []


def test_the_place_of_a_run(tmp_path: Path) -> None:
    place = RunDirectory.place(tmp_path, "wipo", "embedding", "meta-llama/Llama-3.2-3B@abc", "0f")
    assert place.final == tmp_path / "wipo__embedding" / "meta-llama__Llama-3.2-3B@abc" / "0f"
    assert place.partial.name == "0f.partial"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("/models/big llama", "big_llama"),
        ("./here/model", "model"),
        ("../../etc", "etc"),
        ("a:b*c", "a_b_c"),
        ("", "none"),
        ("none", "none"),
    ],
)
def test_a_model_is_one_path_component(model: str, expected: str) -> None:
    assert file_name(model) == expected


@pytest.mark.parametrize("name", ["../outside", "a/b", "", ".hidden", "a b", "a\n"])
def test_a_task_is_one_path_component(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="names a folder: use letters"):
        RunDirectory.place(tmp_path, name, "tfidf", "none", "0f")


WRITER = """
import sys, time
from pathlib import Path
from evalsuite.store import RESULTS, SCHEMA_VERSION, RunDirectory, write_json

directory = RunDirectory(Path(sys.argv[1]))
with directory.claim() as workdir:
    write_json(workdir / RESULTS, {"schema_version": SCHEMA_VERSION})
    (workdir / "model.bin").write_bytes(b"half")
    print("claimed", flush=True)
    if sys.argv[2] == "wait":
        time.sleep(60)
    directory.finish()
"""


def writer(folder: Path, then: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), then]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_writer_leaves_no_run_and_a_second_try_completes_it(tmp_path: Path) -> None:
    with writer(tmp_path / "id", "wait") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "claimed\n"
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert find_runs(tmp_path) == []
    with pytest.raises(StoreError, match="is not a run directory"):
        open_run(tmp_path / "id")
    directory = complete_run(tmp_path / "id")
    assert find_runs(tmp_path) == [directory.final]
    assert open_run(directory.final, verify=True).directory == directory.final


def test_two_processes_cannot_hold_one_run(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "id")
    with directory.claim(), writer(tmp_path / "id", "end") as child:
        _, message = child.communicate(timeout=30)
        assert child.returncode
        assert "is being written by another process; wait for it to end" in message
    with writer(tmp_path / "id", "end") as child:
        child.communicate(timeout=30)
        assert child.returncode == 0
    assert directory.complete
    assert names(tmp_path) == {"id"}


def test_a_kill_between_the_marker_and_the_rename_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            complete_run(tmp_path / "id")
    assert (tmp_path / "id.partial" / MARKER).is_file()
    assert find_runs(tmp_path) == []
    assert complete_run(tmp_path / "id").complete


def test_a_run_that_is_replaced_is_there_until_the_new_one_is(tmp_path: Path) -> None:
    complete_run(tmp_path / "id", number=1)
    directory = RunDirectory(tmp_path / "id")
    with pytest.raises(ZeroDivisionError):
        fail(directory)
    assert open_run(tmp_path / "id", verify=True).results["number"] == 1
    (tmp_path / "id.replaced").mkdir()  # what a kill during an earlier replacement leaves
    (tmp_path / "id.replaced" / "old").touch()
    complete_run(tmp_path / "id", number=2)
    assert open_run(tmp_path / "id").results["number"] == 2
    assert names(tmp_path) == {"id"}


REFUSALS = {
    errno.ENOSPC: "the disk is full; free space or choose another --output_path",
    errno.EDQUOT: "the quota is used up",
    errno.EROFS: "the file system is read-only; choose another --output_path",
    errno.EACCES: "permission denied; choose another --output_path",
    errno.ENAMETOOLONG: "the path is too long",
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_to_write_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Tests may run as root, whom permissions do not stop."""

    def refuse(self: Path, *arguments: Any, **options: Any) -> None:
        raise OSError(code, os.strerror(code), str(self))

    for method in ("mkdir", "write_text"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, method, refuse)
            with pytest.raises(StoreError, match=REFUSALS[code]) as caught:
                complete_run(tmp_path / method / "id")
        assert str(caught.value).startswith(f"cannot write {tmp_path / method}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "told",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",  # safetensors
        "No space left on device (os error 28)",  # tokenizers
    ],
)
def test_a_full_disk_is_one_clear_line_whoever_writes(tmp_path: Path, told: str) -> None:
    """Libraries in Rust do not raise OSError."""
    full = pytest.raises(StoreError, match=r"cannot write .*id\.partial: the disk is full; free space or choose")
    with full, RunDirectory(tmp_path / "id").claim():
        raise Exception(told)  # the class that tokenizers raises


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    for place in ("runs/task/id", "runs"):
        with pytest.raises(StoreError, match="a part of the path is a file; choose another --output_path"):
            complete_run(tmp_path / place / "id")


def test_an_error_that_is_not_about_writing_keeps_its_kind(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError), RunDirectory(tmp_path / "id").claim():
        raise ConnectionError("no route")
    with pytest.raises(RuntimeError, match="os error"), RunDirectory(tmp_path / "id").claim():
        raise RuntimeError("Connection refused (os error 111)")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a.txt", "old")
    full = OSError(errno.ENOSPC, "No space left on device")

    def fill(self: Path, text: str, **options: Any) -> None:
        with self.open("w") as stream:
            stream.write(text[:2])
        raise full

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(OSError, match="No space"):
        write_text(tmp_path / "a.txt", "new words")
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda run: (run / "log.txt").unlink(), r"log\.txt is missing or was changed after the run"),
        (lambda run: change(run / "log.txt", lambda text: text + "!"), r"log\.txt is missing or was changed"),
        (lambda run: change(run / "log.txt", str.upper), r"log\.txt was changed after the run \(hash differs\)"),
        (lambda run: (run / MARKER).unlink(), "is not a run directory"),
        (lambda run: change(run / MARKER, lambda text: text[:-9]), rf"cannot read .*{MARKER}"),
        (lambda run: (run / MARKER).write_text("[]"), rf"{MARKER} holds list, expected an object"),
        (lambda run: (run / MARKER).write_text('{"a": 1}'), r"its COMPLETE file is not evalsuite's"),
        (lambda run: (run / MARKER).write_text("{}") and (run / RESULTS).unlink(), r"cannot read .*results\.json"),
    ],
)
def test_a_run_that_was_edited_is_refused(tmp_path: Path, edit: Callable[[Path], Any], words: str) -> None:
    directory = complete_run(tmp_path / "id").final
    edit(directory)
    with pytest.raises(StoreError, match=words) as caught:
        open_run(directory, verify=True)
    assert "\n" not in str(caught.value)


def test_an_incomplete_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(
        StoreError, match=r"is not complete: there is no COMPLETE file; list runs with: evalsuite ls runs"
    ):
        open_run(tmp_path)


def test_a_run_of_another_schema_is_refused(tmp_path: Path) -> None:
    directory = complete_run(tmp_path / "id", schema_version=SCHEMA_VERSION + 1).final
    with pytest.raises(StoreError, match=f"has schema version {SCHEMA_VERSION + 1}, expected {SCHEMA_VERSION}"):
        open_run(directory)


def test_the_list_of_runs_has_no_partial_ones_and_no_checkpoints(tmp_path: Path) -> None:
    finished = complete_run(tmp_path / "a" / "id").final
    for place in ("a/other.partial/checkpoints/step-10", "a/other.partial", "a/id.replaced", "foreign"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / MARKER).write_text("{}")
    assert find_runs(tmp_path) == [finished]
    assert find_runs(tmp_path / "absent") == []


def test_what_json_cannot_hold_becomes_what_it_can(tmp_path: Path) -> None:
    data = {
        "nan": float("nan"),
        "infinite": [float("inf"), np.float32("-inf")],
        "numpy": np.float64(0.5),
        "integer": np.int64(3),
        "array": np.array([[1.0, float("nan")]]),
        "path": Path("a/b"),
        "tuple": (1, None, True),
        "set": {"b", "a"},
        7: "key",
    }
    write_json(tmp_path / "a.json", data)
    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert read == plain(data)
    assert read["nan"] is None
    assert read["infinite"] == [None, None]
    assert read["array"] == [[1.0, None]]
    assert read["set"] == ["a", "b"]
    assert (read["path"], read["tuple"], read["7"]) == ("a/b", [1, None, True], "key")
