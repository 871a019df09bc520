"""Access as requests meet it: default roles, gifts that are refused, reviews, strangers; on a real store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.api_client import CONFIG

from twinstack.server import accessreviews
from twinstack.server.accessreviews import AccessReviews
from twinstack.server.app import App
from twinstack.server.authentication import ANONYMOUS, Authenticator
from twinstack.server.authorization.modes import in_order
from twinstack.server.authorization.rbac import bootstrap
from twinstack.server.authorization.rbac.authorizer import RBAC, follow
from twinstack.server.authorization.rbac.escalation import Escalation
from twinstack.server.authorization.rbac.index import PolicyIndex
from twinstack.server.authorization.upserts import CreateOnUpdate
from twinstack.server.discovery import Discovery
from twinstack.server.handlers import ResourceHandler
from twinstack.server.health import Health
from twinstack.server.messages import Request, Response, UserInfo
from twinstack.server.metrics import Metrics
from twinstack.server.registry import Registry
from twinstack.store.sqlite import SQLiteStore

JSON = dict[str, Any]

ADMIN = UserInfo("admin", ("system:masters", "system:authenticated"))
RBAC_API = "/apis/rbac.authorization.k8s.io/v1"
ROLES, BINDINGS = f"{RBAC_API}/namespaces/default/roles", f"{RBAC_API}/namespaces/default/rolebindings"
CLUSTER_ROLES, CLUSTER_BINDINGS = f"{RBAC_API}/clusterroles", f"{RBAC_API}/clusterrolebindings"
REVIEWS = "/apis/authorization.k8s.io/v1"
ATTEMPTS = "is attempting to grant RBAC permissions not currently held:"


class Site:
    """The application with RBAC. `admin` asks as a master, `bob` by impersonation."""

    def __init__(self, registry: Registry, *, anonymous: bool = True) -> None:
        index = PolicyIndex()
        follow(registry.cache, index)
        authorizer = in_order(["RBAC"], {"RBAC": partial(RBAC, index)})
        registry.checks += [CreateOnUpdate(authorizer), Escalation(authorizer, index)]
        reviews = AccessReviews(authorizer)
        self.registry = registry
        self._app = App(
            authenticator=Authenticator({"admin": ADMIN}),
            authorizer=authorizer,
            discovery=Discovery("h:1"),
            health=Health({"ping": lambda: True}, {}),
            counters=Metrics(dict),
            resources=ResourceHandler(registry),
            subresources={},
            reviews={row.plural: reviews for row in accessreviews.ROWS},
            anonymous=anonymous,
        )

    async def call(
        self,
        method: str,
        path: str,
        body: JSON | None = None,
        query: dict[str, list[str]] | None = None,
        **headers: str,
    ) -> tuple[int, JSON]:
        fields = {name.replace("_", "-"): value for name, value in headers.items()} | {"accept": "application/json"}
        data = b"" if body is None else json.dumps(body).encode()
        answer = await self._app(Request(method, path, query or {}, fields, data, ANONYMOUS))
        assert isinstance(answer, Response)
        whole = answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)
        return answer.status, json.loads(whole) if answer.content_type == "application/json" else {}

    async def admin(self, method: str, path: str, body: JSON | None = None) -> JSON:
        status, answer = await self.call(method, path, body, authorization="Bearer admin")
        assert status < 300, answer
        return answer

    async def bob(
        self, method: str, path: str, body: JSON | None = None, kind: str = "application/json", **query: str
    ) -> tuple[int, str]:
        """Status, and the message of a refusal."""
        parameters = {name: [value] for name, value in query.items()}
        who = {"authorization": "Bearer admin", "impersonate_user": "bob", "impersonate_group": "devs"}
        status, answer = await self.call(method, path, body, parameters, content_type=kind, **who)
        return status, answer.get("message", "")

    async def review(self, kind: str, spec: JSON, namespace: str = "", **headers: str) -> tuple[int, JSON]:
        where = f"/namespaces/{namespace}" if namespace else ""
        path = f"{REVIEWS}{where}/{kind.lower()}s"
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        return await self.call("POST", path, body, {}, authorization="Bearer admin", **headers)


@asynccontextmanager
async def serving(directory: Path, **options: bool) -> AsyncIterator[Site]:
    registry = Registry(SQLiteStore(str(directory / "db")), CONFIG)
    await registry.open()
    try:
        site = Site(registry, **options)
        await bootstrap.ensure(registry)
        yield site
    finally:
        await registry.close()


def run(directory: Path, test: Callable[[Site], Awaitable[None]], **options: bool) -> None:
    async def served() -> None:
        async with serving(directory, **options) as site:
            await test(site)

    asyncio.run(served())


def role(name: str, *rules: JSON, kind: str = "Role", **more: Any) -> JSON:
    api = "rbac.authorization.k8s.io/v1"
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "rules": list(rules)} | more


def rule(verbs: str, resources: str, group: str = "", **more: Any) -> JSON:
    return {"verbs": verbs.split(), "apiGroups": [group], "resources": resources.split()} | more


def binding(name: str, kind: str, of: str, user: str = "bob") -> JSON:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": kind, "name": of},
        "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
    }


def test_default_roles_are_made_and_mended(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        view = await site.admin("GET", f"{CLUSTER_ROLES}/view")
        assert view["metadata"]["annotations"] == {"rbac.authorization.kubernetes.io/autoupdate": "true"}
        assert view["metadata"]["managedFields"][0]["manager"] == "kube-apiserver"
        before = site.registry.cache.revision
        await bootstrap.ensure(site.registry)
        assert site.registry.cache.revision == before

        proxier = await site.admin("GET", f"{CLUSTER_ROLES}/system:node-proxier")
        added = rule("get", "pods")
        await site.admin("PUT", f"{CLUSTER_ROLES}/system:node-proxier", proxier | {"rules": [added]})
        bound = await site.admin("GET", f"{CLUSTER_BINDINGS}/system:node-proxier")
        other = bound["subjects"][0] | {"name": "other"}
        await site.admin("PUT", f"{CLUSTER_BINDINGS}/system:node-proxier", bound | {"subjects": [other]})
        left = await site.admin("GET", f"{CLUSTER_ROLES}/system:basic-user")
        left["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = "false"
        await site.admin("PUT", f"{CLUSTER_ROLES}/system:basic-user", left | {"rules": []})
        await site.admin("DELETE", f"{CLUSTER_BINDINGS}/cluster-admin")
        wrong = binding("cluster-admin", "ClusterRole", "view") | {"kind": "ClusterRoleBinding"}
        await site.admin("POST", CLUSTER_BINDINGS, wrong)

        await bootstrap.ensure(site.registry)
        rules = (await site.admin("GET", f"{CLUSTER_ROLES}/system:node-proxier"))["rules"]
        assert rules[0] == added
        assert {"verbs": ["list"], "apiGroups": [""], "resources": ["services"]} in rules
        subjects = (await site.admin("GET", f"{CLUSTER_BINDINGS}/system:node-proxier"))["subjects"]
        assert [subject["name"] for subject in subjects] == ["other", "system:kube-proxy"]
        assert not (await site.admin("GET", f"{CLUSTER_ROLES}/system:basic-user"))["rules"]
        anew = await site.admin("GET", f"{CLUSTER_BINDINGS}/cluster-admin")
        assert (anew["roleRef"]["name"], anew["subjects"][0]["name"]) == ("cluster-admin", "system:masters")

    run(tmp_path, test)


def test_a_manifest_adds_to_the_defaults(tmp_path: Path) -> None:
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "manager"}
    more = binding("system:controller:ttl-controller", "ClusterRole", "system:controller:ttl-controller")
    items = [more | {"kind": "ClusterRoleBinding", "subjects": [subject]}, role("mine", kind="ClusterRole")]
    file = tmp_path / "rbac.json"
    file.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": items}))

    async def test(site: Site) -> None:
        await bootstrap.ensure(site.registry, bootstrap.read_manifest(str(file)))
        bound = await site.admin("GET", f"{CLUSTER_BINDINGS}/system:controller:ttl-controller")
        assert [each["name"] for each in bound["subjects"]] == ["ttl-controller", "manager"]
        await site.admin("GET", f"{CLUSTER_ROLES}/mine")

    run(tmp_path, test)
    for text in ("", "{}", '{"items": [{"kind": "Pod"}]}', '{"items": 3}'):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"rbac\.json: not a List of roles"):
            bootstrap.read_manifest(str(file))


def test_nobody_gives_away_what_they_lack(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        own = [rule("*", "roles rolebindings", "rbac.authorization.k8s.io"), rule("get list", "pods")]
        own[0]["verbs"] = ["create", "update", "patch"]
        await site.admin("POST", ROLES, role("own", *own))
        await site.admin("POST", BINDINGS, binding("own", "Role", "own"))
        assert (await site.bob("POST", ROLES, role("less", rule("get", "pods"))))[0] == 201
        status, message = await site.bob("POST", ROLES, role("more", rule("get list delete", "pods secrets")))
        assert status == 403
        assert message == (
            'roles.rbac.authorization.k8s.io "more" is forbidden: user "bob" (groups=["devs" "system:authenticated"]) '
            f'{ATTEMPTS}\n{{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}}\n'
            '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list" "delete"]}'
        )
        status, message = await site.bob("PUT", f"{ROLES}/less", role("less", rule("get", "secrets")))
        assert status == 403
        assert message.startswith('roles.rbac.authorization.k8s.io "less" is forbidden: user "bob"')
        status, message = await site.bob("POST", BINDINGS, binding("b", "ClusterRole", "cluster-admin", "eve"))
        assert status == 403
        assert message.startswith('rolebindings.rbac.authorization.k8s.io "b" is forbidden: user "bob" (groups=')
        assert message.endswith('{APIGroups:["*"], Resources:["*"], Verbs:["*"]}\n{NonResourceURLs:["*"], Verbs:["*"]}')
        assert (await site.bob("POST", BINDINGS, binding("c", "Role", "less", "eve")))[0] == 201
        status, message = await site.bob("POST", BINDINGS, binding("d", "Role", "absent", "eve"))
        assert (status, message) == (404, 'rolebindings.rbac.authorization.k8s.io "absent" not found')

    run(tmp_path, test)


def test_escalate_and_bind_allow_it(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        group = "rbac.authorization.k8s.io"
        rights = [rule("create update escalate", "roles", group), rule("create", "rolebindings", group)]
        rights.append(rule("bind", "clusterroles", group, resourceNames=["view"]))
        await site.admin("POST", ROLES, role("own", *rights))
        await site.admin("POST", BINDINGS, binding("own", "Role", "own"))
        assert (await site.bob("POST", ROLES, role("more", rule("*", "secrets"))))[0] == 201
        assert (await site.bob("POST", BINDINGS, binding("v", "ClusterRole", "view", "eve")))[0] == 201
        assert (await site.bob("POST", BINDINGS, binding("e", "ClusterRole", "edit", "eve")))[0] == 201  # still empty
        assert (await site.bob("POST", BINDINGS, binding("a", "ClusterRole", "cluster-admin", "eve")))[0] == 403

    run(tmp_path, test)


def test_what_makes_an_object_needs_the_right_to_create(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        await site.admin("POST", ROLES, role("own", rule("update patch", "endpoints configmaps")))
        await site.admin("POST", BINDINGS, binding("own", "Role", "own"))
        endpoints, maps = "/api/v1/namespaces/default/endpoints", "/api/v1/namespaces/default/configmaps"
        web = {"kind": "Endpoints", "apiVersion": "v1", "metadata": {"name": "web"}}
        assert await site.bob("PUT", f"{endpoints}/web", web) == (403, 'endpoints "web" is forbidden: ')
        await site.admin("POST", endpoints, web)
        assert (await site.bob("PUT", f"{endpoints}/web", web))[0] == 200
        config = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}}
        applied = await site.bob("PATCH", f"{maps}/c", config, "application/apply-patch+yaml", fieldManager="x")
        assert applied == (403, 'configmaps "c" is forbidden: ')

    run(tmp_path, test)


def test_aggregation_needs_everything(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        own = role("own", rule("create patch", "clusterroles", "rbac.authorization.k8s.io"), kind="ClusterRole")
        await site.admin("POST", CLUSTER_ROLES, own)
        bound = binding("own", "ClusterRole", "own") | {"kind": "ClusterRoleBinding"}
        await site.admin("POST", CLUSTER_BINDINGS, bound)
        gathers = {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}
        new = role("sum", kind="ClusterRole", aggregationRule=gathers)
        status, message = await site.bob("POST", CLUSTER_ROLES, new)
        assert status == 403
        assert message == (
            'clusterroles.rbac.authorization.k8s.io "sum" is forbidden: '
            "must have cluster-admin privileges to use the aggregationRule"
        )

    run(tmp_path, test)


def test_reviews(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        asked = {"namespace": "", "verb": "list", "resource": "nodes", "version": ""}
        status, answer = await site.review(
            "SubjectAccessReview", {"user": "system:kube-proxy", "resourceAttributes": asked}
        )
        assert (status, answer["spec"]["resourceAttributes"]) == (201, {"verb": "list", "resource": "nodes"})
        assert answer["status"] == {
            "allowed": True,
            "reason": 'RBAC: allowed by ClusterRoleBinding "system:node-proxier" of ClusterRole "system:node-proxier" '
            'to User "system:kube-proxy"',
        }
        paths = {"verb": "get", "path": "/livez"}
        _, answer = await site.review("SubjectAccessReview", {"groups": ["x"], "nonResourceAttributes": paths})
        assert answer["status"] == {"allowed": False}
        _, answer = await site.review(
            "SelfSubjectAccessReview", {"nonResourceAttributes": paths}, impersonate_user="bob"
        )
        assert answer["status"]["allowed"] is True
        status, answer = await site.review(
            "LocalSubjectAccessReview", {"user": "x", "resourceAttributes": asked}, "default"
        )
        assert status == 422
        assert answer["message"].endswith(
            'spec.resourceAttributes.namespace: Invalid value: "": must match metadata.namespace'
        )
        status, answer = await site.review("SelfSubjectRulesReview", {"namespace": "default"}, impersonate_user="eve")
        assert (answer["metadata"], answer["spec"], answer["status"]["incomplete"]) == ({}, {}, False)
        resources = [each for rule in answer["status"]["resourceRules"] for each in rule["resources"]]
        assert sorted(resources) == ["selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews"]
        status, answer = await site.review("SelfSubjectRulesReview", {})
        assert (status, answer["message"]) == (400, "no namespace on request")

    run(tmp_path, test)


SELECTOR = "spec.resourceAttributes.fieldSelector"


@pytest.mark.parametrize(
    ("selector", "problem"),
    [
        ({}, f"{SELECTOR}.requirements: Required value: when {SELECTOR} is specified, requirements or rawSelector is "),
        (
            {"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "Exists"}]},
            f'{SELECTOR}.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements',
        ),
        ({"requirements": [{"key": "a", "operator": "In"}]}, f"{SELECTOR}.requirements[0].values: Required value"),
        (
            {"requirements": [{"operator": "Exists", "values": ["x"]}]},
            f"[{SELECTOR}.requirements[0].values: Forbidden: may not be specified when `operator` is 'Exists' or",
        ),
    ],
)
def test_selectors_in_reviews(tmp_path: Path, selector: JSON, problem: str) -> None:
    async def test(site: Site) -> None:
        asked = {"verb": "list", "resource": "pods", "fieldSelector": selector}
        status, answer = await site.review("SelfSubjectAccessReview", {"resourceAttributes": asked})
        assert (status, answer["details"]) == (422, answer["details"])
        assert answer["message"].startswith(f'.authorization.k8s.io "" is invalid: {problem}')

    run(tmp_path, test)


def test_strangers_see_health_and_version(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        for path, status in (("/livez", 200), ("/readyz", 200), ("/version", 200), ("/api", 403), ("/livez/ping", 403)):
            assert (await site.call("GET", path))[0] == status
        status, answer = await site.call("GET", "/api/v1/namespaces/default/pods")
        assert answer["message"].startswith('pods is forbidden: User "system:anonymous" cannot list resource "pods"')

    run(tmp_path, test)


def test_strangers_can_be_kept_out(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        assert (await site.call("GET", "/livez"))[0] == 401
        assert (await site.call("GET", "/livez", authorization="Bearer admin"))[0] == 200

    run(tmp_path, test, anonymous=False)
