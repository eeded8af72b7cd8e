"""What the person who deploys the operator decides, for all jobs alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from testbench.arena.cluster.api import Json
from testbench.arena.load.arrivals import PER_WORKER_RPS

DEFAULT_IMAGE: Final = "ghcr.io/agentic-layer/testbench/testworkflows:latest"
WORKER_ENVIRONMENT: Final = "arena-worker"
"""The ConfigMap and the Secret of a job's namespace whose keys are variables of every worker; neither has to exist."""


@dataclass(frozen=True)
class Settings:
    """Times are in seconds."""

    image: str = DEFAULT_IMAGE
    image_pull_policy: str = "IfNotPresent"
    service_account: str = "default"
    """Of the workers, who get no token of it; it matters where a cloud hands out storage rights by it."""
    resources: Json | None = None
    """Of every container; None: what `resources_for` says."""
    cross_namespace: bool = False
    """Whether a job may use Providers of other namespaces. Their Secrets are copied into the job's."""
    retries: int = 3
    """Of an index, and of a Job of one pod that can take up its work again."""
    requests_per_worker: int = PER_WORKER_RPS
    """Requests a second that one worker of a load test is given, where the manifest leaves the number open."""
    gang_timeout_s: float = 300
    """All workers of a load test have to be ready within it."""
    start_lead_s: float = 120
    """From the moment they are ready to the common start: a kubelet takes up to 90 s to hand on a changed volume."""
    reference_poll_s: float = 15
    status_interval_s: float = 5
    """Between two writes of a status in which only numbers changed."""
    resync_s: float = 60
    """Every job is looked at this often until it has ended, whatever the watches say."""
    silence_s: float = 600
    """Without a word of the API server the process is unwell, and Kubernetes begins it anew."""
    calm_s: float = 0.5
    """Between two looks at the same job, however much happens to it."""
    backoff_s: float = 1
    """After a first failure; it doubles with each further one, up to a minute."""

    def resources_for(self, items: int) -> Json:
        """Of a container that holds so many results in memory at once: 19 KiB each were measured, 40 are given."""
        limit = max(2048, 1024 + items * 40 // 1024)
        default = {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": f"{limit}Mi"}}
        return default if self.resources is None else self.resources
