"""The Kubernetes API as plain objects: the one module that knows the official client.

Objects go in and come out as the JSON that they are on the wire, with Kubernetes' own names. The client's model
classes differ from version to version (36 has plain classes, 37 pydantic models); JSON does not.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self

from dyff_dagster.sessions.kubernetes.errors import ApiError, KubernetesError

Object = dict[str, Any]
"""A Kubernetes object as it is on the wire."""

_ROOTS = {
    "jobs": "/apis/batch/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "pods": "/api/v1",
    "services": "/api/v1",
    "secrets": "/api/v1",
    "configmaps": "/api/v1",
    "events": "/api/v1",
    "persistentvolumeclaims": "/api/v1",
    "resourcequotas": "/api/v1",
}
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_SECONDS_TO_ANSWER = 30.0
_SECONDS_FOR_LOG = 5.0
"""The API server asks the pod's node for it, which may be lost; nothing else may wait for that."""
_MERGE = "application/strategic-merge-patch+json"

PATIENCE = 90.0
"""Seconds in which an API server that is restarted must be back."""


class KubernetesApi:
    """Calls to one namespace of one cluster.

    A call that fails because the server is away, or says that it has too much to do, is made again for a while.

    Args:
        client: ``kubernetes.client.ApiClient``.
        namespace: Whose objects are meant.
        patience: Seconds for which calls are made again.
        sleep: For tests.

    Attributes:
        calls: How many requests were sent.
    """

    def __init__(
        self,
        client: Any,
        namespace: str,
        patience: float = PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self.namespace = namespace
        self.patience = patience
        self._sleep = sleep
        self._skew: timedelta | None = None
        self.calls = 0

    @classmethod
    def connect(cls, *, namespace: str | None = None, context: str | None = None) -> Self:
        """Connect as the pod that this runs in may, or as the kubeconfig (KUBECONFIG, ``~/.kube/config``) says.

        Args:
            namespace: Default the pod's own, or the kubeconfig context's, or ``default``.
            context: Of the kubeconfig; default its current one.

        Raises:
            KubernetesError: There is neither, or it cannot be read.
        """
        try:
            from kubernetes import client, config
        except ImportError as error:
            raise KubernetesError(
                "sessions on Kubernetes need the package kubernetes: install dyff-dagster[kubernetes]"
            ) from error
        configuration = client.Configuration()
        # The library looks at the variable once, when it is imported.
        file = os.environ.get("KUBECONFIG") or None
        try:
            if context is None and _NAMESPACE_FILE.exists():
                config.load_incluster_config(client_configuration=configuration)
                namespace = namespace or _NAMESPACE_FILE.read_text("utf-8").strip()
            else:
                config.load_kube_config(file, context=context, client_configuration=configuration)
                if namespace is None:
                    contexts, active = config.list_kube_config_contexts(file)
                    chosen = next((c for c in contexts if c["name"] == context), active)
                    namespace = chosen["context"].get("namespace")
        except (config.ConfigException, OSError, TypeError, KeyError) as error:
            raise KubernetesError(
                f"there is no cluster to run sessions on ({_first_line(error)}): set KUBECONFIG to a kubeconfig file, "
                "or run in a pod with a service account"
            ) from None
        configuration.retries = False
        return cls(client.ApiClient(configuration), namespace or "default")

    def now(self) -> datetime:
        """The time by the API server's clock, which is what deadlines are measured by.

        Raises:
            ApiError: It was never asked anything before, and does not answer.
        """
        if self._skew is None:
            self.version()
        return datetime.now(UTC) + (self._skew or timedelta(0))

    def version(self) -> tuple[int, int]:
        """Major and minor version of the server."""
        found = self._call("GET", "/version")
        return int(re.sub(r"\D.*", "", found["major"])), int(re.sub(r"\D.*", "", found["minor"]))

    def get(self, kind: str, name: str) -> Object | None:
        """An object, or None where there is none of that name."""
        try:
            return self._call("GET", self._path(kind, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def find(self, kind: str, labels: str = "", fields: str = "") -> list[Object]:
        """Objects that a label selector and a field selector choose."""
        return list(self._list(kind, labels, fields)["items"])

    def create(self, kind: str, body: Object) -> Object:
        """Create an object.

        Raises:
            ApiError: With code ``AlreadyExists``, too: also where an earlier try, whose answer was lost, made it.
        """
        return self._call("POST", self._path(kind), body=body)

    def patch(self, kind: str, name: str, body: Object) -> Object:
        """Change some fields of an object (a strategic merge patch)."""
        return self._call("PATCH", self._path(kind, name), body=body, content=_MERGE)

    def delete(
        self,
        kind: str,
        name: str,
        *,
        uid: str | None = None,
        version: str | None = None,
        grace: int | None = None,
    ) -> bool:
        """Delete an object, and what it owns before it; whether there was one.

        Args:
            kind: Plural of its kind.
            name: Of the object.
            uid: Delete only the object that has it, not a later one of the same name.
            version: Delete it only as it was then (its ``resourceVersion``), not after somebody has changed it.
            grace: Seconds for its pods; default their own.
        """
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}
        wanted = {"uid": uid, "resourceVersion": version}
        if conditions := {key: value for key, value in wanted.items() if value is not None}:
            body["preconditions"] = conditions
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        try:
            self._call("DELETE", self._path(kind, name), body=body)
        except ApiError as error:
            if error.status == 404 or (error.status == 409 and bool(conditions)):
                return False
            raise
        return True

    def log(self, pod: str, container: str, most: int = 16 << 20) -> str:
        """The output of a pod's container; empty where it has none (any more).

        Args:
            pod: Its name.
            container: The container's.
            most: Bytes at most.
        """
        query = {"container": container, "limitBytes": str(most)}
        try:
            path = self._path("pods", pod) + "/log"
            response = self._request("GET", path, query, wait=_SECONDS_FOR_LOG, patience=_SECONDS_FOR_LOG)
        except ApiError as error:
            if error.status in (400, 404):
                return ""
            raise
        return str(response.data.decode("utf-8", "replace"))

    def watch(self, kind: str, labels: str, seconds: int = 60) -> Iterator[tuple[str, Object]]:
        """What is there, each as ``ADDED``, then ``SYNCED`` with nothing, then each change, for a while.

        Args:
            kind: Plural of the kind.
            labels: Label selector.
            seconds: After which the server ends it; begin again then. A connection that died without a word is
                noticed half a minute later.

        Yields:
            ``ADDED``, ``MODIFIED`` or ``DELETED``, and the object.
        """
        known = self._list(kind, labels)
        for item in known["items"]:
            yield "ADDED", item
        query = {
            "watch": "true",
            "resourceVersion": known["metadata"]["resourceVersion"],
            "timeoutSeconds": str(seconds),
            "labelSelector": labels,
        }
        try:
            response = self._request(
                "GET", self._path(kind), query, wait=seconds + _SECONDS_TO_ANSWER, stream=True
            )
        except ApiError as error:
            if error.status == 410:
                return  # what was listed lies too far back already: whoever watches begins again
            raise
        yield "SYNCED", {}  # not before: who may list and not watch should not think that all is well
        with closing(response):
            for line in _lines(response):
                event = _parsed(line, f"GET {self._path(kind)}")
                if event["type"] == "ERROR":
                    return  # what was asked for lies too far back: whoever watches begins again
                if event["type"] != "BOOKMARK":
                    yield event["type"], event["object"]

    def nodes(self) -> list[Object]:
        """The cluster's nodes; none where we may not look at them."""
        try:
            return list(self._call("GET", "/api/v1/nodes")["items"])
        except ApiError:
            return []

    def may(self, verb: str, kind: str) -> bool:
        """Whether the API server lets us do something (a SelfSubjectAccessReview)."""
        name, _, sub = kind.partition("/")
        group = _ROOTS[name].split("/")[2] if _ROOTS[name].startswith("/apis/") else ""
        attributes = {"namespace": self.namespace, "verb": verb, "group": group, "resource": name}
        if sub:
            attributes["subresource"] = sub
        answer = self._call(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
        )
        return bool(answer["status"].get("allowed"))

    def _list(self, kind: str, labels: str = "", fields: str = "") -> Object:
        query = {"labelSelector": labels, "fieldSelector": fields}
        return self._call("GET", self._path(kind), query={k: v for k, v in query.items() if v})

    def _path(self, kind: str, name: str = "") -> str:
        path = f"{_ROOTS[kind]}/namespaces/{self.namespace}/{kind}"
        return f"{path}/{name}" if name else path

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content: str = "application/json",
    ) -> Object:
        response = self._request(method, path, query or {}, body=body, content=content)
        return _parsed(response.data, f"{method} {path}")

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: Object | None = None,
        content: str = "application/json",
        wait: float = _SECONDS_TO_ANSWER,
        stream: bool = False,
        patience: float | None = None,
    ) -> Any:
        import tenacity

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, ApiError) and error.passing),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
            stop=tenacity.stop_after_delay(self.patience if patience is None else patience),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(self._once, method, path, query, body, content, wait, stream)
        except ApiError as error:
            error.tries = int(retrying.statistics.get("attempt_number", 1))
            raise

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        content: str,
        wait: float,
        stream: bool,
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        self.calls += 1
        what = f"{method} {path}"
        sent = datetime.now(UTC)
        try:
            response = self._client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "application/json, */*", "Content-Type": content},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=(5.0, wait),
            )
            if not stream:
                _ = response.data  # read it here, where a broken connection is noticed
        except ApiException as error:
            raise self._refused(error, method, path) from None
        except (HTTPError, OSError) as error:
            raise ApiError(
                f"the Kubernetes API server does not answer ({what}: {_first_line(error)}): "
                "look at the cluster, and at the address in the kubeconfig",
                0,
            ) from None
        self._compare_clocks(sent, response.headers.get("Date"))
        return response

    def _compare_clocks(self, sent: datetime, said: str | None) -> None:
        """Correct what is known of the server's clock, as far as an answer contradicts it (Cristian's algorithm)."""
        skew = self._skew or timedelta(0)
        with suppress(TypeError, ValueError):  # no date, or none that can be read: our own clock must do
            moment = parsedate_to_datetime(
                said or ""
            )  # in whole seconds, and of some time since it was asked
            least, most = moment - datetime.now(UTC), moment + timedelta(seconds=1) - sent
            skew = max(least, min(most, skew))
        self._skew = skew

    def _refused(self, error: Any, method: str, path: str) -> ApiError:
        try:
            status = json.loads(error.body)
            message, code = str(status.get("message", "")), str(status.get("reason", ""))
            details = status.get("details")
        except (ValueError, TypeError, AttributeError):
            message, code, details = str(error.reason), "", None
        if error.status == 401:
            message = f"the API server does not know who we are (401, {message}): renew the kubeconfig's credentials"
        elif error.status == 403 and (match := _FORBIDDEN.search(message)) is not None:
            message = (
                f"{match['who']} may not {match['verb']} {match['kind']} in the namespace {self.namespace}: "
                f"add the verb {match['verb']} on {match['kind']} to its Role (docs/kubernetes.md has the whole Role)"
            )
        elif error.status == 404 and method == "POST":
            message = f"there is no namespace {self.namespace} on this cluster ({message}): create it, or name another"
        elif error.status == 403 and "exceeded quota" in message:
            message = f"the namespace {self.namespace} has no quota left ({message})"
        else:
            message = f"the Kubernetes API server refused {method} {path} with {error.status}: {message}"
        return ApiError(message, error.status, code, details)


_FORBIDDEN = re.compile(r'(?P<who>User "[^"]+") cannot (?P<verb>\w+) resource "(?P<kind>[\w/]+)"')


def _parsed(text: bytes, what: str) -> Object:
    try:
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise ApiError(f"what answers at the API server's address does not speak its language ({what})", 0)


def _lines(response: Any) -> Iterator[bytes]:
    """The lines of a response that does not end; a connection that breaks ends them."""
    from urllib3.exceptions import HTTPError

    rest = b""
    try:
        for chunk in response.stream(amt=None, decode_content=False):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line for line in whole if line.strip())
    except (HTTPError, OSError):
        return


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
