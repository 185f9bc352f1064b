"""The commands that speak to a server, one file a subject."""
