"""Verbs on resources: the rules of the API. Every transaction begins here; HTTP is not known here."""
