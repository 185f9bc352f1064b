"""What a QR code says, made fit for names, messages and tables."""

MAX_CODE_LENGTH = 500


def printable_code(text: str) -> str:
    """The code on one line, without control characters and blanks at its ends, cut to 500 characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()[:MAX_CODE_LENGTH]
