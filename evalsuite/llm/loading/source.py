"""Where a model comes from, and whether it can be had, found out before any work. Imports no torch by itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from evalsuite.errors import ModelError
from evalsuite.llm.options import ModelOptions

HUB = "https://huggingface.co"


def first_line(error: BaseException) -> str:
    """An outside error as one line: its kind and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def resolve_model(model: str) -> tuple[str, str | None]:
    """What ``from_pretrained`` takes for a model option: (folder or hub id, pinned revision or None)."""
    if model == "bundled":
        from evalsuite import bundled

        return str(bundled.path()), None
    if Path(model).exists():
        return str(Path(model).resolve()), None
    name, _, revision = model.partition("@")
    return name, revision or None


def files_stamp(name: str) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of every file of a model's folder, to see that none has changed; nothing for a hub id."""
    folder = Path(name)
    if not folder.is_dir():
        return ()
    files = ((path.name, path.stat()) for path in sorted(folder.iterdir()))
    return tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in files)


def check_available(options: ModelOptions) -> None:
    """Find an absent, gated or corrupt model before a GPU is touched; only a few kilobytes are fetched.

    Raises:
        ModelError: with the model's URL and what to do.
    """
    name, _ = resolve_model(options.model)
    read_config(options)
    if Path(name).is_dir():
        _check_weights(Path(name))


def read_config(options: ModelOptions) -> Any:
    """The model's transformers configuration.

    Raises:
        ModelError: the model is absent, gated, not cached while offline, or its configuration cannot be read.
    """
    import transformers

    name, revision = resolve_model(options.model)
    if not Path(name).exists():
        _fetch_config(name, revision)
    try:
        return transformers.AutoConfig.from_pretrained(
            name, revision=revision, trust_remote_code=options.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{options.model} is no model that transformers {transformers.__version__} can read: {first_line(error)}"
        ) from error


def load_tokenizer(options: ModelOptions) -> Any:
    """The model's tokenizer alone, without its weights.

    Raises:
        ModelError: the model is absent or gated, or has no tokenizer that can be read.
    """
    import transformers

    read_config(options)
    name, revision = resolve_model(options.model)
    try:
        return transformers.AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=options.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"{options.model} has no tokenizer that can be read: {first_line(error)}") from error


def _fetch_config(name: str, revision: str | None) -> None:
    from huggingface_hub import errors, hf_hub_download

    url = f"{HUB}/{name}"
    try:
        hf_hub_download(name, "config.json", revision=revision)
    except errors.HFValidationError as error:
        raise ModelError(f"no model {name!r}: there is no such folder, and a hub id has the form owner/name") from error
    except errors.GatedRepoError as error:
        raise ModelError(f"{name} is gated: accept its terms at {url}, then run `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{name} has no revision {revision!r}; see {url}/commits") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"no model {name!r} at {url}; check the name, or run `hf auth login` if it is private"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise ModelError(
            f"{name} is not in the local cache and the hub is out of reach: go online once, or give a folder"
        ) from error
    except errors.EntryNotFoundError as error:
        raise ModelError(f"{name} holds no config.json, so it is no transformers model; see {url}") from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"cannot reach {url}: {first_line(error)}; try again, or set HF_HUB_OFFLINE=1 and a cached model"
        ) from error


def _check_weights(folder: Path) -> None:
    from safetensors import SafetensorError, safe_open

    index = folder / "model.safetensors.index.json"
    try:
        names = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
    except (ValueError, KeyError) as error:
        raise ModelError(f"{index} cannot be read: {error}; fetch the model again") from error
    if names == {"model.safetensors"} and not (folder / "model.safetensors").exists():
        raise ModelError(f"{folder} holds no model.safetensors; expected weights in that format")
    for name in sorted(names):
        try:
            with safe_open(folder / name, framework="numpy"):
                pass
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{folder / name} is cut short or corrupt: {error}; fetch the model again") from error


def choose_device(requested: str) -> str:
    """The device a run uses: as asked, and for "auto" the GPU where there is one."""
    if requested != "auto":
        return requested
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def model_identity(options: ModelOptions) -> str:
    """What tells this model from any other: the hub's commit, or a hash of a folder's files (sha256, 16 digits).

    Raises:
        ModelError: the model is absent or gated.
    """
    check_available(options)
    name, _ = resolve_model(options.model)
    folder = Path(name)
    if not folder.is_dir():
        return f"{name}@{read_config(options)._commit_hash}"
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".json", ".safetensors", ".model", ".jinja", ".txt"}:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
