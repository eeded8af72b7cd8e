"""Builds the pod template of every phase of a run: command, files, and no right that `restricted` does not give.

    /etc/arena/run/manifest.json     the job and the resources that it refers to
    /etc/arena/source/               the bundle, of a ConfigMap; /var/arena/source/ where it is fetched first
    /etc/arena/credentials/<namespace>_<provider>/<key>, /etc/arena/credentials/output/<key>
    /etc/arena/start/start.json      when the workers of a load test begin
    /var/arena/output/               the claim, or a volume of the pod where nothing is to be kept

Secrets and the bundle are mounted as optional: a pod that misses one reports that and fails, where one that Kubernetes
keeps waiting would report nothing. A job's `podOverrides` are added to what is here and take nothing of it away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from testbench.arena.bundle.archive import SUFFIXES
from testbench.arena.cluster.api import Json
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.manifest.pod_overrides import PodOverrides
from testbench.arena.operator.metadata import build_labels, name_copied_secret, name_run_config, name_start_config
from testbench.arena.operator.observed import Run
from testbench.arena.operator.references import BundleSource, MountedSecret
from testbench.arena.operator.settings import WORKER_ENVIRONMENT, OperatorSettings
from testbench.arena.stores import name_run_folder

MANIFEST: Final = "/etc/arena/run/manifest.json"
CREDENTIALS: Final = "/etc/arena/credentials"
SOURCE: Final = "/etc/arena/source"
FETCHED: Final = "/var/arena/source"
START: Final = "/etc/arena/start/start.json"
OUTPUT: Final = "/var/arena/output"
TMP: Final = "/tmp"  # noqa: S108  # a volume of the pod's own  # nosec B108
TERMINATION: Final = "/dev/termination-log"
INDEX: Final = "$(JOB_COMPLETION_INDEX)"
"""Kubernetes puts the number of the pod's index here."""
GRACE_S: Final = 60
"""Seconds to finish or give up the item in flight, and to write what is done."""
USER: Final = 10001
PLACEMENT: Final = {
    *("node_selector", "tolerations", "affinity", "topology_spread_constraints"),
    *("priority_class_name", "image_pull_secrets"),
}
"""The keys of `podOverrides` that a pod has under the same name."""
WORKING: Final = ("work", "run-all")
"""Phases whose container gets the resources that a job asks for; a plan and a reducer need what they need."""


@dataclass(frozen=True)
class Task:
    """One phase as a command: `plan-run`, `work`, `reduce` or `run-all`, and its own arguments.

    `items` is how many results it has in memory at once, where those are many.
    """

    phase: str
    arguments: tuple[str, ...] = ()
    waits_for_start: bool = False
    items: int = 0


def build_pod_template(job: ArenaJob, run: Run, task: Task, settings: OperatorSettings) -> Json:
    """Return the template of a phase's pods."""
    setup = run.setup
    volumes, mounts = _build_volumes(job, run, task)
    fetch = [_build_fetch_container(setup.source, settings)] if setup.source.url else []
    overrides = job.spec.workers.pod_overrides or PodOverrides()
    annotations = {"annotations": dict(overrides.annotations)} if overrides.annotations else {}
    return {
        "metadata": {"labels": {**overrides.labels, **build_labels(job, task.phase)}, **annotations},
        "spec": {
            **_build_placement(overrides),
            "restartPolicy": "Never",
            "serviceAccountName": settings.service_account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_S,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **({"initContainers": fetch} if fetch else {}),
            "containers": [
                _override(_build_container(task, _build_command(job, run, task), mounts, settings), task, overrides)
                | {
                    "envFrom": [
                        {"configMapRef": {"name": WORKER_ENVIRONMENT, "optional": True}},
                        {"secretRef": {"name": WORKER_ENVIRONMENT, "optional": True}},
                    ]
                }
            ],
            "volumes": volumes,
        },
    }


def find_output_folder(job: ArenaJob) -> str | None:
    """Return the folder where pods write results, if it is one: in the claim, or in a volume of the pod's own."""
    output = job.spec.output
    if output is None:
        return OUTPUT
    if output.pvc is None:
        return None
    return "/".join([OUTPUT, *(part for part in output.pvc.sub_path.split("/") if part)])


def build_result_url(run: Run, url: str | None) -> str | None:
    """Return the address of the results that a status shows; what is in a claim is named `pvc://claim/path`."""
    job, output = run.manifest, run.manifest.spec.output
    if url is None or output is None:
        return None
    if output.pvc is None:
        return url
    below = [part for part in output.pvc.sub_path.split("/") if part]
    folder = name_run_folder(job.metadata.namespace, job.metadata.name, run.id)
    return "/".join([f"pvc://{output.pvc.claim_name}", *below, folder])


def _build_command(job: ArenaJob, run: Run, task: Task) -> list[str]:
    source = _name_archive(run.setup.source) if run.setup.source.url else SOURCE
    folder = find_output_folder(job)
    return [
        "python3", "-m", "testbench", "arena", task.phase, MANIFEST,
        "--run-id", run.id,
        "--source", source,
        *(["--output", folder] if folder else []),
        *(["--credentials", CREDENTIALS] if run.setup.credentials else []),
        "--termination-message", TERMINATION,
        *task.arguments,
    ]  # fmt: skip


def _build_container(task: Task, command: Sequence[str], mounts: Sequence[Json], settings: OperatorSettings) -> Json:
    return {
        "name": task.phase,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": list(command),
        "env": [{"name": "HOME", "value": TMP}, {"name": "TESTBENCH_LOG_FORMAT", "value": "json"}],
        "resources": settings.resources_for(task.items),
        "terminationMessagePath": TERMINATION,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": list(mounts),
    }


def _build_placement(overrides: PodOverrides) -> Json:
    """Return where the pods of a job may run, their priority, and by which Secrets their image is pulled."""
    content = overrides.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        include=PLACEMENT,
    )
    return {name: value for name, value in content.items() if value}


def _override(container: Json, task: Task, overrides: PodOverrides) -> Json:
    """Return the container with the job's resources and variables, which replace the operator's of the same name."""
    variables = {variable["name"]: variable for variable in container["env"]}
    variables |= {variable.name: {"name": variable.name, "value": variable.value} for variable in overrides.extra_env}
    changed = container | {"env": list(variables.values())}
    if overrides.resources is not None and task.phase in WORKING:
        changed["resources"] = overrides.resources.model_dump(mode="json", exclude_defaults=True)
    return changed


def _build_fetch_container(source: BundleSource, settings: OperatorSettings) -> Json:
    command = ["python3", "-m", "testbench.arena.operator.fetch", str(source.url), str(source.checksum)]
    mounts = [{"name": "tmp", "mountPath": TMP}, {"name": "source", "mountPath": FETCHED}]
    return _build_container(Task("fetch"), [*command, _name_archive(source), TERMINATION], mounts, settings)


def _name_archive(source: BundleSource) -> str:
    """Return the path of the archive; its suffix tells its format."""
    path = urlsplit(source.url or "").path.lower()
    return f"{FETCHED}/bundle{next((suffix for suffix in SUFFIXES if path.endswith(suffix)), SUFFIXES[0])}"


def _build_volumes(job: ArenaJob, run: Run, task: Task) -> tuple[list[Json], list[Json]]:
    """Return the volumes and their mounts. Everything that is not a result is read-only."""
    volumes: list[Json] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[Json] = [{"name": "tmp", "mountPath": TMP}]

    def add(name: str, path: str, volume: dict[str, Any], *, writable: bool = False) -> None:
        volumes.append({"name": name, **volume})
        mounts.append({"name": name, "mountPath": path} | ({} if writable else {"readOnly": True}))

    items = [{"key": "manifest.json", "path": "manifest.json"}]
    add("run", MANIFEST.rpartition("/")[0], {"configMap": {"name": name_run_config(job.metadata.name), "items": items}})
    source = run.setup.source
    if source.url:
        add("source", FETCHED, {"emptyDir": {}})
    else:
        files = [{"key": file.key, "path": file.path} for file in source.files]
        add("source", SOURCE, {"configMap": {"name": source.config_map, "items": files, "optional": True}})
    if run.setup.credentials:
        secrets = [_build_secret_source(job, mounted) for mounted in run.setup.credentials]
        add("credentials", CREDENTIALS, {"projected": {"sources": secrets, "defaultMode": 0o440}})
    if task.waits_for_start:
        start = {"name": name_start_config(job.metadata.name), "optional": True}
        add("start", START.rpartition("/")[0], {"configMap": start})
    if find_output_folder(job):
        claim = job.spec.output.pvc if job.spec.output else None
        kept = {"persistentVolumeClaim": {"claimName": claim.claim_name}} if claim else {"emptyDir": {}}
        add("output", OUTPUT, kept, writable=True)
    return volumes, mounts


def _build_secret_source(job: ArenaJob, mounted: MountedSecret) -> Json:
    """Return the source of a projected volume: keys of a Secret as files of their folder."""
    name = mounted.secret or name_copied_secret(job.metadata.name, mounted.folder)
    items = [{"key": key, "path": f"{mounted.folder}/{key}"} for key in mounted.keys]
    return {"secret": {"name": name, "optional": True, "items": items}}
