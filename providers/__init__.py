"""Adapters, one a file: ``providers/foo.py`` with a function ``load(name, settings)`` answers to ``foo/<name>``.

``load`` returns an Embedder (makes vectors) or a System (ranks by itself). Heavy imports belong inside it.
"""
