"""Mixtures of sources: a declared plan to the token, and the arithmetic that reads it. No lists of documents anywhere."""
