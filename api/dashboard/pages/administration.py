"""The pages that set things up and look after them."""

from api.dashboard.pages import audit, connections, keys, limits, system, tenants, users, webhooks

ROUTERS = (
    connections.router,
    webhooks.router,
    limits.router,
    keys.router,
    users.router,
    tenants.router,
    system.router,
    audit.router,
)
