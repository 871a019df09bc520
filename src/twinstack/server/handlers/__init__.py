"""HTTP verbs on resources."""

from twinstack.server.handlers.resources import ResourceHandler

__all__ = ["ResourceHandler"]
