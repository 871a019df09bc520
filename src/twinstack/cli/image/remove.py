"""Remove images from a cluster, by name or by ID. One that a Pod is made of stays until that Pod is gone."""

from __future__ import annotations

import argparse
import json

from twinstack.cli.image import add_name, problem, store
from twinstack.node.images.errors import ImageError
from twinstack.node.images.reference import InvalidReference


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="its name, or sha256:…")
    add_name(parser)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="for people or for programs")


def run(args: argparse.Namespace) -> int:
    """Raises ClusterError at the first that cannot be removed; those before it are gone."""
    own = store(args.name)
    removed: list[str] = []
    for image in args.images:
        try:
            removed += own.remove(image)
        except (ImageError, InvalidReference) as error:
            raise problem(image, error, "`twinstack image list` shows what there is") from None
    if args.output == "json":
        print(json.dumps({"removed": removed}))
    else:
        for name in removed:
            print(f"removed {name}")
    return 0
