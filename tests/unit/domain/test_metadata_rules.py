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


def test_a_proper_schema_is_kept():
    """References to its own parts are fine."""
    check_schema(SCHEMA)
    check_schema({"$defs": {"name": {"type": "string"}}, "properties": {"author": {"$ref": "#/$defs/name"}}})
