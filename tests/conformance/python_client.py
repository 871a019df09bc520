"""A session of the official Python client; run by test_python_client with that client on the path.

Prints one line of JSON a request: method, path, content type, status, and the answer, null for a watch.
"""

# mypy: ignore-errors

import json
import sys
from urllib.parse import urlsplit

from kubernetes import client, config, watch
from kubernetes.client import rest
from kubernetes.dynamic import DynamicClient

_request = rest.RESTClientObject.request


def told_request(self, method, url, headers=None, **given):
    answer = None
    try:
        answer = _request(self, method, url, headers=headers, **given)
        return answer
    except client.ApiException as error:
        answer = error
        raise
    finally:
        path = urlsplit(url)
        print(
            json.dumps(
                {
                    "method": method,
                    "path": path.path + (f"?{path.query}" if path.query else ""),
                    "type": (headers or {}).get("Content-Type"),
                    "status": answer.status,
                    "answer": None if "watch=" in url else json.loads(_data(answer)),
                }
            )
        )


def _data(answer):
    return answer.body if isinstance(answer, client.ApiException) else answer.data or answer.read()


rest.RESTClientObject.request = told_request


def service(name, **spec):
    return {"metadata": {"name": name}, "spec": spec}


def main():
    config.load_kube_config()
    core = client.CoreV1Api()
    ports = [{"port": 80, "targetPort": 8080}]
    made = core.create_namespaced_service(
        "default", service("py", ipFamilyPolicy="PreferDualStack", ports=ports, selector={"app": "py"})
    )
    made.metadata.labels = {"a": "b"}
    core.replace_namespaced_service("py", "default", made)
    core.patch_namespaced_service("py", "default", {"spec": {"ipFamilyPolicy": "SingleStack"}})
    for since in ({}, {"resource_version": made.metadata.resource_version}):
        for _ in watch.Watch().stream(core.list_namespaced_service, "default", timeout_seconds=1, **since):
            pass
    try:
        core.patch_namespaced_service(
            "py", "default", [{"op": "replace", "path": "/spec/ipFamilies", "value": ["IPv6"]}]
        )
    except client.ApiException as error:
        print(error, file=sys.stderr)
    client.DiscoveryV1Api().list_endpoint_slice_for_all_namespaces(limit=1)
    client.NetworkingV1Api().list_service_cidr()
    dynamic = DynamicClient(client.ApiClient())
    services = dynamic.resources.get(api_version="v1", kind="Service")
    services.get(name="py", namespace="default")
    wanted = {"apiVersion": "v1", "kind": "Service"} | service("py2", ports=[{"port": 1}])
    services.server_side_apply(wanted, name="py2", namespace="default", field_manager="me")
    for name in ("py", "py2"):
        core.delete_namespaced_service(name, "default")
    try:
        core.read_namespaced_service("py", "default")
    except client.ApiException as error:
        print(error, file=sys.stderr)


main()
