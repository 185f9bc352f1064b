"""Blobs in any S3-compatible object storage."""

from ingather.adapters.s3.blob_store import S3BlobStore

__all__ = ["S3BlobStore"]
