"""The manifest that operators are given says what the program understands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from twinstack.ip import IPFamily
from twinstack.proxy.flags import add_flags, read_flags

MANIFEST = Path(__file__).parents[3] / "examples" / "proxy" / "daemonset.yaml"


def test_the_daemonset_starts_a_proxy(tmp_path: Path) -> None:
    objects: dict[str, dict[str, Any]] = {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_bytes())}
    pod = objects["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (volume,) = container["volumeMounts"]
    for name, text in objects["ConfigMap"]["data"].items():
        (tmp_path / name).write_text(text)
    command, *arguments = container["args"]
    assert command == "proxy"
    arguments = [each.replace(volume["mountPath"], str(tmp_path)).replace("$(NODE_NAME)", "n1") for each in arguments]
    parser = argparse.ArgumentParser()
    add_flags(parser)
    found = read_flags(parser.parse_args(arguments))
    assert (found.node_name, found.master) == ("n1", "https://control-plane.example:6443")
    assert {block.family for block in found.cluster_cidrs} == set(IPFamily)
    assert container["livenessProbe"]["httpGet"]["port"] == int(found.healthz.rpartition(":")[2])
    (subject,) = objects["ClusterRoleBinding"]["subjects"]
    assert pod["serviceAccountName"] == subject["name"] == objects["ServiceAccount"]["metadata"]["name"]
