"""`selfsubjectreviews`: tells those who ask who they are (authentication.k8s.io/v1 SelfSubjectReview, KEP-3325).

Nothing is stored; impersonated users see whom they have become.
"""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.resources import resource
from twinstack.server.messages import UserInfo
from twinstack.server.plans import Written

JSON = dict[str, Any]

SELF_SUBJECT_REVIEWS = resource("authentication.k8s.io", "selfsubjectreviews")


def review_self(user: UserInfo) -> Written:
    """The review of `user`, as the answer to a create."""
    review = {
        "kind": SELF_SUBJECT_REVIEWS.kind,
        "apiVersion": SELF_SUBJECT_REVIEWS.group_version,
        "metadata": {"creationTimestamp": times.now()},
        "status": {"userInfo": user.as_json()},
    }
    return Written(value=msgspec.json.encode(review), object=review, created=True)
