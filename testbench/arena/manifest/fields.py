"""What the models of a manifest are made of: how keys and null are read, names, numbers, and rules in CEL.

Used by `testbench.arena.manifest.job` and its parts, and by `testbench.arena.manifest.resources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

GROUP: Final = "omnia.altairalabs.ai"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
INT32_MAX: Final = 2_147_483_647


def _read_whole(value: Any) -> Any:
    """Return 5 for 5.0, which is a whole number to an API server too; a text or a truth value is not."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=INT32_MAX), BeforeValidator(_read_whole)]
CountOrZero: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=INT32_MAX), BeforeValidator(_read_whole)]
Flag: TypeAlias = Annotated[bool, Field(strict=True)]
ResourceName: TypeAlias = Annotated[str, Field(min_length=1, max_length=253, pattern=NAME_PATTERN)]
ShortText: TypeAlias = Annotated[str, Field(max_length=1024)]


def rules(*given: tuple[str, str]) -> dict[str, Any]:
    """Return the rules of a model's validators in CEL, for the API server, each with the message that a user reads."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in given]}


class ManifestModel(BaseModel):
    """Immutable, camelCase in the manifest; an unknown key is an error, and null the same as leaving a key out."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        known = cls.known_keys()
        return {key: value for key, value in data.items() if not (value is None and key in known)}

    @classmethod
    def known_keys(cls) -> set[str | None]:
        """Return the keys of the manifest, in either spelling."""
        return {name for key, field in cls.model_fields.items() for name in (key, field.alias)}


class NameRef(ManifestModel):
    """A resource of the same namespace."""

    name: ResourceName
