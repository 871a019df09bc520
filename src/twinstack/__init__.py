"""Twinstack: Kubernetes dual-stack (IPv4/IPv6) networking as one readable system."""

__version__ = "0.1.0"
