"""The HTTP/1.1 engine: connections, bodies, streams and time-outs."""

from twinstack.server.http.limits import Limits
from twinstack.server.http.server import HTTPServer

__all__ = ["HTTPServer", "Limits"]
