"""Which account a Pod gets, and how its containers come to a token."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.service_server import MemoryStore
from tests.unit.server.strategy.strategy_context import ACCOUNTS, context

from twinstack.api.errors import StatusError
from twinstack.api.resources import resource
from twinstack.server.strategy.pod_accounts import TOKEN_PATH, admit_account

JSON = dict[str, Any]

PODS = resource("", "pods")


def admitted(pod: JSON, *accounts: JSON) -> JSON:
    """The Pod's spec after admission."""
    ctx = context(PODS)
    reader = ctx.reader
    assert isinstance(reader, MemoryStore)
    reader.records.clear()
    for account in accounts:
        reader.records[ACCOUNTS.key("default", account["metadata"]["name"])] = json.dumps(account).encode()
    whole: JSON = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}} | pod
    admit_account(ctx, whole)
    spec: JSON = whole["spec"]
    return spec


def account(name: str = "default", **fields: Any) -> JSON:
    return {"metadata": {"name": name, "annotations": fields.pop("annotations", {})}, **fields}


def test_a_token_is_mounted_into_every_container() -> None:
    spec = admitted({"spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}}, account())
    (volume,) = spec["volumes"]
    assert volume["name"].startswith("kube-api-access-")
    assert volume["projected"]["defaultMode"] == 0o644
    token, authority, namespace = volume["projected"]["sources"]
    assert token == {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    assert authority["configMap"]["name"] == "kube-root-ca.crt"
    assert namespace["downwardAPI"]["items"][0]["path"] == "namespace"
    for each in (*spec["initContainers"], *spec["containers"]):
        assert each["volumeMounts"] == [{"name": volume["name"], "readOnly": True, "mountPath": TOKEN_PATH}]
    assert (spec["serviceAccountName"], spec["serviceAccount"]) == ("default", "default")


def test_a_container_with_something_else_at_its_place_keeps_it() -> None:
    own = [{"name": "v", "mountPath": TOKEN_PATH}]
    spec = admitted({"spec": {"containers": [{"name": "c", "volumeMounts": own}]}}, account())
    assert spec["containers"][0]["volumeMounts"] == own
    assert "volumes" not in spec


def test_a_volume_that_is_there_is_used() -> None:
    volumes = [{"name": "kube-api-access-own", "emptyDir": {}}]
    spec = admitted({"spec": {"containers": [{"name": "c"}], "volumes": volumes}}, account())
    assert spec["volumes"] == volumes
    assert spec["containers"][0]["volumeMounts"][0]["name"] == "kube-api-access-own"


@pytest.mark.parametrize(
    ("of_pod", "of_account", "mounted"),
    [(None, False, False), (True, False, True), (False, None, False), (False, True, False), (None, True, True)],
)
def test_the_pods_word_counts_more(of_pod: bool | None, of_account: bool | None, mounted: bool) -> None:
    said = {} if of_pod is None else {"automountServiceAccountToken": of_pod}
    own: JSON = {} if of_account is None else {"automountServiceAccountToken": of_account}
    spec = admitted({"spec": {"containers": [{"name": "c"}]} | said}, account(**own))
    assert ("volumes" in spec) is mounted


def test_pull_secrets_are_the_accounts_unless_the_pod_names_some() -> None:
    pulls = account(imagePullSecrets=[{"name": "a"}])
    assert admitted({}, pulls)["imagePullSecrets"] == [{"name": "a"}]
    spec = {"containers": [{"name": "c"}], "imagePullSecrets": [{"name": "b"}]}
    assert admitted({"spec": spec}, pulls)["imagePullSecrets"] == [{"name": "b"}]


ENFORCED = account(annotations={"kubernetes.io/enforce-mountable-secrets": "true"}, secrets=[{"name": "ok"}])


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        (
            {"spec": {"serviceAccountName": "x", "containers": [{"name": "c"}]}},
            'error looking up service account default/x: serviceaccount "x" not found',
        ),
        (
            {"spec": {"containers": [{"name": "c"}], "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}},
            'volume with secret.secretName="s" is not allowed because service account default does not reference',
        ),
        (
            {"spec": {"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}]}},
            'container c with envVar referencing secret.secretName="s" is not allowed because service account',
        ),
        (
            {"spec": {"containers": [{"name": "c"}], "imagePullSecrets": [{"name": "s"}]}},
            'imagePullSecrets[0].name="s" is not allowed because service account default does not reference',
        ),
    ],
)
def test_refusals(pod: JSON, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        admitted(pod, ENFORCED)
    assert caught.value.code == 403
    assert message in caught.value.message


def test_mirror_pods_stay_as_they_are() -> None:
    mirror = {"name": "a", "annotations": {"kubernetes.io/config.mirror": "x"}}
    assert admitted({"metadata": mirror}) == {"containers": [{"name": "c"}]}
    for spec, problem in (
        ({"serviceAccountName": "x"}, "a mirror pod may not reference service accounts"),
        ({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}, "a mirror pod may not reference secrets"),
    ):
        with pytest.raises(StatusError, match=problem):
            admitted({"metadata": mirror, "spec": {"containers": [], **spec}})
