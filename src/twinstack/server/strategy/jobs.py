"""Jobs and CronJobs (batch/v1)."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from typing import Any

from twinstack.api import cronschedules
from twinstack.api.errors import FieldError, invalid, not_supported, required
from twinstack.api.metadata import immutable
from twinstack.api.validation import dns_label, domain_path, non_negative
from twinstack.server.strategy import job_policies, pod_templates
from twinstack.server.strategy.base import Strategy, WriteContext
from twinstack.server.strategy.label_selectors import selector_errors
from twinstack.server.strategy.pod_defaults import default_pod_spec
from twinstack.server.strategy.pod_warnings import pod_warnings

JSON = dict[str, Any]

_UID_LABEL, _NAME_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
_OLD_LABELS = {_UID_LABEL: "controller-uid", _NAME_LABEL: "job-name"}
_BACKOFF = 6
_MODES = ("NonIndexed", "Indexed")
_RESTARTS = ("OnFailure", "Never")
_CONCURRENCY = ("Allow", "Forbid", "Replace")
_FIXED = ("completionMode", "podFailurePolicy", "successPolicy", "backoffLimitPerIndex", "managedBy")
_COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)
_PLACEMENT = ("nodeSelector", "affinity", "tolerations", "schedulingGates")
_MAX_CRON_NAME = 52  # the name of a Job adds eleven characters
_MAX_INT32 = 2**31 - 1
_time_zone_in_schedule = re.compile("TZ=").search


class JobStrategy(Strategy):
    """Unless it asks for the opposite, a Job selects its Pods by its own uid."""

    def default(self, obj: JSON) -> None:
        spec = obj["spec"]
        if "completions" not in spec and "parallelism" not in spec:
            spec["completions"] = 1
        spec.setdefault("parallelism", 1)
        spec.setdefault("backoffLimit", _MAX_INT32 if "backoffLimitPerIndex" in spec else _BACKOFF)
        spec.setdefault("completionMode", "NonIndexed")
        spec.setdefault("suspend", False)
        spec.setdefault("manualSelector", False)
        spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
        for rule in (spec.get("podFailurePolicy") or {}).get("rules") or []:
            for pattern in rule.get("onPodConditions") or []:
                pattern.setdefault("status", "True")
        default_pod_spec(spec["template"]["spec"])

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        if not obj["spec"]["manualSelector"]:
            _generate_selector(obj)

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj["spec"]
        errors = [] if spec["manualSelector"] or old is not None else _generated_errors(obj)
        errors += _job_errors(spec, "spec")
        selector = spec.get("selector")
        if selector is None:
            errors.append(required("spec.selector"))
        else:
            errors += selector_errors(selector, "spec.selector")
        errors += pod_templates.mismatch(spec)
        return errors if old is None else [*errors, *_change_errors(spec, old)]

    def validate_status(self, ctx: WriteContext, obj: JSON, old: JSON) -> Sequence[FieldError]:
        counts = ("active", "succeeded", "failed", "ready", "terminating")
        return pod_templates.count_errors(obj.get("status") or {}, counts)

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        return [*(_name_warnings(obj) if old is None else ()), *pod_templates.template_warnings(obj, old)]


def _generate_selector(job: JSON) -> None:
    meta, spec = job["metadata"], job["spec"]
    labels: JSON = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    for label, value in ((_UID_LABEL, meta["uid"]), (_NAME_LABEL, meta["name"])):
        labels.setdefault(label, value)
        labels.setdefault(_OLD_LABELS[label], value)
    wanted: JSON = spec.setdefault("selector", {}).setdefault("matchLabels", {})
    wanted.setdefault(_UID_LABEL, meta["uid"])


def _generated_errors(job: JSON) -> list[FieldError]:
    """The labels are those that were made for this Job."""
    meta, spec = job["metadata"], job["spec"]
    labels = spec["template"]["metadata"]["labels"]
    errors: list[FieldError] = []
    for label, value in ((_UID_LABEL, meta["uid"]), (_NAME_LABEL, meta["name"])):
        if labels[label] != value:
            at = f"spec.template.metadata.labels[{label}]"
            errors.append(invalid(at, labels[label], f"must be '{value}'"))
    wanted = spec["selector"].get("matchLabels") or {}
    if wanted != {_UID_LABEL: meta["uid"]} or spec["selector"].get("matchExpressions"):
        errors.append(invalid("spec.selector", spec["selector"], "`selector` not auto-generated"))
    return errors


def _job_errors(spec: JSON, field: str) -> list[FieldError]:
    """What holds for Jobs and for the templates of CronJobs."""
    errors: list[FieldError] = []
    for name in _COUNTS:
        if name in spec:
            errors += non_negative(f"{field}.{name}", spec[name])
    mode = spec.get("completionMode")
    if mode is not None and mode not in _MODES:
        errors.append(not_supported(f"{field}.completionMode", mode, _MODES))
    if mode == "Indexed" and "completions" not in spec:
        errors.append(required(f"{field}.completions", "when completion mode is Indexed"))
    errors += job_policies.index_errors(spec, field)
    errors += job_policies.failure_policy_errors(spec, f"{field}.podFailurePolicy")
    errors += job_policies.success_policy_errors(spec, f"{field}.successPolicy")
    errors += job_policies.replacement_errors(spec, f"{field}.podReplacementPolicy")
    if "managedBy" in spec:
        errors += domain_path(f"{field}.managedBy", spec["managedBy"])
    template = spec["template"]
    errors += pod_templates.template_errors(template, f"{field}.template")
    policy = template["spec"].get("restartPolicy", "")
    at = f"{field}.template.spec.restartPolicy"
    if policy in ("", "Always"):
        errors.append(required(at, 'valid values: "OnFailure", "Never"'))
    elif policy not in _RESTARTS:
        errors.append(not_supported(at, policy, _RESTARTS))
    elif policy != "Never" and "podFailurePolicy" in spec:
        errors.append(invalid(at, policy, 'only "Never" is supported when podFailurePolicy is specified'))
    return errors


def _change_errors(spec: JSON, old: JSON) -> list[FieldError]:
    before = old["spec"]
    elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    errors = [] if elastic else immutable("spec.completions", spec.get("completions"), before.get("completions"))
    errors += immutable("spec.selector", spec.get("selector"), before.get("selector"))
    template, old_template = spec["template"], before["template"]
    if before.get("suspend") and not (old.get("status") or {}).get("startTime"):
        template, old_template = _without_placement(template), _without_placement(old_template)
    errors += immutable("spec.template", template, old_template)
    for name in _FIXED:
        errors += immutable(f"spec.{name}", spec.get(name), before.get(name))
    return errors


def _without_placement(template: JSON) -> JSON:
    """What may change before a suspended Job first starts is left out."""
    spec = {name: value for name, value in template["spec"].items() if name not in _PLACEMENT}
    return {"spec": spec}


def _name_warnings(obj: JSON) -> list[str]:
    problems = dns_label(obj["metadata"]["name"])
    if not problems:
        return []
    advice = (
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "
        "a DNS label is recommended: "
    )
    return [f"{advice}[{' '.join(problems)}]"]


class CronJobStrategy(Strategy):
    def default(self, obj: JSON) -> None:
        spec = obj["spec"]
        spec.setdefault("concurrencyPolicy", "Allow")
        spec.setdefault("suspend", False)
        spec.setdefault("successfulJobsHistoryLimit", 3)
        spec.setdefault("failedJobsHistoryLimit", 1)
        default_pod_spec(spec["jobTemplate"]["spec"]["template"]["spec"])

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec, name = obj["spec"], obj["metadata"]["name"]
        errors: list[FieldError] = []
        if old is None and len(name) > _MAX_CRON_NAME:
            errors.append(invalid("metadata.name", name, f"must be no more than {_MAX_CRON_NAME} characters"))
        errors += _schedule_errors(spec, old)
        errors += non_negative("spec.startingDeadlineSeconds", spec.get("startingDeadlineSeconds", 0))
        policy = spec["concurrencyPolicy"]
        if policy not in _CONCURRENCY:
            errors.append(not_supported("spec.concurrencyPolicy", policy, _CONCURRENCY))
        errors += _job_template_errors(spec["jobTemplate"]["spec"], "spec.jobTemplate.spec")
        for limit in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
            errors += non_negative(f"spec.{limit}", spec[limit])
        return errors

    def warnings(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> list[str]:
        job = obj["spec"]["jobTemplate"]["spec"]
        texts = _name_warnings(obj) if old is None else []
        if old is None or job["template"] != old["spec"]["jobTemplate"]["spec"]["template"]:
            texts += pod_warnings(job["template"]["spec"], "spec.jobTemplate.spec.template.spec")
        return texts


def _schedule_errors(spec: JSON, old: JSON | None) -> list[FieldError]:
    schedule, zone = spec.get("schedule", ""), spec.get("timeZone")
    if not schedule:
        return [required("spec.schedule")]
    errors: list[FieldError] = []
    if _time_zone_in_schedule(schedule):
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        errors.append(invalid("spec.schedule", schedule, detail))
    else:
        try:
            cronschedules.parse(schedule)
        except cronschedules.ScheduleError as error:
            errors.append(invalid("spec.schedule", schedule, str(error)))
    if zone is None or (old is not None and zone == old["spec"].get("timeZone")):
        return errors
    return errors + _zone_errors(zone)


def _zone_errors(zone: str) -> list[FieldError]:
    if not zone:
        return [invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        return [
            invalid(
                "spec.timeZone",
                zone,
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            )
        ]
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return [invalid("spec.timeZone", zone, f"unknown time zone {zone}")]
    return []


def _job_template_errors(job: JSON, field: str) -> list[FieldError]:
    errors = _job_errors(job, field)
    if "selector" in job:
        errors.append(invalid(f"{field}.selector", job["selector"], "`selector` will be auto-generated"))
    if job.get("manualSelector"):
        errors.append(not_supported(f"{field}.manualSelector", True, ("nil", "false")))
    return errors
