"""An absent, gated or corrupt model is found before any work, with what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from evalsuite.errors import ModelError
from evalsuite.llm.loading.source import check_available, model_identity, resolve_model
from evalsuite.llm.options import ModelOptions


def options(model: Path | str) -> ModelOptions:
    return ModelOptions(model=str(model))


@pytest.fixture
def model_copy(tiny_llama: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_llama, tmp_path / "model")


def test_resolve(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_model("owner/name") == ("owner/name", None)
    assert resolve_model("owner/name@abc123") == ("owner/name", "abc123")
    assert resolve_model(str(tiny_llama)) == (str(tiny_llama.resolve()), None)
    assert Path(resolve_model("bundled")[0]).name == "lm"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a@b").mkdir()
    assert resolve_model("a@b") == (str(tmp_path / "a@b"), None), "a folder that exists wins"


def test_a_good_folder_passes(tiny_llama: Path) -> None:
    check_available(options(tiny_llama))


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def drop_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def break_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("{}")


def drop_shard(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def unknown_kind(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "abacus"}')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_weights, r"model\.safetensors is cut short or corrupt.*fetch the model again"),
        (drop_weights, r"holds no model\.safetensors"),
        (break_index, r"index\.json cannot be read"),
        (drop_shard, r"model-00001-of-00002\.safetensors is cut short or corrupt"),
        (break_config, r"is no model that transformers [\d.]+ can read"),
        (unknown_kind, r"is no model that transformers [\d.]+ can read.*abacus"),
    ],
)
def test_corrupt_folder(model_copy: Path, damage: Any, message: str) -> None:
    damage(model_copy)
    with pytest.raises(ModelError, match=message) as caught:
        check_available(options(model_copy))
    assert "\n" not in str(caught.value)


def test_neither_folder_nor_hub_id() -> None:
    with pytest.raises(ModelError, match="there is no such folder, and a hub id has the form owner/name"):
        check_available(options("./no/such/folder"))


def test_identity_follows_the_files(tiny_llama: Path, model_copy: Path) -> None:
    assert model_identity(options(model_copy)) == model_identity(options(tiny_llama))
    (model_copy / "tokenizer_config.json").write_text("{}")
    assert model_identity(options(model_copy)) != model_identity(options(tiny_llama))


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does for a gated, an absent and a revision-less model."""

    ANSWERS: ClassVar = {"gated": (403, "GatedRepo"), "absent": (404, "RepoNotFound"), "old": (404, "RevisionNotFound")}

    def do_HEAD(self) -> None:
        name = self.path.split("/")[2]
        status, code = self.ANSWERS.get(name, (404, "EntryNotFound"))
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815 - the base class names it

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


SCRIPT = """
import sys
from evalsuite.errors import ModelError
from evalsuite.llm.options import ModelOptions
from evalsuite.llm.loading.source import check_available
for model in sys.argv[1:]:
    try:
        check_available(ModelOptions(model=model))
    except ModelError as error:
        print(error)
print("torch" in sys.modules)
"""


def ask(environment: dict[str, str], *models: str) -> list[str]:
    """The errors for several models, one line each, from a process with its own hub settings."""
    output = subprocess.run(
        [sys.executable, "-c", SCRIPT, *models],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return output.stdout.splitlines()


def test_gated_absent_and_revision(hub: str, tmp_path: Path) -> None:
    models = ["owner/gated", "owner/absent", "owner/old@v9", "owner/bare"]
    gated, absent, old, bare, torch = ask(
        {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}, *models
    )
    assert torch == "False", "found before torch is even imported"
    assert gated == (
        "owner/gated is gated: accept its terms at https://huggingface.co/owner/gated, then run `hf auth login`"
    )
    assert "no model 'owner/absent' at https://huggingface.co/owner/absent" in absent
    assert "`hf auth login`" in absent
    assert "owner/old has no revision 'v9'" in old
    assert "owner/bare holds no config.json" in bare


def test_a_run_with_a_gated_model_ends_before_any_work(hub: str, tmp_path: Path) -> None:
    command = ["run", "--task", "ag_news", "--method", "instruction", "--model", "owner/gated", "--device", "cpu"]
    child = subprocess.run(
        [sys.executable, "-m", "evalsuite", *command],
        env={**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.returncode, child.stdout) == (3, "")
    [line] = child.stderr.splitlines()
    assert line.startswith("error: owner/gated is gated: accept its terms at https://huggingface.co/owner/gated")
    assert line.endswith("then run `hf auth login`")
    assert not (tmp_path / "runs").exists()


def test_offline(tmp_path: Path) -> None:
    line, _ = ask({"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}, "owner/name")
    assert line == "owner/name is not in the local cache and the hub is out of reach: go online once, or give a folder"
