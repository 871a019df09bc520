"""Follows a cluster's configuration object, and lets the cluster become what it says.

It is the part `configuration` of a local cluster. What cannot be is answered with a Warning event on the object
and in `twinstack status`; the cluster then stays as it is.
"""

from __future__ import annotations

import argparse
import os

from twinstack.cluster.state import paths


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the cluster")


def run(args: argparse.Namespace) -> int:
    """Until SIGTERM."""
    own = paths(args.name)
    os.setpriority(os.PRIO_PROCESS, 0, 19)  # others start meanwhile, and nobody waits for this part
    from twinstack.client.process import run_component
    from twinstack.cluster.follower import Follower

    os.setpriority(os.PRIO_PROCESS, 0, 0)
    return run_component(
        "configuration", str(own.kubeconfigs / "admin.json"), lambda client: Follower(client, own).run()
    )
