"""The objects of a session, as the JSON that is sent: a Job that serves, and what belongs to it.

The Job is the object that spends the money, and it carries the deadline: ``activeDeadlineSeconds`` is a lease that
the run renews. Everything else names the Job as its owner and goes with it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dyff_dagster.schema.canonical import canonical_json, sha256_text
from dyff_dagster.sessions.kubernetes.api import Object
from dyff_dagster.sessions.kubernetes.hardware import Placement
from dyff_dagster.sessions.kubernetes.names import (
    ATTEMPT,
    CLIENT,
    ENTITY_ID,
    EXPIRES,
    FINGERPRINT,
    SERVICE_DIGEST,
    SESSION,
)
from dyff_dagster.sessions.kubernetes.runners import CODE, MODEL, Container
from dyff_dagster.sessions.kubernetes.settings import KubernetesSettings

SPARE = 16
"""Pods that may end with status 0, as servers do when they are told to, and are replaced: the kubelet reports a pod
that was evicted as succeeded where its server exits so (kubernetes/kubernetes#90636)."""
_SECONDS_AFTER_THE_JOB = 60

RESTRICTED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
    "runAsNonRoot": True,
}
"""What the Pod Security level "restricted" asks of a container:
https://kubernetes.io/docs/concepts/security/pod-security-standards/."""


@dataclass(frozen=True)
class ModelMount:
    """How a model's version gets into the pods.

    Attributes:
        claim: PersistentVolumeClaim that it lies on; None where ``files`` carry it.
        path: Of the version's directory within the volume.
        files: Its files by relative path, where they are few and small.
    """

    claim: str | None = None
    path: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class SessionPlan:
    """A session, before anything of it exists.

    Attributes:
        name: Of all of its objects.
        entity_id: Whose it is, for annotations and messages.
        labels: Of all of its objects.
        replicas: Pods that serve at once.
        container: What runs in each.
        placement: Where.
        memory: Limit of each replica, as a Kubernetes quantity.
        model: How the model gets in, where there is one.
        service_digest: Digest of all that decides what it answers.
        settings: The administrator's.
        nonce: What keeps other runs from taking it over, where they could not know its token; else empty.
    """

    name: str
    entity_id: str
    labels: Mapping[str, str]
    replicas: int
    container: Container
    placement: Placement
    memory: str
    model: ModelMount | None
    service_digest: str
    settings: KubernetesSettings
    nonce: str = ""

    @property
    def fingerprint(self) -> str:
        """Digest of what a Job must be to be taken over: the same pods, of the same service."""
        template = _pod_spec(self)
        return sha256_text(
            canonical_json([template, self.replicas, self.service_digest, self.nonce]).decode()
        )[:40]

    @property
    def files(self) -> dict[str, tuple[str, bytes]]:
        """What travels in the session's ConfigMap, by key: where it is mounted, and what it is."""
        found = {
            f"code-{n}": (f"code/{path}", data) for n, (path, data) in enumerate(self.container.files.items())
        }
        if self.model is not None:
            found |= {
                f"model-{n}": (f"model/{path}", data)
                for n, (path, data) in enumerate(self.model.files.items())
            }
        return found


def job(plan: SessionPlan, seconds: int, expires: str | None, attempt: str = "") -> Object:
    """The Job that serves, suspended where the server knows how to.

    Args:
        plan: The session.
        seconds: After which it ends by itself.
        expires: When it must have ended in any case, for people to read.
        attempt: What tells it from others of its name.
    """
    settings = plan.settings
    annotations = {
        ENTITY_ID: plan.entity_id,
        FINGERPRINT: plan.fingerprint,
        SERVICE_DIGEST: plan.service_digest,
        ATTEMPT: attempt,
    }
    if expires is not None:
        annotations[EXPIRES] = expires
    labels = dict(plan.labels)
    if plan.placement.queue is not None:
        labels["kueue.x-k8s.io/queue-name"] = plan.placement.queue
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": plan.name, "labels": labels, "annotations": annotations},
        "spec": {
            "suspend": True,
            "parallelism": plan.replicas,
            "completions": plan.replicas + SPARE,
            "backoffLimit": settings.crashes * plan.replicas,
            "activeDeadlineSeconds": seconds,
            "ttlSecondsAfterFinished": settings.keepFinished,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
                ]
            },
            "template": {
                "metadata": {
                    "labels": dict(plan.labels),
                    "annotations": {
                        ENTITY_ID: plan.entity_id,
                        # A session is short, and what its model takes to load is not: it is not moved for tidiness.
                        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                        "karpenter.sh/do-not-disrupt": "true",
                    },
                },
                "spec": _pod_spec(plan),
            },
        },
    }


def _pod_spec(plan: SessionPlan) -> Object:
    container, placement, settings = plan.container, plan.placement, plan.settings
    limits = {"memory": plan.memory, **placement.resources}
    writable = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the container
    ]
    volumes: list[Object] = [{"name": "tmp", "emptyDir": {}}]
    environment = {"HOME": "/tmp/home", "HF_HOME": "/tmp/huggingface", **container.environment}  # noqa: S108
    spec: Object = {
        **restricted_pod(settings),
        # The first process of a PID namespace ignores SIGTERM unless it handles it, and most servers' does not:
        # ending a session would always take its whole grace. In a shared one, the pause container is the first.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": settings.grace,
        # The Job's deadline is kept by the control plane, this one by the node itself, whoever else is away. It comes
        # later: before Kubernetes 1.22, a node never lets go of a pod that is deleted while its own deadline passes.
        "activeDeadlineSeconds": settings.maxLifetime + _SECONDS_AFTER_THE_JOB,
        "containers": [
            {
                "name": "service",
                "image": container.image,
                "imagePullPolicy": settings.imagePullPolicy,
                "args": list(container.args),
                "ports": [{"name": "http", "containerPort": container.port}],
                "env": [{"name": key, "value": value} for key, value in sorted(environment.items())],
                "resources": {
                    "requests": {"cpu": settings.cpu, "memory": plan.memory, **placement.resources},
                    "limits": limits,
                },
                "securityContext": {**RESTRICTED, "readOnlyRootFilesystem": container.read_only},
                "readinessProbe": _probe(container),
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": writable,
            }
        ],
        "volumes": volumes,
    }
    served = spec["containers"][0]
    if container.files:
        served["workingDir"] = CODE
    _mount_files(plan, served, volumes)
    if plan.model is not None and plan.model.claim is not None:
        volumes.append(
            {"name": "model", "persistentVolumeClaim": {"claimName": plan.model.claim, "readOnly": True}}
        )
        served["volumeMounts"].append(
            {"name": "model", "mountPath": MODEL, "subPath": plan.model.path, "readOnly": True}
        )
    if settings.tokenCheck:
        volumes.append({"name": "token", "secret": {"secretName": plan.name, "defaultMode": 0o440}})
        served["volumeMounts"].append({"name": "token", "mountPath": "/dyff/token", "readOnly": True})
        if container.token_variable is not None:
            reference = {"secretKeyRef": {"name": plan.name, "key": "token"}}
            served["env"].append({"name": container.token_variable, "valueFrom": reference})
    if container.shared_memory:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": settings.sharedMemory}})
        served["volumeMounts"].append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    optional = {
        "affinity": placement.affinity,
        "tolerations": placement.tolerations,
        "runtimeClassName": placement.runtime_class,
    }
    spec.update({key: value for key, value in optional.items() if value})
    if container.command:
        served["command"] = list(container.command)  # else the image's own
    return spec


def restricted_pod(settings: KubernetesSettings) -> Object:
    """Give what every pod of ours begins with: no rights on the cluster, no root, and the settings' place for it."""
    optional = {
        "nodeSelector": settings.nodeSelector,
        "priorityClassName": settings.priorityClass,
        "imagePullSecrets": [{"name": name} for name in settings.imagePullSecrets],
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": settings.user,
            "runAsGroup": settings.user,
            "fsGroup": settings.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **{key: value for key, value in optional.items() if value},
    }


def _mount_files(plan: SessionPlan, served: Object, volumes: list[Object]) -> None:
    """Code, and a small model, from the session's ConfigMap."""
    for name, at in (("code", CODE), ("model", MODEL)):
        items = [
            {"key": key, "path": path.removeprefix(f"{name}/")}
            for key, (path, _) in plan.files.items()
            if path.startswith(f"{name}/")
        ]
        if items:
            volumes.append(
                {"name": name, "configMap": {"name": plan.name, "items": items, "defaultMode": 0o444}}
            )
            served["volumeMounts"].append({"name": name, "mountPath": at, "readOnly": True})


def _probe(container: Container) -> Object:
    """When a replica counts as ready. Nothing is killed for not answering: a busy model is not a dead one."""
    if container.health is not None:
        check: Object = {"httpGet": {"path": container.health, "port": container.port}}
    else:
        check = {"tcpSocket": {"port": container.port}}
    return {**check, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 3}


def owned_by(made: Object) -> list[Object]:
    """An owner reference to a Job: what has it goes with the Job.

    Without ``blockOwnerDeletion``, which some clusters refuse to those who may not set the Job's finalizers.
    """
    return [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": made["metadata"]["name"],
            "uid": made["metadata"]["uid"],
        }
    ]


def _metadata(plan: SessionPlan, owner: Object) -> Object:
    return {"name": plan.name, "labels": dict(plan.labels), "ownerReferences": owned_by(owner)}


def secret(plan: SessionPlan, owner: Object, token: str) -> Object:
    """The session's token: the one place on the cluster where it stands."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": _metadata(plan, owner),
        "data": {"token": base64.b64encode(token.encode()).decode()},
    }


def config_map(plan: SessionPlan, owner: Object) -> Object:
    """The files that travel with the session."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(plan, owner),
        "binaryData": {key: base64.b64encode(data).decode() for key, (_, data) in plan.files.items()},
    }


def service(plan: SessionPlan, owner: Object) -> Object:
    """A headless Service: a name for all replicas that are ready, and none of them in the way of another."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(plan, owner),
        "spec": {
            "clusterIP": "None",
            "selector": {SESSION: plan.name},
            "ports": [{"name": "http", "port": plan.container.port, "targetPort": plan.container.port}],
        },
    }


def network_policy(plan: SessionPlan, owner: Object) -> Object:
    """Who may reach the session: those that are labelled as clients. What it may reach: the name service."""
    settings = plan.settings
    client: Object = {"podSelector": {"matchLabels": {CLIENT: "true"}}}
    if settings.clientNamespace is not None:
        client["namespaceSelector"] = {
            "matchLabels": {"kubernetes.io/metadata.name": settings.clientNamespace}
        }
    spec: Object = {
        "podSelector": {"matchLabels": {SESSION: plan.name}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [client], "ports": [{"protocol": "TCP", "port": plan.container.port}]}],
        "egress": [{"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}],
    }
    if settings.egress == "open" or plan.container.egress:
        spec["egress"] = [{}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(plan, owner),
        "spec": spec,
    }
