"""Sessions on Kubernetes: one Job that serves, and that ends by itself whoever is dead by then."""

from __future__ import annotations

from dyff_dagster.sessions.kubernetes.batch import BatchEnd, Mount
from dyff_dagster.sessions.kubernetes.cluster import Cluster
from dyff_dagster.sessions.kubernetes.errors import ApiError, KubernetesError
from dyff_dagster.sessions.kubernetes.listing import ClusterSession
from dyff_dagster.sessions.kubernetes.planning import ModelFiles, Owner
from dyff_dagster.sessions.kubernetes.settings import KubernetesSettings, StepPods

__all__ = [
    "ApiError",
    "BatchEnd",
    "Cluster",
    "ClusterSession",
    "KubernetesError",
    "KubernetesSettings",
    "ModelFiles",
    "Mount",
    "Owner",
    "StepPods",
]
