"""What containers may ask for on this server: one answer for the whole process, as upstream, whatever kind asks."""

from __future__ import annotations

_privileged = False


def allow_privileged(allowed: bool) -> None:
    """As kube-apiserver's flag --allow-privileged says; for the process."""
    global _privileged
    _privileged = allowed


def privileged_allowed() -> bool:
    return _privileged
