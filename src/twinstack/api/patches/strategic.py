"""Strategic merge patch: a merge patch that knows which lists are maps, with directives.

How a field merges comes from the schema table: `patchStrategy` and `mergeKey`. Directives: `$patch` (replace,
delete), `$retainKeys`, `$setElementOrder/FIELD`, `$deleteFromPrimitiveList/FIELD`.
"""

from __future__ import annotations

import json
from typing import Any

from twinstack.api.errors import StatusError, bad_request
from twinstack.api.gotext import go_print
from twinstack.api.schema import Field, get_type

JSON = dict[str, Any]

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE_PREFIX = "$deleteFromPrimitiveList"
_ORDER_PREFIX = "$setElementOrder"


def apply_strategic_merge(document: JSON, patch: JSON, type_name: str) -> JSON:
    """`document`, an object of a type of the schema table, with `patch` merged in.

    Neither argument is changed; the result may share parts with both. Raises StatusError: 400 for a malformed
    directive, 422 for lists of lists, 500 without reason for other mistakes, as the API server does.
    """
    return _merge_map(document, patch, type_name)


def _failure(message: str) -> StatusError:
    return StatusError(500, "", message)


def _no_merge_key(item: JSON, key: str) -> StatusError:
    return _failure(f"map: {go_print(item)} does not contain declared merge key: {key}")


def _unknown_directive(directive: Any, item: JSON) -> StatusError:
    return _failure(f"unknown patch type: {go_print(directive)} in map: {go_print(item)}")


# Maps ----------------------------------------------------------------------------------------------------------


def _merge_map(original: JSON, patch: JSON, type_name: str) -> JSON:
    """`type_name` is empty below maps that have no fields of their own."""
    if _PATCH in patch:
        directive = patch[_PATCH]
        if directive == "replace":
            return {key: value for key, value in patch.items() if key != _PATCH}
        if directive == "delete":
            return {}
        raise _unknown_directive(directive, patch)
    result, rest = dict(original), dict(patch)
    _retain_keys(result, rest)
    _set_element_orders(result, rest, type_name)
    for key, value in rest.items():
        deletes = key.startswith(_DELETE_PREFIX)
        name = _directive_field(key, _DELETE_PREFIX, "primitive list") if deletes else key
        if value is None:
            result.pop(name, None)
        elif name not in result or _shape(result[name]) is not _shape(value):
            if not deletes:
                result[name] = _plain(value)
        elif isinstance(value, dict):
            result[name] = _merge_field_map(result[name], value, _field(type_name, name))
        elif isinstance(value, list):
            result[name] = _merge_field_list(list(result[name]), value, _field(type_name, name), deletes=deletes)
        else:
            result[name] = value
    return result


def _shape(value: Any) -> type:
    """Go's type of a decoded value: what decides whether two values merge."""
    for kind in (dict, list, str, bool, int, float):
        if isinstance(value, kind):
            return kind
    return type(value)


def _field(type_name: str, name: str) -> Field:
    """The field called `name`; a plain one where the type says nothing."""
    if not type_name:
        return Field(type="any")
    field = get_type(type_name).fields.get(name)
    if field is None:
        short = type_name.rpartition(".")[2]
        raise _failure(f'unable to find api field in struct {short} for the json field "{name}"')
    return field


def _strategy(field: Field) -> str:
    """merge, replace or nothing; retainKeys only says that clients may send the directive."""
    return next((part for part in field.patch_strategy.split(",") if part not in ("", "retainKeys")), "")


def _merge_field_map(original: JSON, patch: JSON, field: Field) -> JSON:
    if _strategy(field) == "replace":
        return patch
    return _merge_map(original, patch, field.type if field.is_object and not field.container else "")


def _plain(value: Any) -> Any:
    """A value that is only in the patch, without nulls and directives."""
    if isinstance(value, dict):
        return {
            key: _plain(item)
            for key, item in value.items()
            if item is not None and key != _PATCH and key != _RETAIN and not _is_list_directive(key)
        }
    if isinstance(value, list):
        return [_plain(item) for item in value if not (isinstance(item, dict) and _PATCH in item)]
    return value


def _is_list_directive(key: str) -> bool:
    return key.startswith((_DELETE_PREFIX, _ORDER_PREFIX))


def _directive_field(key: str, prefix: str, what: str) -> str:
    head, slash, name = key.partition("/")
    if not slash or head != prefix:
        raise bad_request(f"invalid patch format of {what}")
    return name


def _retain_keys(original: JSON, patch: JSON) -> None:
    """Drop what `$retainKeys` does not list; both arguments change."""
    if _RETAIN not in patch:
        return
    keep = patch.pop(_RETAIN)
    problem = bad_request("invalid patch format of retainKeys")
    if not isinstance(keep, list):
        raise problem
    keep = {key for key in keep if isinstance(key, str)}
    for key, value in patch.items():
        if value is not None and not _is_list_directive(key) and key not in keep:
            raise problem
    for key in [key for key in original if key not in keep]:
        del original[key]


# Lists ---------------------------------------------------------------------------------------------------------


def _set_element_orders(original: JSON, patch: JSON, type_name: str) -> None:
    """Merge the lists that have a `$setElementOrder` and put them in that order; both arguments change."""
    for key in [key for key in patch if key.startswith(_ORDER_PREFIX)]:
        order = patch.pop(key)
        name = _directive_field(key, _ORDER_PREFIX, "setElementOrder list")
        old, new = original.get(name), patch.get(name)
        for part in (order, old, new):
            if part is not None and not isinstance(part, list):
                raise _failure(f"expected a []interface {{}}, but received a {_go_type(part)}")
        if order is None:
            raise _failure("expected a []interface {}, but received a <nil>")
        field = _field(type_name, name)
        _check_order(new or [], order, field.merge_key)
        if old is None and new is None:
            continue
        scratch = list(old or [])
        merged = _plain(new) if old is None else scratch
        if old is not None and new is not None:
            merged = _merge_field_list(scratch, new, field, deletes=False)
        _element_kind(old or [], new or [])
        original[name] = _ordered(merged, order, scratch, field.merge_key)
        patch.pop(name, None)


def _go_type(value: Any) -> str:
    if isinstance(value, dict):
        return "map[string]interface {}"
    return {bool: "bool", int: "int64", str: "string"}.get(type(value), "float64")


def _check_order(patch: list[Any], order: list[Any], key: str) -> None:
    """What the patch adds or changes must stand in the order list, in that order."""
    position = 0
    changed = [item for item in patch if not (isinstance(item, dict) and item.get(_PATCH) == "delete")]
    for item in order:
        if position < len(changed) and _identity(changed[position], key) == _identity(item, key):
            position += 1
    if position < len(changed):
        raise _failure(
            f"The order in patch list:\n{go_print(patch)}\n doesn't match {_ORDER_PREFIX} list:\n{go_print(order)}\n"
        )


def _merge_field_list(original: list[Any], patch: list[Any], field: Field, *, deletes: bool) -> list[Any]:
    """`original` is scratch: it keeps its length, and what it holds then says where items stood (`_merge_maps`)."""
    if deletes or _strategy(field) == "merge":
        return _merge_list(original, patch, field, deletes=deletes)
    return patch


def _merge_list(original: list[Any], patch: list[Any], field: Field, *, deletes: bool) -> list[Any]:
    if not original and not patch:
        return original
    if _element_kind(original, patch) is not dict:
        if deletes:
            going = set(patch)  # of one plain type: an empty patch has nothing to delete
            return [item for item in original if item not in going]
        merged = list(dict.fromkeys([*original, *patch]))
        return _ordered(merged, patch, original, "")
    if not field.merge_key:
        short = field.type.rpartition(".")[2]
        raise _failure(f"cannot merge lists without merge key for {short}")
    return _merge_maps(original, patch, field)


def _merge_maps(array: list[JSON], patch: list[JSON], field: Field) -> list[JSON]:
    """Merge two lists of objects by key.

    Upstream works in place: items that go close the gap, items that come take the places left free, and the old
    order is read off the same memory afterwards. So `array` is treated as that memory.
    """
    key = field.merge_key
    plain: list[JSON] = []
    going: list[Any] = []
    replaced = False
    for item in patch:
        directive = item.get(_PATCH, "")
        if _PATCH not in item:
            plain.append(item)
        elif directive == "delete":
            if key not in item:
                raise _no_merge_key(item, key)
            going.append(item[key])
        elif directive == "replace":
            replaced = True
        elif directive == "merge":
            raise _failure("merging lists cannot yet be specified in the patch")
        else:
            raise _unknown_directive(directive, item)
    used = _delete_matching(array, key, going) if going else len(array)
    return plain if replaced else _merge_plain(array, used, plain, field)


def _merge_plain(array: list[JSON], used: int, patch: list[JSON], field: Field) -> list[JSON]:
    """Merge items without directives into the first `used` of `array`."""
    key, merged, stood = field.merge_key, array, array[:used]
    places: dict[Any, int] = {}  # where the first item of a key is
    for index, item in enumerate(stood):
        if key in item:
            places.setdefault(_comparable(item[key]), index)
    for item in patch:
        if key not in item:
            raise _no_merge_key(item, key)
        identity = _comparable(item[key])
        place = places.get(identity)
        if place is not None:
            merged[place] = _merge_map(merged[place], item, field.type)
            continue
        if identity is not None:  # null does not stay
            places[identity] = used
        if used < len(merged):
            merged[used] = _plain(item)
        else:
            merged = list(array) if merged is array else merged
            merged.append(_plain(item))
        used += 1
    return _ordered(merged[:used], patch, stood, key)


def _element_kind(*lists: list[Any]) -> type | None:
    """The one type of all elements. Raises StatusError when there is none."""
    found: type | None = None
    for items in lists:
        for item in items:
            kind = _shape(item)
            if found is None:
                if kind is list:
                    raise StatusError(422, "Invalid", "lists of lists are not supported")
                found = kind
            elif kind is not found:
                raise _failure(f"list element types are not identical: {go_print(list(lists))}")
    if found is None:
        raise _failure("no elements in any given slices")
    return found


def _delete_matching(array: list[JSON], key: str, going: list[Any]) -> int:
    """Close the gaps of what goes; returns how many are left. Each gap that closes leaves the last item twice."""
    places: dict[Any, list[int]] = {}
    for index, item in enumerate(array):
        if key in item:
            places.setdefault(_comparable(item[key]), []).append(index)
    gone: set[int] = set()
    last, left_behind = len(array) - 1, []
    for value in going:
        for index in places.pop(_comparable(value), ()):
            left_behind.append(array[last])
            gone.add(index)
            while last in gone:
                last -= 1
    kept = [item for index, item in enumerate(array) if index not in gone]
    array[:] = kept + left_behind[::-1]
    return len(kept)


def _comparable(value: Any) -> Any:
    """A value to look up others by: itself, or its JSON when it is a map or a list."""
    return json.dumps(value, sort_keys=True).encode() if isinstance(value, dict | list) else value


def _identity(item: Any, key: str) -> Any:
    return item.get(key) if key and isinstance(item, dict) else item


def _places(items: list[Any], key: str) -> dict[Any, int]:
    """Where each identity stands first."""
    places: dict[Any, int] = {}
    for index, item in enumerate(items):
        places.setdefault(_comparable(_identity(item, key)), index)
    return places


def _ordered(merged: list[Any], order: list[Any], server: list[Any], key: str) -> list[Any]:
    """The items that `order` names in its order, the others where they stood on the server."""
    for item in merged:
        if key and isinstance(item, dict) and key not in item:
            raise _no_merge_key(item, key)
    wanted, stood = _places(order, key), _places(server, key)

    def place(places: dict[Any, int], item: Any) -> int:
        return places.get(_comparable(_identity(item, key)), -1)

    listed = sorted((item for item in merged if place(wanted, item) >= 0), key=lambda item: place(wanted, item))
    others = sorted((item for item in merged if place(wanted, item) < 0), key=lambda item: place(stood, item))
    result: list[Any] = []
    left = right = 0
    while left < len(others) and right < len(listed):
        first, second = place(stood, others[left]), place(stood, listed[right])
        if 0 <= first < second:
            result.append(others[left])
            left += 1
        else:
            result.append(listed[right])
            right += 1
    return result + others[left:] + listed[right:]
