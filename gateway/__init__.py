"""Avara Gateway: connects a hospital's PACS to Avara, a cloud radiology service."""

__version__ = "0.1.0"
