"""Documents under the metadata rules their batch was submitted with: settled once, for every door, in the manifest."""

from temporalio.testing import ActivityEnvironment

from activities.manifest import ManifestActivities
from ingather.adapters.memory.blob_store import InMemoryBlobStore
from ingather.adapters.zip_archive import ZipArchiveReader
from ingather.domain.keys import metadata_rules_key
from ingather.models.metadata import MetadataRules
from tests.support.submissions import TENANT, Submission
from tests.support.zips import zip_of


async def build(submission: Submission, rules: MetadataRules) -> None:
    await submission.prepare()
    content = rules.model_dump_json().encode()
    key = metadata_rules_key(TENANT, content)
    await InMemoryBlobStore.put(submission.blobs, key, content)
    activities = ManifestActivities(submission.blobs, submission.catalog, ZipArchiveReader(), submission.limits)
    request = submission.request().model_copy(update={"metadata_rules_key": key})
    await ActivityEnvironment().run(activities.build_manifest, request)


async def test_a_document_that_does_not_fit_fails_alone():
    """It is refused with the contract's words before it runs; its neighbours go on."""
    submission = Submission()
    await submission.add("good.txt", b"one", author="Doe")
    await submission.add("bad.txt", b"two", year=2024)
    await build(submission, MetadataRules(schemas=({"required": ["author"]},)))

    good, bad = submission.refs()
    assert (good.refused, good.metadata) == (None, {"author": "Doe"})
    assert (bad.refused.code, bad.refused.message) == (
        "metadata_invalid",
        "Metadata validation failed: Missing required field 'author'",
    )


async def test_a_document_of_which_nothing_was_said_gets_the_defaults():
    """In the manifest and in the catalog; what was said stays as it is."""
    submission = Submission()
    await submission.add("plain.txt", b"one")
    await submission.add("described.txt", b"two", author="Doe")
    await build(submission, MetadataRules(defaults={"team": "x"}))

    assert [ref.metadata for ref in submission.refs()] == [{"team": "x"}, {"author": "Doe"}]
    assert [row.metadata for row in await submission.rows()] == [{"team": "x"}, {"author": "Doe"}]


async def test_what_an_archive_came_with_holds_for_all_that_is_in_it():
    """Each of its documents has the metadata, or the refusal."""
    submission = Submission()
    await submission.add("good.zip", zip_of({"a.txt": b"one", "b.txt": b"two"}), author="Doe")
    await submission.add("bad.zip", zip_of({"c.txt": b"three"}))
    await build(submission, MetadataRules(schemas=({"required": ["author"]},)))

    refs = submission.refs()
    assert [(ref.filename, ref.refused and ref.refused.code) for ref in refs] == [
        ("a.txt", None),
        ("b.txt", None),
        ("c.txt", "metadata_invalid"),
    ]
    assert refs[0].metadata == {"author": "Doe"}
