from __future__ import annotations

import uvloop
from tests.unit.client.api_stub import Call, Reply, api_stub, status

from twinstack.client.discovery import ServedResource, discover, find_resource
from twinstack.client.kubeconfig import ClusterAccess
from twinstack.client.rest import Client

DOCUMENTS = {
    "/apis": {
        "groups": [
            {"name": "apps", "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"}},
            {"name": "broken", "preferredVersion": {"groupVersion": "broken/v1", "version": "v1"}},
        ]
    },
    "/api/v1": {
        "groupVersion": "v1",
        "resources": [
            {"name": "pods", "kind": "Pod", "namespaced": True, "verbs": ["get", "list"]},
            {"name": "pods/log", "kind": "Pod", "namespaced": True, "verbs": ["get"]},
            {"name": "nodes", "kind": "Node", "namespaced": False, "verbs": ["get"]},
        ],
    },
    "/apis/apps/v1": {
        "groupVersion": "apps/v1",
        "resources": [{"name": "deployments", "kind": "Deployment", "namespaced": True, "verbs": ["delete"]}],
    },
}


async def behaviour(call: Call, reply: Reply) -> None:
    document = DOCUMENTS.get(call.path)
    if document is None:
        reply.json(status(404, "NotFound", "no"), status=404)
    else:
        reply.json(document)


def test_what_is_served() -> None:
    async def main() -> None:
        async with api_stub(behaviour) as stub:
            client = Client(ClusterAccess(server=stub.url), user_agent="test")
            pods, nodes, deployments = (served := await discover(client)).resources
            assert pods == ServedResource("v1", "pods", "Pod", True, ("get", "list"))
            assert pods.path("default", "a") == "/api/v1/namespaces/default/pods/a"
            assert nodes.path("default", "n") == "/api/v1/nodes/n"
            assert deployments.path("default") == "/apis/apps/v1/namespaces/default/deployments"
            assert await find_resource(client, "apps/v1", "Deployment") == deployments
            assert await find_resource(client, "apps/v1", "Nothing") is None
            assert served.failures == {"broken/v1": "no"}
            await client.close()

    uvloop.run(main())
