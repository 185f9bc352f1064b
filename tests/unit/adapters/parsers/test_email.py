"""E-mail: headers, the best body, attachments, and budgets."""

from email.message import EmailMessage

import pytest

from ingather.adapters.parsers.email import parse_email
from ingather.adapters.parsers.limits import ParseLimits
from ingather.models.errors import DocumentTooLargeError


def mail(text: str = "The coolant comes on Monday.") -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "Kühlmittel"
    message["From"] = "Mira <mira@dome.example>"
    message["To"] = "night@dome.example"
    message.set_content(text)
    return message


def test_headers_and_body() -> None:
    """The main headers and the body are the text, the subject is the title."""
    parsed = parse_email(mail().as_bytes(), ParseLimits())
    assert parsed.title == "Kühlmittel"
    assert parsed.text == (
        "Subject: Kühlmittel\nFrom: Mira <mira@dome.example>\nTo: night@dome.example\n\nThe coolant comes on Monday."
    )


def test_plain_text_goes_before_html() -> None:
    """Of two versions of the same body only one is taken."""
    message = mail("plain words")
    message.add_alternative("<p>marked-up words</p>", subtype="html")
    text = parse_email(message.as_bytes(), ParseLimits()).text
    assert "plain words" in text
    assert "marked-up" not in text


def test_html_alone_is_read() -> None:
    """A body that is HTML only becomes its visible text."""
    message = EmailMessage()
    message["Subject"] = "x"
    message.set_content("<html><p>20 m/s &amp; more</p></html>", subtype="html")
    assert "20 m/s & more" in parse_email(message.as_bytes(), ParseLimits()).text


def test_attachments_are_named_and_text_is_read() -> None:
    """Attached text and e-mails are read; of other files the name is told."""
    message = mail()
    message.add_attachment("lens,4\n", subtype="csv", filename="stock.csv")
    message.add_attachment(b"\x00\x01", maintype="image", subtype="png", filename="dome.png")
    message.add_attachment(mail("an older letter"))
    text = parse_email(message.as_bytes(), ParseLimits()).text
    assert "[stock.csv]\nlens,4" in text
    assert "[dome.png]" in text
    assert "an older letter" in text


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32-be"])
def test_the_encoding_of_a_text_editor_does_not_hide_the_headers(codec: str) -> None:
    """An e-mail saved by one, with a byte order mark or without, is still an e-mail."""
    source = "Subject: Dome\nFrom: a@b.example\n\nHello"
    parsed = parse_email(source.encode(codec), ParseLimits())
    assert (parsed.title, parsed.text) == ("Dome", "Subject: Dome\nFrom: a@b.example\n\nHello")


@pytest.mark.parametrize(
    "broken",
    [
        b"Subject: =?utf-9?b?!!!?=\n\nbody",
        b"Subject: =?utf-8?b?a?=\n\nbody",
        b"Content-Type: text/plain; charset=nonsense\n\nbody",
        b'Content-Type: text/plain; charset="utf\x008"\n\nbody',
        b"Content-Disposition: attachment; filename*=idna''%80..%81\n\nbody",
        b"Content-Type: multipart/mixed; boundary=x\n\n--x\nbody",
        b"Content-Transfer-Encoding: base64\n\nb*o*d*y",
        b"Subject: \xff\xfe\n\nbody",
    ],
)
def test_malformed_mail_is_read_as_far_as_it_goes(broken: bytes) -> None:
    """No header and no encoding is broken enough to fail the document."""
    parse_email(broken, ParseLimits())


@pytest.mark.parametrize(("codec", "body"), [("utf-8", "utf-8"), ("utf-8", "latin-1"), ("latin-1", "latin-1")])
def test_headers_of_bytes_as_they_are_are_read(codec: str, body: str) -> None:
    """A program that never heard of encoded words writes UTF-8, or what its body is in."""
    source = f"Subject: Größe\nContent-Type: text/plain; charset={body}\n\nHello"
    assert parse_email(source.encode(codec), ParseLimits()).title == "Größe"


def test_a_name_of_encoded_words_is_read() -> None:
    """No standard allows them there, and most programs write them."""
    source = b'Content-Disposition: attachment; filename="=?utf-8?q?L=C3=A4nge.txt?="\n\n4 m'
    assert "[Länge.txt]" in parse_email(source, ParseLimits()).text


def test_too_many_parts_are_refused() -> None:
    """A mail that is built to exhaust its reader meets a named limit."""
    message = mail()
    for number in range(20):
        message.add_attachment("x", filename=f"{number}.txt")
    with pytest.raises(DocumentTooLargeError, match="mail_parts"):
        parse_email(message.as_bytes(), ParseLimits(max_mail_parts=10))


def test_too_deep_mails_are_refused() -> None:
    """E-mails within e-mails end at a named limit."""
    message = mail()
    for _ in range(12):
        outer = mail()
        outer.add_attachment(message)
        message = outer
    with pytest.raises(DocumentTooLargeError, match="mail_depth"):
        parse_email(message.as_bytes(), ParseLimits(max_mail_depth=10))
