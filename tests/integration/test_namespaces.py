"""Pinned network namespaces beside those of other programs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# Runs in a mount namespace of its own, with an empty /run/netns.
PROGRAM = """
import os, subprocess
from twinstack.linux import namespaces
def mounted():  # the machine's own namespaces are hidden, and listed all the same
    return sorted(line.split()[4] for line in open("/proc/self/mountinfo"))
before = mounted()
pin = namespaces.RUN_DIRECTORY / "tt-F-first"
other = namespaces.RUN_DIRECTORY / "tt-F-second"
namespaces.create(pin, lambda: None)
subprocess.run(["ip", "netns", "add", other.name], check=True)
namespaces.create(pin.with_name("tt-F-third"), lambda: None)
assert namespaces.is_pinned(pin)
for name in ("tt-F-first", "tt-F-third"):
    namespaces.remove(pin.with_name(name))
    namespaces.remove(pin.with_name(name))
assert os.listdir(namespaces.RUN_DIRECTORY) == [other.name]
subprocess.run(["ip", "netns", "delete", other.name], check=True)
namespaces.create(pin, lambda: None)
namespaces.remove(pin)
assert mounted() == before
"""


def test_a_namespace_can_be_removed_after_iproute2_has_made_one() -> None:
    setup = 'mount -t tmpfs none /run && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", setup, "sh", sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
