"""CustomResourceDefinitions: the resources that one defines, and the status that the server writes into it."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tests.support.cluster.objects import Column, Json, Resource, stamp

AGE: Final = Column("Age", "date", ".metadata.creationTimestamp")


def resources_of(definition: Json) -> list[Resource]:
    """One resource per served version."""
    spec = definition["spec"]
    names = spec["names"]
    return [
        Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec.get("scope", "Namespaced") == "Namespaced",
            short_names=tuple(names.get("shortNames", ())),
            categories=tuple(names.get("categories", ())),
            status="status" in version.get("subresources", {}),
            unconditional=False,
            counts=True,
            custom=True,
            singular=names.get("singular", names["kind"].lower()),
            schema=version["schema"]["openAPIV3Schema"],
            columns=_columns(version),
        )
        for version in spec["versions"]
        if version.get("served")
    ]


def established(definition: Json, at: datetime) -> Json:
    """The definition as the server completes it: names filled in, and a status that says it is served."""
    names = definition["spec"]["names"]
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    definition["spec"].setdefault("conversion", {"strategy": "None"})
    conditions = [
        {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": stamp(at)}
        for kind, reason, message in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]
    stored = [version["name"] for version in definition["spec"]["versions"] if version.get("storage")]
    definition["status"] = {"conditions": conditions, "acceptedNames": names, "storedVersions": stored}
    return definition


def _columns(version: Json) -> tuple[Column, ...]:
    said = tuple(
        Column(one["name"], one["type"], one["jsonPath"], one.get("priority", 0) > 0)
        for one in version.get("additionalPrinterColumns", ())
    )
    return said or (AGE,)
