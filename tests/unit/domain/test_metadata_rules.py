"""Metadata under a tenant's rules: defaults, schemas, and how a misfit is told."""

import pytest

from ingather.domain.metadata_rules import RuledMetadata, check_schema
from ingather.models.errors import ValidationFailedError
from ingather.models.metadata import MetadataRules

SCHEMA = {
    "type": "object",
    "required": ["author"],
    "properties": {
        "author": {"type": "string", "minLength": 2},
        "year": {"type": "integer", "maximum": 2100},
        "kind": {"enum": ["manual", "report"]},
        "date": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[A-Z]+$"},
        "place": {"type": "object", "required": ["city"]},
        "tags": {"type": ["array", "null"], "uniqueItems": True},
    },
    "additionalProperties": False,
}


def told(metadata, *schemas, **defaults):
    _, problem = RuledMetadata(MetadataRules(defaults=defaults, schemas=schemas or (SCHEMA,))).settled(metadata)
    return problem.message if problem else None


def test_a_missing_field_is_told_in_the_contracts_words():
    """The message is the one that clients compare with."""
    assert told({"year": 2024}) == "Metadata validation failed: Missing required field 'author'"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"author": "D"}, "Field 'author' is less than its minLength 2"),
        ({"author": "Do", "year": "2024"}, "Field 'year' must be of type integer"),
        ({"author": "Do", "year": 2101}, "Field 'year' is more than its maximum 2100"),
        ({"author": "Do", "kind": "secret"}, "Field 'kind' must be one of 'manual', 'report'"),
        ({"author": "Do", "date": "secret"}, "Field 'date' must be a date"),
        ({"author": "Do", "code": "secret"}, "Field 'code' must match the pattern ^[A-Z]+$"),
        ({"author": "Do", "place": {}}, "Missing required field 'place.city'"),
        ({"author": "Do", "tags": "secret"}, "Field 'tags' must be of type array or null"),
        ({"author": "Do", "tags": ["a", "a"]}, "Field 'tags' does not fit the schema's uniqueItems"),
        ({"author": "Do", "auhtor": "Do"}, "Unknown field 'auhtor'"),
    ],
)
def test_a_misfit_names_the_field_and_what_was_asked_for(metadata, reason):
    """Values that were sent are not repeated."""
    assert told(metadata) == f"Metadata validation failed: {reason}"


def test_many_misfits_are_summed_up():
    """Three are told and the rest counted; all missing fields of one place are told once each."""
    assert told({}, {"required": ["a", "b"]}) == (
        "Metadata validation failed: Missing required field 'a'; Missing required field 'b'"
    )
    assert told({}, {"required": list("abcdefgh")}).endswith("Missing required field 'c'; and 5 more")


def test_defaults_are_for_documents_of_which_nothing_was_said():
    """They are not mixed into what a client says, and have to fit as well."""
    rules = RuledMetadata(MetadataRules(defaults={"author": "house"}, schemas=(SCHEMA,)))
    assert rules.settled({}) == ({"author": "house"}, None)
    settled, problem = rules.settled({"year": 2024})
    assert (settled, problem.code) == ({"year": 2024}, "metadata_invalid")


def test_every_schema_must_fit():
    """A document fails by any of them."""
    assert told({"a": 1}, {"required": ["a"]}, {"required": ["b"]}) == (
        "Metadata validation failed: Missing required field 'b'"
    )


@pytest.mark.parametrize(
    "schema", [{"$ref": "http://127.0.0.1:1/schema.json"}, {"$ref": "#"}, {"$ref": "#/$defs/none"}]
)
def test_a_schema_that_leads_nowhere_costs_its_documents_alone(schema):
    """Nothing is fetched over the network, and nothing hangs."""
    assert told({}, schema) == "Metadata validation failed: The metadata schema cannot be used"


@pytest.mark.parametrize(
    "schema", [{"type": "text"}, {"required": "author"}, {"properties": {"a": {"$ref": "http://elsewhere/schema"}}}]
)
def test_a_schema_is_looked_at_before_it_is_kept(schema):
    """What is no JSON Schema, or needs another one, is refused."""
    with pytest.raises(ValidationFailedError):
        check_schema(schema)


EVIL = "^(a+)+$"
LONG = "a" * 100_000 + "!"


@pytest.mark.parametrize(
    ("schema", "metadata"),
    [
        ({"properties": {"a": {"pattern": EVIL}}}, {"a": LONG}),
        ({"patternProperties": {EVIL: False}, "additionalProperties": False}, {LONG: 1}),
        ({"propertyNames": {"pattern": EVIL}}, {LONG: 1}),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", "additionalProperties": {"pattern": EVIL}},
            {"a": LONG},
        ),
        (
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "pattern": EVIL,
                "additionalProperties": {"$ref": "#"},
            },
            {"a": LONG},
        ),
    ],
)
def test_no_pattern_takes_for_ever(schema, metadata):
    """One that Python's own engine would try for longer than the universe is old."""
    check_schema(schema)
    assert told(metadata, schema)


def test_patterns_of_names_are_kept_to():
    """What matches is judged by its schema, and what does not is additional."""
    schema = {
        "properties": {"author": {"type": "string"}},
        "patternProperties": {"^x-": {"type": "integer"}},
        "additionalProperties": False,
    }
    assert told({"author": "Do", "x-year": 2024}, schema) is None
    assert told({"x-year": "2024"}, schema) == "Metadata validation failed: Field 'x-year' must be of type integer"
    assert told({"x-year": 1, "year": 2}, schema) == "Metadata validation failed: Unknown field 'year'"
    assert told({"a": 1}, schema | {"additionalProperties": {"type": "string"}}) == (
        "Metadata validation failed: Field 'a' must be of type string"
    )


@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "(?=a)b"},
        {"pattern": r"(a)\1"},
        {"pattern": "(a{1000}){1000}"},
        {"patternProperties": {"(?!a)": True}},
        {"patternProperties": {"a": True}, "unevaluatedProperties": False},
        {"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": EVIL}}},
    ],
)
def test_a_pattern_without_linear_time_is_refused(schema):
    """When it is set; a schema that was kept before costs its documents alone."""
    with pytest.raises(ValidationFailedError):
        check_schema(schema)
    assert told({"a": "b"}, schema) == "Metadata validation failed: The metadata schema cannot be used"


def test_a_proper_schema_is_kept():
    """References to its own parts are fine."""
    check_schema(SCHEMA)
    check_schema({"$defs": {"name": {"type": "string"}}, "properties": {"author": {"$ref": "#/$defs/name"}}})
