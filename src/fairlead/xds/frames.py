"""Frames of HTTP/2 as bytes (RFC 9113, section 4.1): what is read and written without its state machine.

Once a stream is open, all that happens on it for hours is plain DATA frames, and a state machine that makes objects of
each costs more than all the rest of a push. So these are taken and made here; everything else is the library's.
"""

from __future__ import annotations

from struct import Struct

CHUNK = 16_384
"""The largest payload of a frame that is sent or taken: what every peer must take (section 4.2)."""
PREFACE = 24
"""Bytes with which a client begins (section 3.4)."""
FIRST_WINDOW = 1 << 14
"""Bytes that a client may send on a new stream before they are read."""
HEAD = 9
DATA, WINDOW_UPDATE = 0, 8
STREAM = 0x7FFF_FFFF
"""The bits of a stream's number; the highest bit means nothing."""
_HEAD = Struct(">BHBBL")
unpack_head = _HEAD.unpack_from
"""The head that begins somewhere, as it stands: high and low part of the length, kind, flags, stream."""
_UPDATE = Struct(">BHBBLL")


def data_head(stream: int, length: int) -> bytes:
    """What stands before a DATA frame's bytes, of which there are at most `CHUNK`."""
    return _HEAD.pack(0, length, DATA, 0, stream)


def window_update(stream: int, more: int) -> bytes:
    """A frame that lets the peer send more on a stream; stream 0 is the connection."""
    return _UPDATE.pack(0, 4, WINDOW_UPDATE, 0, stream, more)
