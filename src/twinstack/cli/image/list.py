"""Show the images of a cluster: what was loaded or pulled, and what is made of this machine's own programs."""

from __future__ import annotations

import argparse
import json

from twinstack.cli.image import add_name, store
from twinstack.node.images import builtin
from twinstack.node.images.store import Image


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_name(parser)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="for people or for programs")


def run(args: argparse.Namespace) -> int:
    own = store(args.name)
    own.find(builtin.BUSYBOX)
    images = own.images()
    if args.output == "json":
        print(json.dumps([_json(image) for image in images], indent=2))
        return 0
    rows = [(name, image.id[7:19], _megabytes(image)) for image in images for name in image.names or ("<none>",)]
    width = max(len("IMAGE"), *(len(row[0]) for row in rows))
    print(f"{'IMAGE':<{width}}  {'ID':<12}  {'SIZE':>10}")
    for name, id_, size in rows:
        print(f"{name:<{width}}  {id_:<12}  {size:>10}")
    return 0


def _json(image: Image) -> dict[str, object]:
    return {"id": image.id, "names": image.names, "digests": image.digests, "size": image.size}


def _megabytes(image: Image) -> str:
    return f"{image.size / 1e6:.1f} MB" if image.size else "-"
