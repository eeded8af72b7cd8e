"""What the API server does with a batch/v1 Job and with pod templates: defaults, validation, and what may not change.

Source of the rules: the Job validation of Kubernetes 1.37; `tests_cluster` puts the same objects to a real server.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any, Final

from tests.support.cluster.failures import Cause
from tests.support.cluster.objects import Json

INDEXED: Final = "Indexed"
UNLIMITED: Final = 2**31 - 1
MAX_PARALLELISM: Final = 100_000
MAX_RULES: Final = 20
MAX_EXIT_CODES: Final = 255
DNS_LABEL: Final = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
LABEL_VALUE: Final = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
CONTROLLER_UID: Final = "batch.kubernetes.io/controller-uid"
JOB_NAME: Final = "batch.kubernetes.io/job-name"
_LEGACY: Final = ("controller-uid", "job-name")
_IMMUTABLE: Final = (
    "selector", "template", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "manualSelector",
    "podReplacementPolicy", "managedBy", "successPolicy",
)  # fmt: skip
_COUNTS: Final = (
    "parallelism", "completions", "backoffLimit", "backoffLimitPerIndex", "maxFailedIndexes", "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
)  # fmt: skip


def complete_job(job: Json) -> Json:
    """The Job with the defaults and with the selector and labels that the server makes of its uid."""
    spec = job["spec"]
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", UNLIMITED if "backoffLimitPerIndex" in spec else 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    for rule in spec.get("podFailurePolicy", {}).get("rules", ()):
        for condition in rule.get("onPodConditions", ()):
            condition.setdefault("status", "True")
    template = spec.setdefault("template", {})
    complete_pod(template.setdefault("spec", {}))
    if not spec["manualSelector"]:
        uid, name = job["metadata"]["uid"], job["metadata"]["name"]
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels.update({CONTROLLER_UID: uid, JOB_NAME: name, _LEGACY[0]: uid, _LEGACY[1]: name})
        spec.setdefault("selector", {"matchLabels": {CONTROLLER_UID: uid}})
        job["metadata"].setdefault("labels", copy.deepcopy(labels))
    return job


def complete_pod(spec: Json) -> Json:
    """A pod's spec with defaults."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    for container in [*spec.get("initContainers", ()), *spec.get("containers", ())]:
        latest = "@" not in container.get("image", "") and container.get("image", "").rpartition(":")[2] == "latest"
        tagged = ":" in container.get("image", "").rpartition("/")[2]
        container.setdefault("imagePullPolicy", "IfNotPresent" if tagged and not latest else "Always")
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        for variable in container.get("env", ()):
            if field := variable.get("valueFrom", {}).get("fieldRef"):
                field.setdefault("apiVersion", "v1")
    for volume in spec.get("volumes", ()):
        for kind in ("configMap", "secret", "projected", "downwardAPI"):
            if kind in volume:
                volume[kind].setdefault("defaultMode", 0o644)
    return spec


def wrong_job(job: Json) -> Iterator[Cause]:
    """Everything that a new Job may not say."""
    spec, name = job["spec"], job["metadata"]["name"]
    indexed, per_index = spec["completionMode"] == INDEXED, "backoffLimitPerIndex" in spec
    for field in _COUNTS:
        if spec.get(field, 0) < 0:
            yield _bad(f"spec.{field}", spec[field], "must be greater than or equal to 0")
    if spec["completionMode"] not in (INDEXED, "NonIndexed"):
        yield _unknown("spec.completionMode", spec["completionMode"], (INDEXED, "NonIndexed"))
    if indexed and "completions" not in spec:
        yield Cause("FieldValueRequired", "spec.completions", f"Required value: when completion mode is {INDEXED}")
    if indexed and spec["parallelism"] > MAX_PARALLELISM:
        yield _bad("spec.parallelism", spec["parallelism"], f"must be less than or equal to {MAX_PARALLELISM} when "
                   f"completion mode is {INDEXED}")  # fmt: skip
    if indexed and not DNS_LABEL.match(f"{name}-{max(spec.get('completions', 1) - 1, 0)}"):
        yield _bad("metadata.name", name, "will not able to create pod with invalid DNS label: "
                   f"{name}-{spec.get('completions', 1) - 1}")  # fmt: skip
    if per_index and not indexed:
        yield _bad("spec.backoffLimitPerIndex", spec["backoffLimitPerIndex"], "requires indexed completion mode")
    if "maxFailedIndexes" in spec and not per_index:
        yield Cause("FieldValueRequired", "spec.backoffLimitPerIndex", "Required value: when maxFailedIndexes is "
                    "specified")  # fmt: skip
    if "maxFailedIndexes" in spec and spec["maxFailedIndexes"] > spec.get("completions", UNLIMITED):
        yield _bad("spec.maxFailedIndexes", spec["maxFailedIndexes"], "must be less than or equal to "
                   f"{spec['completions']}")  # fmt: skip
    yield from _wrong_restart(spec)
    yield from wrong_pod(spec["template"]["spec"], "spec.template.spec", job_template=True)
    yield from wrong_labels(spec["template"].get("metadata", {}).get("labels", {}), "spec.template.labels")
    yield from _wrong_policy(spec)


def _wrong_restart(spec: Json) -> Iterator[Cause]:
    place, policy = "spec.template.spec.restartPolicy", spec["template"]["spec"].get("restartPolicy")
    if policy not in ("OnFailure", "Never"):
        yield Cause("FieldValueRequired", place, 'Required value: valid values: "OnFailure", "Never"')
    elif policy != "Never" and "podFailurePolicy" in spec:
        yield _bad(place, policy, 'only "Never" is supported when podFailurePolicy is specified')


def _wrong_policy(spec: Json) -> Iterator[Cause]:
    replacement = spec["podReplacementPolicy"]
    known = ("Failed",) if "podFailurePolicy" in spec else ("Failed", "TerminatingOrFailed")
    if replacement not in known:
        yield _unknown("spec.podReplacementPolicy", replacement, known)
    rules = spec.get("podFailurePolicy", {}).get("rules", ())
    if len(rules) > MAX_RULES:
        yield Cause("FieldValueTooMany", "spec.podFailurePolicy.rules",
                    f"Too many: {len(rules)}: must have at most {MAX_RULES} items")  # fmt: skip
    for at, rule in enumerate(rules):
        yield from _wrong_rule(rule, f"spec.podFailurePolicy.rules[{at}]", spec)


def _wrong_rule(rule: Json, place: str, spec: Json) -> Iterator[Cause]:
    actions = ("Count", "FailIndex", "FailJob", "Ignore")
    if rule.get("action") not in actions:
        yield _unknown(f"{place}.action", rule.get("action", ""), actions)
    if rule.get("action") == "FailIndex" and "backoffLimitPerIndex" not in spec:
        yield _bad(f"{place}.action", "FailIndex", "requires the backoffLimitPerIndex to be set")
    codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
    if codes and conditions:
        yield _bad(place, "", "specifying both OnExitCodes and OnPodConditions is not supported")
    elif not codes and not conditions:
        yield _bad(place, "", "specifying one of OnExitCodes and OnPodConditions is required")
    if codes:
        yield from _wrong_codes(codes, f"{place}.onExitCodes", spec)
    for number, condition in enumerate(conditions or ()):
        if condition["status"] not in ("True", "False", "Unknown"):
            place_of = f"{place}.onPodConditions[{number}].status"
            yield _unknown(place_of, condition["status"], ("False", "True", "Unknown"))


def _wrong_codes(codes: Json, place: str, spec: Json) -> Iterator[Cause]:
    operator, values = codes.get("operator"), codes.get("values", [])
    if operator not in ("In", "NotIn"):
        yield _unknown(f"{place}.operator", operator or "", ("In", "NotIn"))
    if not values:
        yield _bad(f"{place}.values", values, "at least one value is required")
    if len(values) > MAX_EXIT_CODES:
        yield Cause("FieldValueTooMany", f"{place}.values", f"Too many: {len(values)}: must have at most "
                    f"{MAX_EXIT_CODES} items")  # fmt: skip
    if values != sorted(values):
        yield _bad(f"{place}.values", values, "must be ordered")
    for at, value in enumerate(values):
        if value == 0 and operator == "In":
            yield _bad(f"{place}.values[{at}]", 0, "must not be 0 for the In operator")
        if value in values[:at]:
            yield Cause("FieldValueDuplicate", f"{place}.values[{at}]", f"Duplicate value: {value}")
    template = spec["template"]["spec"]
    names = [one.get("name") for one in [*template.get("containers", ()), *template.get("initContainers", ())]]
    if "containerName" in codes and codes["containerName"] not in names:
        yield _bad(f"{place}.containerName", codes["containerName"], "must be one of the container or initContainer "
                   "names in the pod template")  # fmt: skip


def wrong_pod(spec: Json, place: str, *, job_template: bool = False) -> Iterator[Cause]:
    """Everything that a pod's spec may not say: names, volumes that nobody defines, privileges against each other."""
    if not spec.get("containers"):
        yield Cause("FieldValueRequired", f"{place}.containers", "Required value")
    if not job_template and spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        yield _unknown(f"{place}.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never"))
    volumes = [volume.get("name", "") for volume in spec.get("volumes", ())]
    for at, name in enumerate(volumes):
        if not DNS_LABEL.match(name):
            yield _bad(f"{place}.volumes[{at}].name", name, "a lowercase RFC 1123 label must consist of ...")
        if name in volumes[:at]:
            yield Cause("FieldValueDuplicate", f"{place}.volumes[{at}].name", f'Duplicate value: "{name}"')
    for list_name in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(list_name, ())):
            yield from _wrong_container(container, f"{place}.{list_name}[{at}]", volumes)


def _wrong_container(container: Json, place: str, volumes: list[str]) -> Iterator[Cause]:
    if not container.get("name"):
        yield Cause("FieldValueRequired", f"{place}.name", "Required value")
    elif not DNS_LABEL.match(container["name"]):
        yield _bad(f"{place}.name", container["name"], "a lowercase RFC 1123 label must consist of ...")
    if not container.get("image"):
        yield Cause("FieldValueRequired", f"{place}.image", "Required value")
    mounted: list[str] = []
    for at, mount in enumerate(container.get("volumeMounts", ())):
        if mount.get("name") not in volumes:
            yield Cause("FieldValueNotFound", f"{place}.volumeMounts[{at}].name", f'Not found: "{mount.get("name")}"')
        if mount.get("mountPath") in mounted:
            yield _bad(f"{place}.volumeMounts[{at}].mountPath", mount["mountPath"], "must be unique")
        mounted.append(mount.get("mountPath", ""))


def wrong_labels(labels: Json, place: str) -> Iterator[Cause]:
    """Label values that are too long or hold what no label may."""
    for value in labels.values():
        if isinstance(value, str) and not LABEL_VALUE.match(value):
            why = (
                "must be no more than 63 characters" if len(value) > 63 else "a valid label must be an empty string or"
            )
            yield _bad(place, value, why)


def changed_job(old: Json, new: Json) -> Iterator[Cause]:
    """What an update may not change; the completions of an Indexed Job go with its parallelism."""
    was, now = old["spec"], new["spec"]
    for field in _IMMUTABLE:
        if was.get(field) != now.get(field):
            yield _bad(f"spec.{field}", "", "field is immutable")
    if was.get("completions") != now.get("completions"):
        elastic = now.get("completionMode") == INDEXED and now.get("completions") == now.get("parallelism")
        if not elastic:
            yield _bad("spec.completions", now.get("completions"), "field is immutable")


def _bad(place: str, value: Any, why: str) -> Cause:
    said = f'"{value}"' if isinstance(value, str) else value
    return Cause("FieldValueInvalid", place, f"Invalid value: {said}: {why}")


def _unknown(place: str, value: Any, known: tuple[str, ...]) -> Cause:
    told = ", ".join(f'"{one}"' for one in known)
    return Cause("FieldValueNotSupported", place, f'Unsupported value: "{value}": supported values: {told}')
