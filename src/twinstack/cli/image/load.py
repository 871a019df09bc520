"""Bring images out of archives into a cluster, for all of its nodes: OCI image layouts and what `docker save` writes,
plain or compressed. `-` reads standard input: `docker save IMAGE | twinstack image load -`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from twinstack.cli.image import add_name, problem, store
from twinstack.cluster.errors import ClusterError
from twinstack.node.images.errors import ImageError


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="a tar archive, or - for standard input")
    parser.add_argument("--tag", default="", metavar="NAME", help="the image's name, whatever the archive says")
    add_name(parser)


def run(args: argparse.Namespace) -> int:
    """Raises ClusterError at the first archive that cannot be read; those before it have come in."""
    if args.tag and len(args.files) > 1:
        raise ClusterError("--tag names one image, and there are several archives", "load them one by one")
    own = store(args.name)
    for file in args.files:
        try:
            images = own.load(sys.stdin.buffer if file == "-" else Path(file), args.tag)
        except (ImageError, OSError) as error:
            raise problem(file, error, "give an archive of `docker save`, or an OCI image layout as a tar") from None
        for image in images:
            print(f"{', '.join(image.names or image.digests)}: {image.id} ({image.size / 1e6:.1f} MB)")
    return 0
