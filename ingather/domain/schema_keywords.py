"""JSON Schema's keywords that match patterns, with an engine that takes linear time, and what goes without one."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from referencing import Registry

from ingather.domain.linear_patterns import UnusablePatternError, check_pattern, occurs


def validator_of(schema: Mapping[str, Any]) -> Validator:
    """Validates by the schema. The registry is empty on purpose: the library's own would fetch what a schema refers to
    over the network.
    """
    kind = _kind(validator_for(schema, default=Draft202012Validator))
    # Where a schema names its dialect, the library goes back to its own keywords at the next reference.
    parts = {name: part for name, part in schema.items() if name != "$schema"}
    return kind(parts, registry=Registry(), format_checker=kind.FORMAT_CHECKER)


def additional_in(instance: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """Properties that the schema does not speak of, by name or by pattern."""
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    return [name for name in instance if name not in known and not any(occurs(each, name) for each in patterns)]


def refusal_of(schema: Mapping[str, Any]) -> str | None:
    """Why a schema that is one cannot be used: the library would match its patterns in its own way."""
    parts = list(_mappings(schema))
    if any(isinstance(part.get("$schema"), str) for part in parts[1:]):
        return "A part of a metadata schema cannot name a dialect of its own ($schema)."
    if all(any(name in part for part in parts) for name in ("unevaluatedProperties", "patternProperties")):
        return "A metadata schema cannot have both unevaluatedProperties and patternProperties."
    for pattern in (pattern for part in parts for pattern in _patterns(part)):
        try:
            check_pattern(pattern)
        except UnusablePatternError:
            return f"The pattern {pattern[:100]} cannot be used: look-around and back-references take too long."
    return None


@cache
def _kind(kind: type[Validator]) -> type[Validator]:
    keywords = {"pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional}
    ours: type[Validator] = extend(kind, keywords)  # type: ignore[no-untyped-call]  # its stubs say nothing of it
    return ours


def _pattern(validator: Validator, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not occurs(pattern, instance):
        yield ValidationError("does not match the pattern")


def _pattern_properties(
    validator: Any, wanted: Mapping[str, Any], instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    # ``descend`` is not in the library's protocol of a validator, but in its guide to keywords of one's own.
    if validator.is_type(instance, "object"):
        for pattern, subschema in wanted.items():
            for name in (name for name in instance if occurs(pattern, name)):
                yield from validator.descend(instance[name], subschema, path=name, schema_path=pattern)


def _additional(validator: Any, wanted: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    extras = additional_in(instance, schema) if validator.is_type(instance, "object") else []
    if validator.is_type(wanted, "object"):
        for name in extras:
            yield from validator.descend(instance[name], wanted, path=name)
    elif extras and not wanted:
        yield ValidationError("has unknown properties")


def _patterns(part: Mapping[str, Any]) -> list[str]:
    pattern, by_pattern = part.get("pattern"), part.get("patternProperties")
    return ([pattern] if isinstance(pattern, str) else []) + list(by_pattern if isinstance(by_pattern, Mapping) else [])


def _mappings(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, Mapping):
        yield schema
    for part in schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ():
        yield from _mappings(part)
