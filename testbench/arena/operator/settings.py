"""What the person who deploys the operator decides, for all jobs alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from testbench.arena.operator.kinds import Json

DEFAULT_IMAGE: Final = "ghcr.io/agentic-layer/testbench/testworkflows:latest"
WORKER_ENVIRONMENT: Final = "arena-worker"
"""The ConfigMap and the Secret of a job's namespace whose keys are variables of every worker; neither has to exist."""


def _resources() -> Json:
    return {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}


@dataclass(frozen=True)
class Settings:
    """Times are in seconds."""

    image: str = DEFAULT_IMAGE
    image_pull_policy: str = "IfNotPresent"
    service_account: str = "default"
    """Of the workers, who get no token of it; it matters where a cloud hands out storage rights by it."""
    resources: Json = field(default_factory=_resources)
    """Of every container."""
    cross_namespace: bool = False
    """Whether a job may use Providers of other namespaces. Their Secrets are copied into the job's."""
    retries: int = 3
    """Of an index, and of a Job of one pod that can take up its work again."""
    requests_per_worker: int = 100
    """Requests a second that one worker of a load test is given, where the manifest leaves the number open."""
    gang_timeout_s: float = 300
    """All workers of a load test have to be ready within it."""
    start_lead_s: float = 120
    """From the moment they are ready to the common start: a kubelet takes up to 90 s to hand on a changed volume."""
    reference_poll_s: float = 15
    status_interval_s: float = 5
    """Between two writes of a status in which only numbers changed."""
    resync_s: float = 60
    """Every running job is looked at this often, whatever the watches say."""
