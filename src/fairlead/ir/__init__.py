"""Mesh facts: frozen values that kinds derive from objects, and the tables that hold them. One module per noun.

Nothing in here knows an API kind, and a fact never holds a position, a resource version or a timestamp that does not
decide an order: two objects that mean the same make equal facts.
"""
