"""Hostler: a self-hosted server for the Claude Managed Agents API."""

__version__ = "0.1.0"
