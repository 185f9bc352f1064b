"""What pages load comes from here, and is what it was."""

import hashlib
import re

from api.dashboard.assets import STATIC_FOLDER, VENDORED, asset, vendored
from api.dashboard.rendering import TEMPLATES


def test_what_others_wrote_is_what_they_published():
    """Each vendored file has the hash that was noted when it was taken over, and none is there that was not noted."""
    folder = VENDORED.parent
    noted = vendored()
    assert {path.name for path in folder.iterdir() if path.suffix in {".js", ".css"}} == set(noted)
    for name, facts in noted.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == facts["sha256"], name


def test_the_address_of_a_file_changes_with_it():
    """So browsers may keep it; the attribute `integrity` has the hash in full."""
    style = asset("dashboard.css")
    digest = hashlib.sha256((STATIC_FOLDER / "dashboard.css").read_bytes()).hexdigest()
    assert style.url == f"/assets/dashboard.css?v={digest[:12]}"
    assert style.integrity.startswith("sha256-")


def test_no_template_needs_what_the_policy_refuses():
    """No inline script or style, no handler in an attribute, nothing that htmx would evaluate, no other host."""
    for path in sorted(TEMPLATES.rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        found = re.findall(
            r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|hx-on|hx-vals=.js:|hx-trigger=\"[^\"]*\[|https?://",
            text,
        )
        assert found == [], path.name


def test_no_script_puts_text_in_as_markup():
    """What comes from a document or a name goes in as text."""
    for path in sorted(STATIC_FOLDER.glob("*.js")):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), path.name
