"""What makes two runs the same: everything that can change a result, and nothing else."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from evalsuite import __version__
from evalsuite.contracts import MethodSpec, Task
from evalsuite.spec import RunSpec
from evalsuite.store import digest_of

# Where the run happens, how loudly and where it is kept change no number.
# The task's options and the template's name are stood for by the hashes of what they select, the last two by _scoring.
NOT_IDENTITY = (
    "device",
    "output_path",
    "overwrite",
    "plugins",
    "templates",
    "template",
    "origins",
    "preset",
    "task_options",
    "split",
    "tuning",
)


# Installed from a wheel these lie in the package's folder, from a checkout they do not. Their code counts where it is
# used: see ``source_hash`` and the hash of the template.
MAPPED_FOLDERS = {"tasks", "plugins", "templates"}


@functools.cache
def code_version(package: Path = Path(__file__).parent) -> str:
    """The version with a hash of the package's own sources, so that no result outlives the code that made it."""
    digest = hashlib.blake2b(digest_size=6)
    for name, file in sorted((file.relative_to(package).as_posix(), file) for file in package.rglob("*.py")):
        if name.partition("/")[0] not in MAPPED_FOLDERS:
            digest.update(f"{name}\0".encode() + file.read_bytes())
    return f"{__version__}+{digest.hexdigest()}"


def source_hash(function: Any) -> str:
    """A hash of the file that defines ``function``: a plugin's code is part of what it computes."""
    while isinstance(function, functools.partial):
        function = function.func
    # By the module's name, which functions, classes and objects all have; inspect finds the file of the first two only.
    file = getattr(sys.modules.get(inspect.unwrap(function).__module__), "__file__", None)
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=6).hexdigest() if file else "unknown"


def options_identity(method: MethodSpec, options: Mapping[str, Any]) -> dict[str, Any]:
    """The method's options without those that only say when or where work is done."""
    fields = method.config.model_fields
    return {
        name: value
        for name, value in options.items()
        if not isinstance(extra := fields[name].json_schema_extra, dict) or extra.get("identity", True)
    }


def run_identity(
    spec: RunSpec,
    task: Task,
    method: MethodSpec,
    *,
    data: str,
    template: str | None,
    model: str | None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Everything that can change the result of a run, as plain data.

    Args:
        spec: the resolved request.
        task: the task it names.
        method: the method it names.
        data: fingerprint of the splits that are used: documents, gold labels, label order, membership.
        template: hash of the prompt templates, None where the method has no prompt.
        model: hash of the model's files or its hub commit, None where the method has no model.
        more: what the method itself adds, such as the id of a teacher's run.
    """
    kept = {name: value for name, value in spec.to_dict().items() if name not in NOT_IDENTITY}
    kept["method_options"] = options_identity(method, spec.method_options)
    if model is not None:  # its hash says more than its name, and a folder's path says nothing
        kept["method_options"].pop("model", None)
    return {
        **kept,
        **_scoring(spec),
        "task": task.name,
        "primary_metric": task.primary_metric,
        "private": task.private,
        "data": data,
        "template_hash": template,
        "model_hash": model,
        "task_code": source_hash(task.load),
        "method_code": source_hash(method.build),
        "code": code_version(),
        **({"more": dict(more)} if more else {}),
    }


def _scoring(spec: RunSpec) -> dict[str, Any]:
    """The split that is scored, where it is not test, and the options that were tried to choose those of this run.

    Not how well they did: a trial that is done again and ends a little different makes no other run of this one.
    """
    split = {} if spec.split == "test" else {"split": spec.split}
    return {**split, **({"tried": list(spec.tuning["tried"])} if spec.tuning else {})}


def run_id(identity: Mapping[str, Any]) -> str:
    """The hash that names the run's directory."""
    return digest_of(identity)
