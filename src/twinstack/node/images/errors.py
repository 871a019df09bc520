"""What goes wrong with images."""

from __future__ import annotations


class ImageError(Exception):
    """An image cannot be had as it is; the text is for whoever asked for it."""


class ImageInUse(ImageError):
    """Containers are made of it, so it stays."""
