"""Run the scheduler: it gives every Pod without a node the one that fits and carries least."""

from __future__ import annotations

import argparse

from twinstack.client import election
from twinstack.client.process import run_component
from twinstack.client.rest import Client
from twinstack.scheduler.scheduler import NAME, Scheduler


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kubeconfig", required=True, metavar="FILE", help="how to reach the API server")
    parser.add_argument(
        "--scheduler-name", default=NAME, metavar="NAME", help="spec.schedulerName of the Pods to place"
    )
    election.add_flags(parser, "kube-scheduler")


def run(args: argparse.Namespace) -> int:
    async def main(client: Client) -> None:
        scheduler = Scheduler(client, name=args.scheduler_name)
        await election.led(client, election.terms(args), "kube-scheduler", scheduler.run)

    return run_component("scheduler", args.kubeconfig, main)
