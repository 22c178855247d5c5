"""Bounds of connections: idle ones are closed, the oldest idle one makes room, and an oversized message is read out."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

#: Largest number of connections, in all and of one address.
CONNECTIONS, PER_ADDRESS = 64, 48
#: Seconds in which a request must be complete, and in which its response must be sent.
REQUEST_SECONDS, RESPONSE_SECONDS = 10.0, 300.0
#: Longest time in which the rest of an invalid message is read and dropped, seconds.
DISCARD_SECONDS = 2.0


class BoundedProtocol(H11Protocol):
    """HTTP protocol of uvicorn with these bounds; websockets leave it when they are upgraded."""

    timer: asyncio.TimerHandle | None = None
    since = 0.0

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def connection_made(self, transport: Any) -> None:
        """Register a connection; above a bound, close the oldest idle one or, without any, this one."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._limit(REQUEST_SECONDS)
        others = [c for c in self.connections if c is not self]
        same = [c for c in others if _address(c) == _address(self)]
        for crowd, most in ((same, PER_ADDRESS), (others, CONNECTIONS)):
            if len(crowd) >= most:
                idle = [c for c in crowd if isinstance(c, BoundedProtocol) and c.idle]
                oldest = min(idle, key=lambda c: c.since, default=self)
                oldest.transport.close()
                self.connections.discard(oldest)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request, which must be complete in time."""
        if self.timer is None:
            self._limit(REQUEST_SECONDS)
        super().data_received(data)
        if not self.idle:
            self._limit(RESPONSE_SECONDS)

    def on_response_complete(self) -> None:
        """End the time of a request; uvicorn closes the connection if no other one follows soon."""
        self._limit(None)
        self.since = self.loop.time()
        super().on_response_complete()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Leave the connection to the websocket, whose pings detect browsers that vanished."""
        self._limit(None)
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._limit(None)
        super().connection_lost(exc)

    def _limit(self, seconds: float | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)


class DiscardingProtocol(WebSocketsSansIOProtocol):
    """Websocket protocol of uvicorn that drops the rest of an invalid message, such as one above the size limit.

    A socket closed with unread bytes is reset by the operating system, and the browser loses the close code with it.
    """

    def handle_parser_exception(self) -> None:
        """Send the close frame and the end of the stream, then read until the browser closes, for a bounded time."""
        if self.close_sent:
            return
        frame = self.conn.close_sent
        assert frame is not None
        self.queue.put_nowait({"type": "websocket.disconnect", "code": frame.code, "reason": frame.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.write_eof()
        self.close_sent = True
        self.close_timer = self.loop.call_later(DISCARD_SECONDS, self.transport.close)


def _address(connection: Any) -> str:
    client = getattr(connection, "client", None)
    return str(client[0]) if client else ""
