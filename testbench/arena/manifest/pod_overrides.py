"""What a job may say of its pods: where they run, what is written on them, how much they get (an extension).

`spec.workers.podOverrides`; put on the pods by `testbench.arena.operator.pods`. Whoever writes an ArenaJob need not be
allowed to create pods or to read Secrets, so nothing here changes what a pod may do, or whose keys it sees:

- its account, volumes, security settings and variables from Secrets are left to whoever runs the operator;
- variables are some of Testbench's own: PYTHONPATH would make a bundle run, a proxy or another gateway would be sent
  keys of others. None has a `$`, by which Kubernetes would write another variable, such as a key, into it;
- no label or annotation by which Kubernetes and the operator know their pods, or that loosens what these may do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, StrictInt, model_validator

from testbench.arena.manifest.fields import GROUP, CountOrZero, ManifestModel, NameRef, ResourceName, rules

RESERVED: Final = (
    f"{GROUP}/",
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
    "app.kubernetes.io/managed-by",
    "batch.kubernetes.io/",
    "job-name",
    "controller-uid",
    "container.apparmor.security.beta.kubernetes.io/",
    "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
)
"""How the keys begin that no job may write on its pods."""
KEY_RESERVED: Final = "a label or annotation that Kubernetes, the operator or pod security relies on cannot be set"
SYSTEM_PRIORITY: Final = "the priority classes of the system are not for workers"
KEYLESS: Final = "a toleration without a key needs the operator Exists"
VALUE_OF_EXISTS: Final = "a toleration with the operator Exists has no value"
SECONDS_OF_OTHERS: Final = "tolerationSeconds needs the effect NoExecute"

_KEY: Final = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_PATTERN: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_QUANTITY_PATTERN: Final = r"^[0-9]{1,15}(\.[0-9]{1,9})?([KMGTPE]i|[numkMGTPE])?$"
_COMMAND: Final = "TESTBENCH_ARENA_(PLAN_RUN|WORK|REDUCE|RUN_ALL)"
_SETTING: Final = "(MIN_PASS_RATE|MAX_ERROR_RATE|MIN_COVERAGE|PUBLISH|TRACE_URL|CONCURRENCY|JUDGE_MODEL)"
_LOGGING: Final = "TESTBENCH_(LOG_FORMAT|LOG_LEVEL|TRACE_CONTENT)"
_VARIABLE_PATTERN: Final = rf"^({_COMMAND}_{_SETTING}|{_LOGGING}|OTEL_RESOURCE_ATTRIBUTES)$"
"""None that says where keys, files or results are: a result that is kept in a pod is lost with it."""
_NOT_RESERVED: Final = " && ".join(f"!key.startsWith('{begin}')" for begin in RESERVED)
_UNRESERVED_RULE: Final = rules((f"self.all(key, {_NOT_RESERVED})", KEY_RESERVED))

MappingT = TypeVar("MappingT", bound=Mapping[str, Any])


def _check_keys(found: MappingT) -> MappingT:
    for key in found:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} cannot be the key of a label")
    return found


def _check_unreserved(found: MappingT) -> MappingT:
    if any(key.startswith(RESERVED) for key in found):
        raise ValueError(KEY_RESERVED)
    return _check_keys(found)


def _check_priority_class(name: str) -> str:
    if name.startswith("system-"):
        raise ValueError(SYSTEM_PRIORITY)
    return name


Free: TypeAlias = Annotated[Mapping[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
"""A part of Kubernetes' own, which the API server checks when the pods are made."""
LabelValue: TypeAlias = Annotated[str, Field(max_length=63, pattern=_LABEL_PATTERN)]
AnnotationValue: TypeAlias = Annotated[str, Field(max_length=4096)]
Quantity: TypeAlias = Annotated[
    StrictInt | Annotated[str, Field(strict=True, pattern=_QUANTITY_PATTERN)],
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]
Quantities: TypeAlias = Annotated[Mapping[str, Quantity], Field(max_length=16), AfterValidator(_check_keys)]


class Variable(ManifestModel):
    """A variable of Testbench, by its value."""

    name: str = Field(max_length=128, pattern=_VARIABLE_PATTERN)
    value: str = Field(default="", max_length=1024, pattern=r"^[^\x24]*$")


class Toleration(ManifestModel):
    """As of a pod."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.key) || (has(self.operator) && self.operator == 'Exists')", KEYLESS),
            ("!has(self.value) || !has(self.operator) || self.operator != 'Exists'", VALUE_OF_EXISTS),
            ("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')", SECONDS_OF_OTHERS),
        )
    )

    key: str | None = Field(default=None, min_length=1, max_length=316)
    operator: Literal["Exists", "Equal"] | None = None
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: CountOrZero | None = None

    @model_validator(mode="after")
    def _as_kubernetes_takes_it(self) -> Self:
        if self.key is None and self.operator != "Exists":
            raise ValueError(KEYLESS)
        if self.value is not None and self.operator == "Exists":
            raise ValueError(VALUE_OF_EXISTS)
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise ValueError(SECONDS_OF_OTHERS)
        return self


class Affinity(ManifestModel):
    """As of a pod."""

    node_affinity: Free | None = None
    pod_affinity: Free | None = None
    pod_anti_affinity: Free | None = None


class Resources(ManifestModel):
    """As of a container."""

    requests: Quantities = {}
    limits: Quantities = {}


class PodOverrides(ManifestModel):
    """What a job adds to its pods, beside what the operator decides."""

    labels: Annotated[Mapping[str, LabelValue], AfterValidator(_check_unreserved)] = Field(
        default={}, max_length=32, json_schema_extra=_UNRESERVED_RULE
    )
    annotations: Annotated[Mapping[str, AnnotationValue], AfterValidator(_check_unreserved)] = Field(
        default={}, max_length=32, json_schema_extra=_UNRESERVED_RULE
    )
    node_selector: Annotated[Mapping[str, LabelValue], AfterValidator(_check_keys)] = Field(default={}, max_length=32)
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=32)
    affinity: Affinity | None = None
    topology_spread_constraints: tuple[Free, ...] = Field(default=(), max_length=16)
    priority_class_name: Annotated[ResourceName, AfterValidator(_check_priority_class)] | None = Field(
        default=None, json_schema_extra=rules(("!self.startsWith('system-')", SYSTEM_PRIORITY))
    )
    image_pull_secrets: tuple[NameRef, ...] = Field(default=(), max_length=16)
    resources: Resources | None = Field(default=None, description="Of the pods that work, instead of the operator's.")
    extra_env: tuple[Variable, ...] = Field(
        default=(),
        max_length=64,
        description="Some of TESTBENCH_… and OTEL_RESOURCE_ATTRIBUTES, by value and without a $.",
    )

    @model_validator(mode="before")
    @classmethod
    def _says_what_it_refuses(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        known = cls.known_keys()
        if others := sorted(str(key) for key in data if key not in known):
            taken = ", ".join(str(field.alias) for field in cls.model_fields.values())
            raise ValueError(f"{', '.join(others)} cannot be set by a job, only {taken}")
        return data
