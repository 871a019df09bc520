"""Which log is meant, and what the kubelet is asked."""

from __future__ import annotations

from typing import Any

import pytest

from twinstack.api.errors import StatusError
from twinstack.ip import Address
from twinstack.server.messages import Request, UserInfo
from twinstack.server.podlogs import container_of, kubelet_endpoint, kubelet_query


def pod(*containers: str, init: tuple[str, ...] = (), ephemeral: tuple[str, ...] = ()) -> dict[str, Any]:
    def named(names: tuple[str, ...]) -> list[dict[str, str]]:
        return [{"name": name} for name in names]

    spec = {"containers": named(containers), "initContainers": named(init), "ephemeralContainers": named(ephemeral)}
    return {"metadata": {"name": "p"}, "spec": spec}


def ask(**query: str) -> str:
    parameters = {name: [value] for name, value in query.items()}
    request = Request(method="GET", path="", query=parameters, headers={}, body=b"", user=UserInfo(name="u"))
    return kubelet_query(request, "p")


def test_the_only_container_is_the_default() -> None:
    assert container_of(pod("a"), "") == "a"
    assert container_of(pod("a", init=("i",)), "") == "a"
    assert container_of(pod("a", "b", init=("i",), ephemeral=("e",)), "i") == "i"
    assert container_of(pod("a", "b", ephemeral=("e",)), "e") == "e"


@pytest.mark.parametrize(
    ("obj", "wanted", "message"),
    [
        (pod("a", "b"), "", "a container name must be specified for pod p, choose one of: [a b]"),
        (
            pod("a", "b", init=("i", "j"), ephemeral=("e",)),
            "",
            (
                "a container name must be specified for pod p, choose one of: [a b] "
                "or one of the init containers: [i j] or one of the ephemeral containers: [e]"
            ),
        ),
        (pod("a"), "x", "container x is not valid for pod p"),
        (pod(), "", "a container name must be specified for pod p"),
    ],
)
def test_upstreams_words_for_the_others(obj: dict[str, Any], wanted: str, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        container_of(obj, wanted)
    assert (caught.value.code, caught.value.message) == (400, message)


def test_options_are_passed_on() -> None:
    assert ask() == ""
    assert ask(follow="true", previous="false", container="c", tailLines="0") == "follow=true&tailLines=0"
    assert ask(sinceTime="2026-01-01T00:00:00Z") == "sinceTime=2026-01-01T00%3A00%3A00Z"
    assert ask(sinceSeconds="5", limitBytes="1", timestamps="1") == "limitBytes=1&sinceSeconds=5&timestamps=true"


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ({"tailLines": "x"}, 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        (
            {"tailLines": "-1"},
            422,
            'PodLogOptions "p" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0',
        ),
        (
            {"limitBytes": "0"},
            422,
            'PodLogOptions "p" is invalid: limitBytes: Invalid value: 0: must be greater than 0',
        ),
    ],
)
def test_bad_options(query: dict[str, str], code: int, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        ask(**query)
    assert (caught.value.code, caught.value.message) == (code, message)


def test_where_a_kubelet_listens() -> None:
    addresses = [
        {"type": "Hostname", "address": "n1"},
        {"type": "InternalIP", "address": "fd00:30::11"},
        {"type": "InternalIP", "address": "172.30.0.11"},
    ]
    assert kubelet_endpoint({"status": {"addresses": addresses}}) == (Address.parse("fd00:30::11"), 10250)
    port = {"kubeletEndpoint": {"Port": 4}}
    assert kubelet_endpoint({"status": {"addresses": addresses, "daemonEndpoints": port}})[1] == 4
    with pytest.raises(StatusError, match="no preferred addresses found for node n1"):
        kubelet_endpoint({"metadata": {"name": "n1"}, "status": {"addresses": addresses[:1]}})
