"""Hubs: stores of modules in folders, on S3, on web servers, and wherever else fsspec reaches."""

from matmosaic_hub.opener import HubOpener
from matmosaic_hub.store import HubStore

__all__ = ["HubOpener", "HubStore"]
