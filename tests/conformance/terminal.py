"""What kubectl and Helm print, without what a cluster chooses freely: then two clusters can be compared."""

from __future__ import annotations

import re
from collections.abc import Callable

Replace = str | Callable[[re.Match[str]], str]

_SAFE = "bcdfghjklmnpqrstvwxz2456789"  # letters of generated names
_HASH = "[4-9bcdf]{6,10}"  # of a Pod template
RECORDED_PORTS = (16443, 16543)

_CHOSEN: tuple[tuple[str, Replace], ...] = (
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uid>"),
    (r"\bapiserver-[a-z2-7]{26}\b", "apiserver-<host>"),
    (r"\S+_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<holder>"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+0000 UTC", "<time>"),
    (r"\b[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d [\d:]{8} 2\d{3}", "<time>"),
    (r"\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} 2\d{3} [\d:]{8} [+-]\d{4}", "<time>"),
    (r"(?<=Client Version: v1\.)(\d\d)\.\d+", r"\1"),
    (r"(?<=Server Version: v1\.)(\d\d)\.\S+", r"\1"),
    (r"\beyJ[\w-]+\.[\w-]+\.[\w-]+", "<jwt>"),
    (r'resourceVersion: "\d+"', 'resourceVersion: "<version>"'),
    (r"\b10\.96\.(?!0\.[01]\b)\d+\.\d+", "<ipv4>"),
    (r"\bfd00:96::[0-9a-f]{1,4}\b", "<ipv6>"),
    (r"\b(\d+):3(?!0123\b)\d{4}/", r"\1:<node port>/"),
    (rf"\b(web|web2|web-demo|other-demo)-{_HASH}-[{_SAFE}]{{5}}\b", r"\1-<hash>-<random>"),
    (rf"\b(web|web2|web-demo|other-demo)-{_HASH}\b", r"\1-<hash>"),
    (rf"\b(web|web2|web10|kube-api-access)-[{_SAFE}]{{5}}\b", r"\1-<random>"),
)
_AGE = r"(?:\d+[smhd]){1,2}"
# A table's last column, the one before its labels, or an event's first one.
_AGES = (
    (rf"(?<=  ){_AGE}(?=$|  )", "<age>"),
    (rf"(?<= ){_AGE}(?= \(x\d+)", "<age>"),
)
# The recorded controller manager was that of a distribution, which publishes one certificate more.
_FOREIGN = (
    (
        r"      - configMap:\n          items:\n          - key: service-ca\.crt\n            path: service-ca\.crt\n"
        r"          name: openshift-service-ca\.crt\n"
    ),
    r"    ConfigMapName:           openshift-service-ca\.crt\n    (?:Optional|ConfigMapOptional):\s+\S+\n",
)


_RECORDED_KINDS = 35  # rows that the recording has whole, the header among them


def comparable(args: list[str], output: str, *, port: int = 0) -> str:
    """The output of one command; `port` is the server's own, 0: the recorded one's."""
    for pattern in _FOREIGN:
        output = re.sub(pattern, "", output)
    for own in (port,) if port else RECORDED_PORTS:
        output = re.sub(rf"\b{own}\b", "<port>", output)
    for pattern, replacement in _CHOSEN:
        output = re.sub(pattern, replacement, output)
    if args[0] == "explain":
        output = re.sub(r"(?<=DESCRIPTION:\n)(?: {4}.*\n?)+", "", output)  # in our own words
    lines = [_line(line, table="yaml" not in args) for line in output.strip().splitlines()]
    if "events" in args:
        lines = _event_rows(lines)
    if args == ["api-resources"]:
        lines = lines[:_RECORDED_KINDS]
    if args[0] == "status":
        lines = _sections(lines)
    return "\n".join(_in_order(lines))


def _line(line: str, *, table: bool) -> str:
    """Columns stand two spaces apart, however wide their widest word was; so does a column's second line."""
    head = line[: len(line) - len(line.lstrip())] if len(line) - len(line.lstrip()) < 12 else "  "
    body = re.sub(r" {2,}", "  ", line.strip())
    if table:
        for pattern, replacement in _AGES:
            body = re.sub(pattern, replacement, body)
    return head + body


def _event_rows(lines: list[str]) -> list[str]:
    """Events of what this cluster has no need of are not compared: leader election, a distribution's server."""
    return [line for line in lines if "LeaderElection" not in line and "KubeAPIReadyz" not in line]


def _sections(lines: list[str]) -> list[str]:
    """Helm shows kinds in an order of the moment."""
    sections: list[list[str]] = [[]]
    for line in lines:
        if line.startswith(("==>", "TEST SUITE")):
            sections.append([])
        if line:
            sections[-1].append(line)
    return [line for section in sorted(sections) for line in section]


def _in_order(lines: list[str]) -> list[str]:
    """Rows whose order was that of generated names, or of the moment, are sorted."""
    result: list[str] = []
    block: list[str] = []
    for line in lines:
        if "<hash>" in line or "<random>" in line or line.startswith("default  <age>"):
            block.append(line)
            continue
        result += sorted(block)
        block = []
        result.append(line)
    return result + sorted(block)
