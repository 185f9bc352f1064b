"""The embedded stack: real Temporal, S3 and Redis servers from wheels, supervised, on loopback, in one data directory."""
