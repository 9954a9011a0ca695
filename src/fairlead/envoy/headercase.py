"""HTTP/1.1 headers as they were written (ProxyConfig `proxyHeaders.preserveHttp1HeaderCase`)."""

from __future__ import annotations

from envoy.config.core.v3.protocol_pb2 import Http1ProtocolOptions
from envoy.extensions.http.header_formatters.preserve_case.v3.preserve_case_pb2 import PreserveCaseFormatterConfig

from fairlead.envoy.pack import pack

_FORMATTER = "preserve_case"


def keep_case(options: Http1ProtocolOptions) -> None:
    """Have Envoy remember how a client or server writes names of headers, and write them so itself."""
    formatter = options.header_key_format.stateful_formatter
    formatter.name = _FORMATTER
    formatter.typed_config.CopyFrom(pack(PreserveCaseFormatterConfig()))
