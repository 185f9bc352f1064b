"""The dashboard: pages for people, rendered on the server, alive through htmx and the events of a batch.

It knows what everybody knows: every page asks ``/v1`` for what it shows, in this process, with the credential the
browser sent (``public_api``). It imports no service, no port and no model, so whatever a page can do, a client can.

How a page is added
-------------------

1. A file in ``pages/`` with a ``router = APIRouter(include_in_schema=False)``. A page is a function::

       @router.get("/webhooks")
       @public                                  # the page itself asks nobody; what it asks of /v1 does
       async def show_webhooks(request: Request, api: Api) -> Response:
           listed = await api.get("/v1/webhook-endpoints", limit=50)
           return await page(request, api, "webhooks/list.html", title="Webhooks", listed=listed)

   A problem that ``/v1`` answers is raised as ``ApiRefusal`` and becomes a page, a note in place of a fragment, or the
   way to sign in. A page that can say something better catches it.
2. The router's name in ``pages/__init__.py``, and a line in ``navigation.py`` where it belongs in the menu.
3. A template in ``templates/`` that extends ``layout.html``: the blocks are ``content`` and, beside the heading,
   ``actions``. ``parts/macros.html`` has status, progress, time, size, pager, empty state, button and dialog; a page that
   needs a new one puts it there.
4. What is done goes through a form with ``{{ csrf_field() }}`` that posts to the page's own path: the function reads it with
   ``await form_of(request)``, calls ``api.send`` and answers ``see(request, "/where-to")``. The form works without scripts.
   Where it hurts, the button opens a ``confirm`` dialog first.
5. What changes while one looks is a fragment of its own: the function renders it with ``fragment(...)`` for
   ``?fragment=<name>``, and the template asks for it with ``hx-get`` and ``hx-trigger`` (``every 2s``, or ``sse:batch.progress``
   below an element with ``sse-connect``). ``fragment`` answers 204 where nothing has changed since, so nothing flickers.

No inline script or style passes the Content-Security-Policy, and no attribute that htmx would evaluate: widths of bars are
attributes of SVG, behaviour is in ``static/dashboard.js`` or a file of the page's own (block ``scripts``), colours and sizes
are the variables on top of ``static/dashboard.css``. Times are ``{{ ui.time(value) }}``: UTC without scripts, the viewer's
zone with them, UTC on hover.

A page is tested twice: what it says, in ``tests/unit/dashboard`` with the application in the test's own process; that it works
in a browser, without errors in the console and without violations of accessibility, in ``tests/e2e/test_dashboard.py``.
"""
