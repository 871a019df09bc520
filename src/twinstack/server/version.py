"""Which Kubernetes this server speaks (`/version`, API `version.Info`)."""

from __future__ import annotations

import json
import platform

from twinstack import __version__

KUBERNETES = "1.36.2"  # the release whose behaviour is served
GIT_VERSION = f"v{KUBERNETES}+twinstack.{__version__}"


def version_document() -> bytes:
    """The body of `/version`, always indented, as upstream's."""
    major, minor, _ = KUBERNETES.split(".")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    info = {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"linux/{machine}",
    }
    return json.dumps(info, indent=2).encode()
