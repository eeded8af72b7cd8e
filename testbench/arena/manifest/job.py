"""The ArenaJob as a user writes it: `omnia.altairalabs.ai/v1alpha1`, every field with its default and its rule.

Read by `testbench.arena.manifest.documents`; `testbench.arena.manifest.crd` makes the CustomResourceDefinition of these
models. Fields marked as extensions come from later versions of the resource, so that a manifest of either dialect runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    field_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel

from testbench.arena.manifest.fields import (
    Count,
    CountOrZero,
    Flag,
    ManifestModel,
    NameRef,
    ResourceName,
    ShortText,
    rules,
)
from testbench.arena.manifest.pod_overrides import PodOverrides

EXACTLY_ONE_ENTRY: Final = "exactly one of providerRef or agentRef must be set"
ARENA_FILE: Final = "config.arena.yaml"
JUDGE_GROUP: Final = "judge"
"""Never under test: its first entry judges."""
SELFPLAY_GROUP: Final = "selfplay"
"""Plays the users; with no other group under test, each of its entries meets every other."""

JobType = Literal["evaluation", "loadtest", "datagen"]
OutputFormat = Literal["junit", "json", "csv"]
DataFormat = Literal["json", "jsonl", "csv"]
ConcurrencyPolicy = Literal["Allow", "Forbid", "Replace"]
JobPhase = Literal["Pending", "Running", "Succeeded", "Failed", "Cancelled"]

_UNITS: Final = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
# so few digits that the API server's 64-bit nanoseconds hold every one of them, and none below a microsecond
_DURATION_PART: Final = r"([0-9]{1,9}(\.[0-9]{1,3})?(ms|s)|[0-9]{1,5}(\.[0-9]{1,3})?(m|h))"
DURATION_PATTERN: Final = rf"^{_DURATION_PART}{{1,4}}$"
LIMIT_PATTERN: Final = rf"^([0-9]+(\.[0-9]+)?|{_DURATION_PART}{{1,4}})$"
COST_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?$"


def _parse_exact_seconds(duration: str) -> Fraction:
    return sum((Fraction(number) * _UNITS[unit] for number, unit in _DURATION.findall(duration)), Fraction(0))


def parse_seconds(duration: str) -> float:
    """Return the seconds of a duration such as `90s`, `5m` or `1h30m`."""
    return float(_parse_exact_seconds(duration))


def _check_positive(duration: str) -> str:
    if _parse_exact_seconds(duration) <= 0:
        raise ValueError("a duration above 0 is needed")
    return duration


Duration: TypeAlias = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=64)]
PositiveDuration: TypeAlias = Annotated[Duration, AfterValidator(_check_positive)]
Glob: TypeAlias = Annotated[str, Field(min_length=1, max_length=512)]


class Metadata(ManifestModel):
    """What of a resource's metadata matters here; the rest is kept."""

    model_config = ConfigDict(frozen=True, extra="allow", alias_generator=to_camel, populate_by_name=True)

    name: ResourceName
    namespace: ResourceName = "default"
    uid: str | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class NamespacedRef(ManifestModel):
    """A resource, of the job's namespace unless it names another."""

    name: ResourceName
    namespace: ResourceName | None = None


class ScenarioFilter(ManifestModel):
    """Glob patterns over the scenarios' paths; without `include` all are in."""

    include: tuple[Glob, ...] = Field(default=(), max_length=256)
    exclude: tuple[Glob, ...] = Field(default=(), max_length=256)


class EvaluationJobSettings(ManifestModel):
    """Settings of evaluation jobs."""

    output_formats: tuple[OutputFormat, ...] = Field(
        default=(), max_length=16, description="Further formats beside the report."
    )


LIMIT_OF_ITS_KIND: Final = "only latency and ttft thresholds are durations"
_LIMIT_RULE: Final = (
    "self.metric.startsWith('latency_') || self.metric.startsWith('ttft_') || !self.value.matches('[a-z]')"
)


class LoadThreshold(ManifestModel):
    """A limit that the load test must keep; what cannot be measured is missed (an extension).

    `value` is a number, or for latencies a duration such as `800ms`.
    """

    model_config = ConfigDict(json_schema_extra=rules((_LIMIT_RULE, LIMIT_OF_ITS_KIND)))

    metric: Literal[
        "latency_avg", "latency_p50", "latency_p90", "latency_p95", "latency_p99",
        "ttft_avg", "ttft_p50", "ttft_p90", "ttft_p95", "ttft_p99",
        "error_rate", "pass_rate", "total_cost", "rate_limit_rate",
    ]  # fmt: skip
    operator: Literal["<", ">", "<=", ">="]
    value: str = Field(max_length=64, pattern=LIMIT_PATTERN)

    @model_validator(mode="after")
    def _durations_limit_durations(self) -> Self:
        if not self.metric.startswith(("latency_", "ttft_")) and self.value[-1].isalpha():
            raise ValueError(LIMIT_OF_ITS_KIND)
        return self


class LoadRamp(ManifestModel):
    """How the number of virtual users grows and shrinks (an extension)."""

    up: Duration | None = None
    down: Duration | None = None


RAMP_FITS: Final = "rampUp is longer than duration"


class LoadTestSettings(ManifestModel):
    """Settings of load tests: requests arrive on schedule, whatever the answers do."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("duration(self.rampUp) <= duration(self.duration)", RAMP_FITS),
            ("duration(self.duration) > duration('0s')", "duration must be above 0"),
        )
    )

    ramp_up: Duration = Field(default="30s", description="Time in which the rate grows to the target.")
    duration: PositiveDuration = Field(default="5m", description="The whole test, ramp included.")
    target_rps: Count | None = Field(
        default=None, alias="targetRPS", description="Requests a second; without it each worker keeps one in flight."
    )
    thresholds: tuple[LoadThreshold, ...] = Field(
        default=(), max_length=64, description="Limits that must hold (an extension)."
    )
    budget_limit: str | None = Field(
        default=None, max_length=32, pattern=COST_PATTERN, description="Cost in USD that ends the test (an extension)."
    )
    budget_currency: Literal["USD"] = Field(default="USD", description="Of budgetLimit (an extension).")
    concurrency: Count | None = Field(default=None, description="Requests in flight at most (an extension).")
    vus_per_worker: Count | None = Field(default=None, description="Virtual users of each worker (an extension).")
    ramp: LoadRamp | None = None

    @model_validator(mode="after")
    def _ramp_fits_into_the_test(self) -> Self:
        if _parse_exact_seconds(self.ramp_up) > _parse_exact_seconds(self.duration):
            raise ValueError(RAMP_FITS)
        return self


class DataGenSettings(ManifestModel):
    """Settings of data generation."""

    count: Count = 100
    format: DataFormat = "jsonl"


MIN_ABOVE_MAX: Final = "minReplicas is greater than maxReplicas"


class Workers(ManifestModel):
    """How many pods work; with `maxReplicas` their number grows from `minReplicas`."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
                MIN_ABOVE_MAX,
            )
        )
    )

    replicas: Count = 1
    min_replicas: Count | None = None
    max_replicas: Count | None = None
    pod_overrides: PodOverrides | None = Field(default=None, description="What is added to the pods (an extension).")

    @model_validator(mode="after")
    def _at_least_is_at_most(self) -> Self:
        if self.max_replicas is not None and (self.min_replicas or 1) > self.max_replicas:
            raise ValueError(MIN_ABOVE_MAX)
        return self

    @property
    def most(self) -> int:
        """How many workers run at once at most."""
        return self.max_replicas or max(self.replicas, self.min_replicas or 1)

    @property
    def fewest(self) -> int:
        """How many workers there are at the beginning."""
        if self.max_replicas is None:
            return self.most
        return min(self.min_replicas or self.replicas, self.max_replicas)


class ProviderEntry(ManifestModel):
    """A model or an agent: exactly one of both."""

    model_config = ConfigDict(
        json_schema_extra=rules(("has(self.providerRef) != has(self.agentRef)", EXACTLY_ONE_ENTRY))
    )

    provider_ref: NamespacedRef | None = None
    agent_ref: NameRef | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.provider_ref is None) == (self.agent_ref is None):
            raise ValueError(EXACTLY_ONE_ENTRY)
        return self

    @property
    def name(self) -> str:
        """The name of the resource it refers to, with its namespace where it names one."""
        if self.provider_ref is not None:
            ref = self.provider_ref
            return f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
        return self.agent_ref.name if self.agent_ref is not None else ""


class IdentifiedEntry(ProviderEntry):
    """An entry of a group that is a map: its key is the id by which the arena file knows the provider."""

    id: str = Field(min_length=1, max_length=253)


_BY_ID: Final = TypeAdapter(Mapping[Annotated[str, Field(min_length=1, max_length=253)], ProviderEntry])


def _entries_of(group: Any) -> Any:
    """Return a map from ids as the list of its entries, each with its id."""
    if not isinstance(group, Mapping):
        return group
    entries = _BY_ID.validate_python(group, by_alias=True, by_name=False)
    return [IdentifiedEntry(**dict(entry), id=name) for name, entry in entries.items()]


Group: TypeAlias = Annotated[tuple[ProviderEntry, ...], Field(max_length=64), BeforeValidator(_entries_of)]


class S3Output(ManifestModel):
    """A bucket of any store that speaks S3."""

    bucket: str = Field(min_length=1, max_length=255)
    prefix: str = Field(default="", max_length=900)
    region: ShortText | None = None
    endpoint: ShortText | None = None
    secret_ref: NameRef | None = Field(default=None, description="Keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")


OUTSIDE: Final = "a subPath with .. would lead out of the claim"


def _check_sub_path(path: str) -> str:
    if ".." in path:
        raise ValueError(OUTSIDE)
    return path


class PvcOutput(ManifestModel):
    """A PersistentVolumeClaim of the job's namespace."""

    claim_name: ResourceName
    sub_path: Annotated[str, AfterValidator(_check_sub_path)] = Field(
        default="", max_length=900, json_schema_extra=rules(("!self.contains('..')", OUTSIDE))
    )


OUTPUT_OF_ITS_TYPE: Final = "output.type needs the settings of its own type, s3 or pvc, and no others beside them"
_OUTPUT_RULE: Final = "self.type == 's3' ? (has(self.s3) && !has(self.pvc)) : (has(self.pvc) && !has(self.s3))"


class Output(ManifestModel):
    """Where results are kept."""

    model_config = ConfigDict(json_schema_extra=rules((_OUTPUT_RULE, OUTPUT_OF_ITS_TYPE)))

    type: Literal["s3", "pvc"]
    s3: S3Output | None = None
    pvc: PvcOutput | None = None

    @model_validator(mode="after")
    def _settings_of_its_type(self) -> Self:
        if (self.s3 is not None) != (self.type == "s3") or (self.pvc is not None) != (self.type == "pvc"):
            raise ValueError(OUTPUT_OF_ITS_TYPE)
        return self


class Schedule(ManifestModel):
    """When to run again and again."""

    cron: str = Field(min_length=9, max_length=128, description="Five fields: minute hour day month weekday.")
    timezone: str = Field(default="UTC", min_length=1, max_length=64)
    concurrency_policy: ConcurrencyPolicy = "Forbid"


class ArenaJobSpec(ManifestModel):
    """What to run, on whom, with how many workers, and where the results go."""

    source_ref: NameRef
    arena_file: str = Field(
        default=ARENA_FILE, min_length=1, max_length=512, description="In the bundle (an extension)."
    )
    type: JobType = "evaluation"
    trials: Count = Field(default=1, description="Repetitions of every scenario (an extension).")
    scenarios: ScenarioFilter | None = None
    evaluation: EvaluationJobSettings | None = None
    load_test: LoadTestSettings | None = None
    data_gen: DataGenSettings | None = None
    workers: Workers = Workers()
    providers: Mapping[str, Group] | None = Field(
        default=None, max_length=32, description="Groups of entries; `judge` and `selfplay` have roles of their own."
    )
    tool_registries: tuple[NameRef, ...] = Field(default=(), max_length=64)
    output: Output | None = None
    schedule: Schedule | None = None
    ttl_seconds_after_finished: CountOrZero | None = None
    cancelled: Flag = Field(default=False, description="True: stop, and keep what is done (an extension).")
    verbose: Flag = Field(default=False, description="No effect: TESTBENCH_LOG_LEVEL decides (an extension).")
    session_recording: Flag = Field(default=False, description="Conversations are kept anyway (an extension).")

    @field_serializer("providers", mode="wrap")
    def _with_ids(self, groups: Mapping[str, Group] | None, dump: SerializerFunctionWrapHandler) -> Any:
        """Return the groups as they came: one that was a map is written as one."""
        dumped = dump(groups)
        for name, group in (groups or {}).items():
            if group and all(isinstance(entry, IdentifiedEntry) for entry in group):
                ids = (entry.id for entry in group if isinstance(entry, IdentifiedEntry))
                dumped[name] = dict(zip(ids, dumped[name], strict=True))
        return dumped


class ArenaJob(ManifestModel):
    """The whole resource as it is applied; `status` belongs to the operator and is not read from a manifest."""

    api_version: Literal["omnia.altairalabs.ai/v1alpha1"]
    kind: Literal["ArenaJob"]
    metadata: Metadata
    spec: ArenaJobSpec
    status: Mapping[str, Any] | None = None
