"""A document's metadata under the rules of its batch: defaults where nothing was said, then the schemas.

Messages name fields and what the schema asks for; values that were sent are not repeated.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ingather.models.errors import MetadataInvalidError, ValidationFailedError
from ingather.models.metadata import MetadataRules

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

PREFIX: Final = "Metadata validation failed: "
_SHOWN_PROBLEMS: Final = 3
_COUNTED_PROBLEMS: Final = 50
_UNUSABLE: Final = "The metadata schema cannot be used"
_DIRECTIONS: Final = {
    **dict.fromkeys(("minLength", "minItems", "minimum", "exclusiveMinimum"), "less than its"),
    **dict.fromkeys(("maxLength", "maxItems", "maximum", "exclusiveMaximum"), "more than its"),
}


class RuledMetadata:
    """Applies one batch's rules to documents, one after the other."""

    def __init__(self, rules: MetadataRules) -> None:
        self._defaults = rules.defaults
        self._validators = [_validator(schema) if _refusal(schema) is None else None for schema in rules.schemas]
        """None stands for a schema that was kept when more of them could be used."""

    def settled(self, metadata: dict[str, Any]) -> tuple[dict[str, Any], MetadataInvalidError | None]:
        """What the document has for metadata, and why that will not do."""
        settled = metadata or self._defaults
        problems = [problem for validator in self._validators for problem in _problems(validator, settled)]
        if not problems:
            return settled, None
        return settled, MetadataInvalidError(PREFIX + _summary(list(dict.fromkeys(problems))))


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises ``ValidationFailedError`` for what is not a JSON Schema, or refers to something outside itself."""
    # Loaded where a schema is met: it takes a tenth of a second, and most batches have none.
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415

    try:
        _validator(schema).check_schema(dict(schema))
    except SchemaError as error:
        where = "/".join(str(step) for step in error.absolute_path)
        raise ValidationFailedError(f"The metadata schema is not a JSON Schema: see #/{where[:200]}.") from None
    if any(not reference.startswith("#") for reference in _references(schema)):
        raise ValidationFailedError("A metadata schema may refer to its own parts alone ($ref: '#/…').")
    if (refusal := _refusal(schema)) is not None:
        raise ValidationFailedError(refusal)


def _validator(schema: Mapping[str, Any]) -> "Validator":
    from ingather.domain.schema_keywords import validator_of  # noqa: PLC0415  # as above

    return validator_of(schema)


def _refusal(schema: Mapping[str, Any]) -> str | None:
    from ingather.domain.schema_keywords import refusal_of  # noqa: PLC0415  # as above

    return refusal_of(schema)


def _problems(validator: "Validator | None", metadata: Mapping[str, Any]) -> Iterator[str]:
    from referencing.exceptions import Unresolvable  # noqa: PLC0415  # as above

    if validator is None:
        yield _UNUSABLE
        return
    try:
        for error in islice(validator.iter_errors(metadata), _COUNTED_PROBLEMS):
            yield from _told(error)
    except (Unresolvable, RecursionError):
        yield _UNUSABLE


def _told(error: "ValidationError") -> Iterable[str]:
    path = [str(step) for step in error.absolute_path]
    asked: Any = error.validator_value
    match error.validator:
        case "required" if isinstance(error.instance, Mapping):
            return [f"Missing required field {_field([*path, name])}" for name in asked if name not in error.instance]
        case "additionalProperties" | "unevaluatedProperties" if isinstance(error.instance, Mapping):
            from ingather.domain.schema_keywords import additional_in  # noqa: PLC0415  # as above

            unknown = additional_in(error.instance, error.schema if isinstance(error.schema, Mapping) else {})
            return [f"Unknown field {_field([*path, name])}" for name in unknown[:_SHOWN_PROBLEMS]]
    return [f"Field {_field(path)} {_wanted(error)}" if path else f"The metadata {_wanted(error)}"]


def _wanted(error: "ValidationError") -> str:
    asked: Any = error.validator_value
    match error.validator:
        case "type":
            return f"must be of type {' or '.join(asked) if isinstance(asked, list) else asked}"
        case "enum":
            return f"must be one of {_listed(asked)}"
        case "format":
            return f"must be a {asked}"
        case "pattern":
            return f"must match the pattern {str(asked)[:100]}"
    direction = _DIRECTIONS.get(str(error.validator))
    return f"is {direction} {error.validator} {asked}" if direction else f"does not fit the schema's {error.validator}"


def _summary(problems: Sequence[str]) -> str:
    more = len(problems) - _SHOWN_PROBLEMS
    return "; ".join(problems[:_SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def _field(path: Sequence[str]) -> str:
    return f"'{'.'.join(path)[:100]}'"


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(f"'{value}'" for value in islice(values, 10))[:200]


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in {"$ref", "$dynamicRef"} and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)
