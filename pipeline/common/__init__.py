"""Shared by all packages: files, paths, errors, settings, tables, pages, charts, bootstrap."""
