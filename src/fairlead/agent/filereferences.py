"""Which files of its host a configuration has Envoy ask its agent for, found without parsing it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig
from google.protobuf.message import DecodeError

from fairlead.envoy.names import FILE, FILES
from fairlead.envoy.upstreamtls import SDS_CLUSTER

_PREFIX = FILE.encode()
_PREFIXES = tuple(one.encode() for one in FILES)
_NAME = re.compile(rb"\n([\x80-\xff]{0,2}[\x01-\x7f])(?=" + b"|".join(_PREFIXES) + rb")")
"""How `SdsSecretConfig.name` (field 1) looks on the wire, up to the text: tag and length."""
_SOURCE = 0x12
"""The tag of `SdsSecretConfig.sds_config`, which follows."""
_SIZE = re.compile(rb"[\x80-\xff]{0,3}[\x00-\x7f]")


def named(body: bytes) -> tuple[str, ...]:
    """The secrets of files that a serialised resource has Envoy ask its agent for, sorted.

    Most resources have none, so that they are not parsed: inside of any message, and of any Any, the reference to a
    secret (`SdsSecretConfig`) stands as the same bytes.
    """
    return tuple(sorted(set(_references(body)))) if may_name(body) else ()


def may_name(body: bytes) -> bool:
    """Whether there can be names of files in any of the resources of a response: one look at all of them."""
    return _PREFIX in body


def _references(body: bytes) -> Iterator[str]:
    for match in _NAME.finditer(body):
        after = match.end() + _length(match[1])
        if after >= len(body) or body[after] != _SOURCE:
            continue
        size = _SIZE.match(body, after + 1)
        if size is None:
            continue
        try:
            found = SdsSecretConfig.FromString(body[match.start() : size.end() + _length(size[0])])
        except DecodeError:
            continue
        services = found.sds_config.api_config_source.grpc_services
        if any(one.envoy_grpc.cluster_name == SDS_CLUSTER for one in services):
            yield found.name


def _length(varint: bytes) -> int:
    return sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(varint))
