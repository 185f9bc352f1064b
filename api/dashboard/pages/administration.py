"""The pages that set things up and look after them."""

from api.dashboard.pages import audit, connections, keys, limits, tenants

ROUTERS = (
    connections.router,
    limits.router,
    keys.router,
    tenants.router,
    audit.router,
)
