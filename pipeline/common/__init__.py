"""Shared by all packages: records, files, findings, tables, pages, charts, bootstrap."""
