"""The rules a tenant has set for its documents' metadata, as a batch takes them along."""

from collections.abc import Awaitable, Callable

from ingather.models.accounts import Tenant
from ingather.models.metadata import MetadataRules

RulesOf = Callable[[str, str], Awaitable[MetadataRules]]
"""The metadata rules of a tenant's collection."""


async def no_rules(_tenant_id: str, _collection: str) -> MetadataRules:
    """Metadata is taken as it comes."""
    return MetadataRules()


def rules_in(find: Callable[[str], Awaitable[Tenant | None]]) -> RulesOf:
    """Rules as the tenants' settings have them at the moment."""

    async def rules_of(tenant_id: str, collection: str) -> MetadataRules:
        tenant = await find(tenant_id)
        if tenant is None:
            return MetadataRules()
        schema = tenant.schema_for(collection)
        return MetadataRules(defaults=tenant.default_metadata, schemas=() if schema is None else (schema,))

    return rules_of
