"""Protobuf messages as JSON, with every packed message unfolded (`fairlead.envoy.protojson`, for commands)."""

from __future__ import annotations

from fairlead.envoy.protojson import decode, load_type, to_json

__all__ = ["decode", "load_type", "to_json"]
