"""What the ports of a Service or ServiceEntry speak."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.analyze import shape
from fairlead.analyze.document import SERVICE, Document
from fairlead.ir.protocol import Protocol, parse_protocol, port_protocol


def protocols(owner: Document) -> Iterator[tuple[int, Protocol]]:
    """The ports of a Service or ServiceEntry and what they speak."""
    for port in shape.items(owner.spec, "ports"):
        number = shape.number(port, "port") or shape.number(port, "number") or 0
        if owner.sort == SERVICE:
            transport = shape.text(port, "protocol") or "TCP"
            yield number, port_protocol(number, shape.text(port, "name"), shape.text(port, "appProtocol"), transport)
        else:
            yield number, parse_protocol(shape.text(port, "protocol"))
