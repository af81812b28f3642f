"""What is published of a run: its model, card and results, without documents, logs and this machine's folders."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_server import Hub, Repository, serving
from huggingface_hub import ModelCard

import evalsuite
from evalsuite.deliver.push_card import finish_card, licence_of, split_card
from evalsuite.deliver.push_files import Parcel, pack
from evalsuite.errors import StoreError
from evalsuite.store import file_digest


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """A model in a folder whose name is nobody's business."""
    return shutil.copytree(tiny_llama, tmp_path_factory.mktemp("customer_acme") / "llama")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, few_resamples: None, base: Path) -> Path:
    """A run with an adapter, of a table that lies in a folder whose name is nobody's business."""
    data = tmp_path_factory.mktemp("customer_acme") / "train.csv"
    rows = [f"{('spam', 'ham')[number % 2]},text number {number} SECRETWORD" for number in range(60)]
    data.write_text("label,text\n" + "\n".join(rows) + "\n", encoding="utf-8")
    task = data.with_name("mails.yaml")
    task.write_text(yaml.safe_dump({"name": "mails", "data": str(data), "text": "text", "label": "label"}))
    options: dict[str, Any] = {"model": str(base), "epochs": 1, "max_length": 32, "report_to": "tensorboard"}
    options |= {"head_init": "random", "evaluations": 1}
    runs = str(tmp_path_factory.mktemp("runs"))
    return evalsuite.run(str(task), "embedding", output_path=runs, **options).directory


def contents(parcel: Parcel) -> dict[str, bytes]:
    files = {
        file.name: file.content if isinstance(file.content, bytes) else file.content.read_bytes()
        for file in parcel.files
    }
    return {"README.md": parcel.card.encode(), **files}


def test_no_document_and_no_folder_of_this_machine(run: Path, base: Path) -> None:
    parcel = pack(run)
    assert set(contents(parcel)) == {
        "README.md",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "adapter/embedding.json",
        "adapter/tokenizer.json",
        "adapter/tokenizer_config.json",
        "config.yaml",
        "results.json",
        "task.json",
    }
    for name, data in contents(parcel).items():
        assert b"SECRETWORD" not in data, name
        assert b"customer_acme" not in data, name
        assert str(Path.home()).encode() + b"/" not in data, name
    assert parcel.size == sum(map(len, contents(parcel).values()))


def test_what_stays_and_why(run: Path) -> None:
    reasons = {Path(name).parts[0]: why for name, why in pack(run).left_out.items()}
    assert reasons == {
        "COMPLETE": "of the run directory",
        "environment.json": "about this machine",
        "log.txt": "log",
        "samples_mails.jsonl": "documents",
        "tensorboard": "log",
    }


def test_numbers_and_options_stay_as_they_are(run: Path, base: Path) -> None:
    published = contents(pack(run))
    results, before = json.loads(published["results.json"]), json.loads((run / "results.json").read_text())
    for key in ("metrics", "results", "labels", "run_id", "identity", "cost", "decision", "reload_check"):
        assert results[key] == before[key]
    assert "origins" not in results
    assert results["data"] == before["data"] | {"source": "train.csv"}
    assert results["model"] == results["options"]["method"]["model"] == "llama"
    config = yaml.safe_load(published["config.yaml"])
    assert config["task"] == "mails.yaml"
    assert config["seed"] == 0
    assert not config.keys() & {"origins", "output_path", "device"}
    assert published["adapter/tokenizer.json"] == (run / "adapter" / "tokenizer.json").read_bytes()


def test_a_local_base_is_told_of_and_can_be_named(run: Path, base: Path) -> None:
    parcel = pack(run)
    assert [line.partition(", which")[0] for line in parcel.warnings] == [
        "the base model is a folder of this machine, llama"
    ]
    assert parcel.base is None
    assert "base_model" not in split_card(finish_card(parcel.card, "ann/x", base=parcel.base))[0]
    named = pack(run, "org/llama")
    assert named.warnings == ()
    published = contents(named)
    assert json.loads(published["adapter/adapter_config.json"])["base_model_name_or_path"] == "org/llama"
    assert json.loads(published["results.json"])["model"] == "org/llama"
    card = finish_card(named.card, "ann/x", base=named.base)
    assert split_card(card)[0]["base_model"] == "org/llama"
    assert "from_pretrained(\n    'org/llama'," in card


def test_the_card_names_repository_licence_and_metrics(run: Path, tmp_path: Path) -> None:
    licence = licence_of({"license": "other", "license_name": "llama3.2", "license_link": "https://l.org", "tags": []})
    parcel = pack(run, "org/llama")
    path = tmp_path / "README.md"
    path.write_text(finish_card(parcel.card, "ann/x", revision="v1", base=parcel.base, licence=licence))
    card = ModelCard.load(path)
    assert card.data.license == "other"
    assert card.data.license_name == "llama3.2"
    assert "The base model's card names its licence `llama3.2`, which holds for what is made of it." in card.text
    assert card.data.model_name == "ann/x"
    summary = json.loads((run / "results.json").read_text())["metrics"]["summary"]
    results = {result.metric_name: result for result in card.data.eval_results}
    assert results["f1_macro (primary)"].metric_value == summary["f1_macro"]["value"]
    assert results["f1_macro (primary)"].dataset_name == "mails"
    assert "snapshot_download('ann/x', revision='v1')" in card.text
    assert licence_of({"license": None}) == {}


def test_the_licence_of_a_base_model_in_a_folder(run: Path, base: Path) -> None:
    assert pack(run).licence == {}
    (base / "README.md").write_text("---\nlicense: gemma\n---\n# A model\n")
    try:
        assert pack(run).licence == {"license": "gemma"}
    finally:
        (base / "README.md").unlink()


def test_front_matter_that_is_none() -> None:
    for text in ("# No front matter\n", "---\n: [broken\n---\nbody\n", "---\n- a list\n---\nbody\n"):
        assert split_card(text) == ({}, text)


def test_files_that_came_after_the_run_stay(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "notes.txt").write_text("SECRETWORD")
    (copy / "adapter" / "optimizer.pt").write_text("state")
    (copy / "link.json").symlink_to(run / "samples_mails.jsonl")
    parcel = pack(copy)
    assert parcel.left_out["notes.txt"] == "came after the run"
    assert parcel.left_out["adapter/optimizer.pt"] == "state of training"
    assert parcel.left_out["link.json"] == "a link"
    assert set(contents(parcel)) == set(contents(pack(run)))


def test_a_run_that_was_changed_or_is_none(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    results = (copy / "results.json").read_text()
    (copy / "results.json").write_text(results.replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(StoreError, match="was changed after the run"):
        pack(copy)
    (copy / "COMPLETE").unlink()
    with pytest.raises(StoreError, match="is not complete"):
        pack(copy)
    with pytest.raises(StoreError, match="is not a run directory"):
        pack(tmp_path / "nowhere")


def rewrite(run: Path, name: str, old: str, new: str) -> None:
    """Change a file of a run as if it had been written so."""
    text = (run / name).read_text(encoding="utf-8")
    assert old in text
    (run / name).write_text(text.replace(old, new, 1), encoding="utf-8")
    manifest = json.loads((run / "COMPLETE").read_text())
    manifest[name] = {"bytes": (run / name).stat().st_size, "blake2b": file_digest(run / name)}
    (run / "COMPLETE").write_text(json.dumps(manifest))


def test_a_model_behind_an_endpoint_is_no_base_model(tmp_path: Path, few_resamples: None) -> None:
    """Its name may be that of somebody's repository on the hub; where it is served is nobody's business."""
    run = evalsuite.run("ag_news", "majority", output_path=str(tmp_path), limit=20).directory
    rewrite(run, "results.json", '"model": null', '"model": "openai/gpt"')
    url = "http://10.1.2.3:8000/v1"
    rewrite(run, "README.md", "- seed:", f"- base_url: {url}\n- seed:")
    rewrite(run, "config.yaml", "  smoothing:", f"  base_url: {url}\n  smoothing:")
    parcel = pack(run)
    assert parcel.base is None
    assert parcel.warnings == ()
    assert "base_model" not in split_card(finish_card(parcel.card, "ann/x", base=parcel.base))[0]
    assert json.loads(contents(parcel)["results.json"])["model"] == "openai/gpt"
    assert all(b"10.1.2.3" not in data for data in contents(parcel).values())


def test_a_run_whose_saved_model_is_another(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    rewrite(copy, "results.json", '"reload_failed": false', '"reload_failed": true')
    assert "does not repeat the trained one's answers" in pack(copy).warnings[-1]


def test_an_exported_folder(run: Path, base: Path, tmp_path: Path) -> None:
    """As ``evalsuite export`` writes it: everything in one folder, with a card and its provenance."""
    folder = tmp_path / "exported"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json"):
        shutil.copy(run / "adapter" / name, folder)
    for name in ("README.md", "config.yaml"):
        shutil.copy(run / name, folder)
    (folder / "export.json").write_text(json.dumps({"run_id": "0f", "check": {"message": f"read {base}"}}))
    (folder / "predictions.csv").write_text("SECRETWORD")
    parcel = pack(folder, "org/llama")
    assert parcel.left_out == {"predictions.csv": "documents"}
    assert not parcel.private
    for name, data in contents(parcel).items():
        assert b"customer_acme" not in data, name
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(
        card.replace("## Data\n", "## Data\n\n- the text is private: it is in no file of this folder\n")
    )
    assert pack(folder).private


def test_from_the_command_line_to_the_snippet_as_printed(run: Path, base: Path, tmp_path: Path) -> None:
    """Pushed by the command, fetched and run by the card's own code, base model and licence from the hub too."""
    hub = Hub()
    files = {path.name: path.read_bytes() for path in base.iterdir()}
    hub.repositories["ann/llama"] = Repository(True, {"main": files}, card={"license": "apache-2.0"})
    with serving(hub) as server:
        environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
        environment |= {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1"}
        environment |= {"HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}

        def call(*command: object) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, *map(str, command)],
                env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120,
            )  # fmt: skip

        pushed = call("-m", "evalsuite", "push", run, "ann/mails", "--base_model", "ann/llama")
        assert pushed.returncode == 0, pushed.stderr
        assert f"{server.url}/ann/mails (private), commit {hub.commit('ann/mails', 'main')}" in pushed.stdout
        assert pushed.stderr == ""
        card = hub.repositories["ann/mails"].files["README.md"].decode()
        assert split_card(card)[0]["license"] == "apache-2.0"
        [snippet] = re.findall(r"```python\n(.*?)\n```", card, re.DOTALL)
        (tmp_path / "snippet.py").write_text(snippet)
        ran = call("snippet.py")
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(r"(spam|ham) \[[\d.e-]+, [\d.e-]+\]", ran.stdout.strip())
