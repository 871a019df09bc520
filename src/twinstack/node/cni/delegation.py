"""Runs the executable of a plugin: its call in the environment, its configuration on standard input."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from twinstack.node.cni.errors import IO_FAILURE, TRY_AGAIN_LATER, UNDECODABLE, CniError
from twinstack.node.cni.invocation import Invocation

PATIENCE = 60.0  # seconds for one plugin

JSON = dict[str, Any]


def run(plugin: str, call: Invocation, configuration: Mapping[str, Any]) -> JSON | None:
    """What the plugin printed; None when it printed nothing. It runs in the network namespace of this thread.

    Raises CniError: the plugin's own, or for one that is not there, hangs or babbles.
    """
    executable = find(plugin, call.path)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CNI_")}
    try:
        done = subprocess.run(
            [executable],
            input=json.dumps(configuration).encode(),
            env=environment | call.environment(),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CniError(TRY_AGAIN_LATER, f"plugin {plugin} did not end within {PATIENCE:.0f} s") from None
    except OSError as error:
        raise CniError(IO_FAILURE, f"could not run plugin {plugin}", str(error)) from None
    try:
        answer = json.loads(done.stdout) if done.stdout.strip() else None
    except ValueError:
        answer = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise _failure(plugin, answer, done.stderr, done.returncode)
    if answer is not None and not isinstance(answer, dict):
        raise CniError(UNDECODABLE, f"plugin {plugin} answered what is no result", str(answer)[:200])
    return answer


def find(plugin: str, path: tuple[str, ...]) -> str:
    """The executable of a plugin. Raises CniError."""
    if plugin and "/" not in plugin and plugin not in (".", ".."):
        for directory in path:
            candidate = os.path.join(directory, plugin)
            if os.path.isfile(candidate):
                return candidate
    raise CniError(IO_FAILURE, f'failed to find plugin "{plugin}" in path [{" ".join(path)}]')


def _failure(plugin: str, answer: object, stderr: bytes, code: int) -> CniError:
    if isinstance(answer, dict) and "msg" in answer:
        return CniError(int(answer.get("code") or 999), str(answer["msg"]), str(answer.get("details") or ""))
    said = str(answer or "") or stderr.decode(errors="replace").strip() or "no message"
    return CniError(IO_FAILURE, f"plugin {plugin} failed with exit code {code}", said[:500])
