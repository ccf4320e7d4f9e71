"""Plugins' files that are fetched: from an ``https://`` URL, or as an image from a registry (``oci://``)."""
