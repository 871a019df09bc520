from __future__ import annotations

from tests.unit.controllers.workloads import deployment, replica_set

from twinstack.api.core import PodTemplateSpec
from twinstack.controllers.templates import (
    DESIRED_REPLICAS,
    HASH_LABEL,
    MAX_REPLICAS,
    REVISION,
    copied_annotations,
    matching,
    new_replica_set,
    revision,
    template_hash,
)


def test_the_hash_depends_on_the_template_and_the_collisions_and_on_nothing_else() -> None:
    one, other = deployment(1), deployment(9)
    other.metadata.name = "other"
    assert template_hash(one, 0) == template_hash(other, 0) != template_hash(one, 1)
    other.spec.template.spec["containers"][0]["image"] = "new"
    assert template_hash(one, 0) != template_hash(other, 0)
    assert set(template_hash(one, 0)) <= set("456789bcdf")


def test_a_replica_set_carries_the_hash_in_name_labels_selector_and_template() -> None:
    owner = deployment(3, min_ready_seconds=5)
    owner.metadata.annotations = {"kubernetes.io/change-cause": "v2", REVISION: "9"}
    body = new_replica_set(owner, 2, 7, 4)
    hashed = template_hash(owner, 0)
    labels = {"app": "web", HASH_LABEL: hashed}
    assert body["metadata"]["name"] == f"web-{hashed}"
    assert body["metadata"]["labels"] == body["spec"]["template"]["metadata"]["labels"] == labels
    assert body["spec"]["selector"] == {"matchLabels": labels}
    assert body["spec"]["template"]["spec"] == owner.spec.template.spec
    assert (body["spec"]["replicas"], body["spec"]["minReadySeconds"]) == (2, 5)
    assert body["metadata"]["annotations"] == {
        "kubernetes.io/change-cause": "v2",
        REVISION: "7",
        DESIRED_REPLICAS: "3",
        MAX_REPLICAS: "4",
    }
    assert body["metadata"]["ownerReferences"][0]["uid"] == "d1"
    assert HASH_LABEL not in owner.spec.template.metadata["labels"]


def test_collisions_change_the_name() -> None:
    owner = deployment()
    first = new_replica_set(owner, 1, 1, 1)["metadata"]["name"]
    owner.status.collision_count = 1
    assert new_replica_set(owner, 1, 1, 1)["metadata"]["name"] != first


def test_the_present_template_is_found_whatever_the_name_and_the_oldest_wins() -> None:
    owner = deployment()
    mine, older, different = replica_set("mine", 1, age=1), replica_set("older", 1, age=2), replica_set("different", 1)
    for candidate in (mine, older):
        candidate.spec.template = PodTemplateSpec(
            metadata={"labels": {"app": "web", HASH_LABEL: "x"}, "creationTimestamp": None},
            spec=owner.spec.template.spec,
        )
    assert matching(owner, [different, mine]) is mine
    assert matching(owner, [mine, older]) is older
    assert matching(owner, [different]) is None


def test_annotations() -> None:
    owner = deployment()
    owner.metadata.annotations = {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}", REVISION: "1"}
    assert copied_annotations(owner) == {"a": "b"}
    numbered = replica_set("a", 1)
    assert revision(numbered) == 0
    numbered.metadata.annotations[REVISION] = "12"
    assert revision(numbered) == 12
