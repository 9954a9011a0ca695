"""SPIFFE identities. The value itself is part of the model, because delivery and policy need it too."""

from fairlead.model.identity import Identity

__all__ = ["Identity"]
