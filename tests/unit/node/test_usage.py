"""What is told of usage: rates, limits, interfaces; and what a request asks the API server to allow."""

from __future__ import annotations

import pytest

from twinstack.api.core import Pod
from twinstack.api.meta import ObjectMeta
from twinstack.linux.cgroupusage import Usage
from twinstack.node import usagemetrics
from twinstack.node.authorization import asked
from twinstack.node.probes.state import Count, ProbeKind
from twinstack.node.runtime.base import Container, ContainerKey, Phase
from twinstack.node.sampling import Disk, Interface, PodReading, Reading, interfaces
from twinstack.node.summary import summary

RUN = Container(ContainerKey("u", "c", 0), Phase.RUNNING, "i:1", "", 1.0, started_at=2.0)
NET = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:      10       1    0    0    0     0          0         0       10       1    0    0    0     0       0          0
  eth0:    1000       9    2    0    0     0          0         0     2000       8    3    0    0     0       0          0
"""  # noqa: E501


def reading(time: float, cpu: int, memory: int = 100) -> Reading:
    usage = Usage(cpu=cpu, memory=memory, working_set=memory - 40, limit=1000, processes=3)
    pod = Pod(metadata=ObjectMeta(name="p", namespace="n", uid="u"))
    pods = {"u": PodReading(pod, usage, [(RUN, usage)], interfaces(NET))}
    return Reading(time, 0.0, usage._replace(limit=0), interfaces(NET), Disk(100, 50, 40, 10, 4), pods)


def test_rates_are_between_two_readings() -> None:
    first = summary("n1", reading(10.0, 5_000), None, brief=False)
    assert "usageNanoCores" not in first["node"]["cpu"]
    later = summary("n1", reading(12.0, 2_005_000), reading(10.0, 5_000), brief=True)
    for told in (later["node"], *later["pods"], *later["pods"][0]["containers"]):
        assert told["cpu"]["usageNanoCores"] == 1_000_000
        assert told["cpu"]["usageCoreNanoSeconds"] == 2_005_000
        assert "network" not in told
    assert later["pods"][0]["memory"]["availableBytes"] == 940
    assert "availableBytes" not in later["node"]["memory"]
    assert "usageNanoCores" not in summary("n1", reading(12.0, 1), reading(10.0, 5), brief=True)["node"]["cpu"]


def test_a_pod_has_the_numbers_of_its_interfaces() -> None:
    assert interfaces(NET) == [Interface("eth0", 1000, 2, 2000, 3)]
    network = summary("n1", reading(1.0, 1), None, brief=False)["pods"][0]["network"]
    assert (network["name"], network["rxBytes"], network["txErrors"]) == ("eth0", 1000, 3)
    assert len(network["interfaces"]) == 1


def test_metrics() -> None:
    lines = usagemetrics.resource(reading(1.5, 2_500_000_000)).splitlines()
    assert 'container_cpu_usage_seconds_total{container="c",namespace="n",pod="p"} 2.5 1500' in lines
    assert 'pod_memory_working_set_bytes{namespace="n",pod="p"} 60 1500' in lines
    assert "node_cpu_usage_seconds_total 2.5 1500" in lines
    assert 'container_start_time_seconds{container="c",namespace="n",pod="p"} 2' in lines
    assert lines[-1] == "resource_scrape_error 0"
    text = usagemetrics.cadvisor(reading(1.5, 10**9), "all")
    identity = RUN.key.id
    where = f'container="c",cpu="total",id="/all/podu/{identity}",image="i:1",name="{identity}"'
    assert f'container_cpu_usage_seconds_total{{{where},namespace="n",pod="p"}} 1 1500\n' in text
    counts = usagemetrics.probes([Count("n", 'q"', "u", "c", ProbeKind.LIVENESS, "failed", 3)])
    labels = r'container="c",namespace="n",pod="q\"",pod_uid="u",probe_type="Liveness",result="failed"'
    assert counts.splitlines()[2] == f"prober_probe_total{{{labels}}} 3"
    assert usagemetrics.probes([]) == ""


@pytest.mark.parametrize(
    ("method", "path", "verb", "subresources"),
    [
        ("GET", "pods", "get", ["pods", "proxy"]),
        ("GET", "configz", "get", ["configz", "proxy"]),
        ("GET", "healthz/ping", "get", ["healthz", "proxy"]),
        ("GET", "stats/summary", "get", ["stats"]),
        ("GET", "metrics/cadvisor", "get", ["metrics"]),
        ("GET", "logs/", "get", ["log"]),
        ("POST", "exec/n/p/c", "create", ["proxy"]),
        ("GET", "podsother", "get", ["proxy"]),
        ("GET", "", "get", ["proxy"]),
    ],
)
def test_what_a_request_needs(method: str, path: str, verb: str, subresources: list[str]) -> None:
    assert asked(method, path.split("/")) == (verb, subresources)
