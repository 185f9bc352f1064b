"""The rules a tenant has set for its documents' metadata, as a batch takes them along."""

from collections.abc import Awaitable, Callable

from ingather.models.metadata import MetadataRules
from ingather.ports.accounts import Accounts

RulesOf = Callable[[str, str], Awaitable[MetadataRules]]
"""The metadata rules of a tenant's collection."""


async def no_rules(_tenant_id: str, _collection: str) -> MetadataRules:
    """Metadata is taken as it comes."""
    return MetadataRules()


def rules_in(accounts: Accounts) -> RulesOf:
    """Rules as the tenants' settings have them at the moment."""

    async def rules_of(tenant_id: str, collection: str) -> MetadataRules:
        tenant = await accounts.get_tenant(tenant_id)
        if tenant is None:
            return MetadataRules()
        schema = tenant.schema_for(collection)
        return MetadataRules(defaults=tenant.default_metadata, schemas=() if schema is None else (schema,))

    return rules_of
