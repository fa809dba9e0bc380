"""An object store on loopback: moto's server as a process of its own, that s3fs talks to as to any other."""

from __future__ import annotations

import contextlib
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import servers

_STARTUP_SECONDS = 120.0


@dataclass(frozen=True)
class ObjectStore:
    """A server of S3 with one bucket.

    Attributes:
        url: Where it answers.
        bucket: The bucket, as in ``s3://audits``.
        environment: What a process needs to reach it.
    """

    url: str
    bucket: str

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.url)

    def filesystem(self) -> Any:
        """s3fs on it, with nothing remembered."""
        import s3fs

        return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)


def environment(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def s3(directory: Path) -> Iterator[str]:
    """The server's URL, for as long as the block lasts."""
    port = servers.free_port()
    url = f"http://127.0.0.1:{port}"
    line = servers.command("moto_server", "-H", "127.0.0.1", "-p", str(port))
    env = servers.environment(directory / "home")
    with servers.background(line, directory, env, directory / "moto.log") as process:
        end = time.monotonic() + _STARTUP_SECONDS
        while True:
            assert process.poll() is None, (directory / "moto.log").read_text()
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
                break
            assert time.monotonic() < end, (directory / "moto.log").read_text()
            time.sleep(0.05)
        yield url
