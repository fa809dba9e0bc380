"""Whether something on this machine answers HTTP yet, and whether a port is free."""

from __future__ import annotations

import http.client
import socket
import sys

HOST = "127.0.0.1"
"""Where local services listen: nobody outside this machine reaches them."""


def answers(port: int, timeout: float) -> bool:
    """Whether ``GET /health`` is answered with a status below 500: also one that has no such path is ready.

    :param timeout: seconds for connecting, and for each wait for more of the answer.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Reservation:
    """A free port of the loopback interface, kept from others until the service listens on it.

    The port is bound and not listened on. Linux then hands it to nobody who asks for just any port, but lets
    a service that sets SO_REUSEADDR (as all common servers do) bind it as well. Elsewhere, and for a service
    without that option, which needs ``hold=False``, the port is free for a moment before it is bound again.
    """

    def __init__(self, hold: bool = True) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((HOST, 0))
        self.port: int = self._socket.getsockname()[1]
        if not (hold and sys.platform.startswith("linux")):
            self.close()

    def close(self) -> None:
        """Give it up; the service keeps what it has bound."""
        self._socket.close()


def is_taken(port: int) -> bool:
    """Whether someone listens on a port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Without it, connections that were closed a moment ago would count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
