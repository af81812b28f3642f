"""The one way to declare an option, so that every option has a meaning, a unit and a source."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """Base of every options model: immutable, and an unknown key is an error."""

    # Built when first used: listing what is there needs no validators, and a tenth of a second matters there.
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), defer_build=True)


def option(
    default: Any, meaning: str, *, unit: str = "", source: str = "", identity: bool = True, **bounds: Any
) -> Any:
    """A pydantic field.

    ``source`` says where the default comes from. ``identity`` is False for options that cannot change a result, such as
    the time between checkpoints: runs that differ in them alone are the same run. ``bounds`` are pydantic's (ge, lt).
    """
    extra: dict[str, Any] = {"unit": unit, "source": source, "identity": identity}
    return Field(default, description=meaning, json_schema_extra=extra, **bounds)
