"""Bounds of connections over real sockets: idle ones do not keep visitors out, and slow ones are closed."""

import contextlib
import socket
import time
import urllib.request

import pytest

from framecast.web import connections
from tests.web.playing import make_player, serving

pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def player(tmp_path_factory):
    return make_player(tmp_path_factory.mktemp("data") / "d", kind="plain", frames=20)


def place(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def test_idle_connections_do_not_keep_visitors_out(player):
    with serving(player) as url:
        idle = [socket.create_connection(place(url)) for _ in range(120)]
        for _ in range(3):
            with urllib.request.urlopen(url, timeout=120) as answer:
                assert answer.status == 200
        for connection in idle:
            connection.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "])
def test_requests_that_are_never_complete_are_closed(player, monkeypatch, sent):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    with serving(player) as url, socket.create_connection(place(url)) as connection:
        connection.sendall(sent)
        connection.settimeout(120)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(10) == b""


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: [x]\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://[\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
        b"GET /%ff%fe?token=%ff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: [x]\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ],
)
def test_invalid_headers_are_refused_politely(player, capfd, head):
    with serving(player) as url, socket.create_connection(place(url)) as connection:
        connection.sendall(head)
        connection.settimeout(120)
        assert connection.recv(20).split()[1][:1] == b"4"
    assert "Traceback" not in capfd.readouterr().err


FRAMES = [
    (b'{"type": "speed", "fps": ' + b"9" * 4000 + b"}", 1),
    (b'{"type": "turn", "name": "x", "value": ' + b"9" * 4000 + b"}", 1),
    (b'{"type": "act", "action": ' + b"9" * 4000 + b"}", 1),
    (b"\xff\xfe\xfd", 1),
    (b"", 8),
]


@contextlib.contextmanager
def upgraded(url):
    """A TCP connection after the handshake of the websocket."""
    host = url.removeprefix("http://")
    request = (
        f"GET /live HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with socket.create_connection(place(url)) as connection:
        connection.settimeout(120)
        connection.sendall(request.encode())
        assert connection.recv(2000).startswith(b"HTTP/1.1 101")
        yield connection


@pytest.mark.parametrize(("payload", "kind"), FRAMES)
def test_absurd_messages_and_early_leaving_print_no_traceback(player, capfd, payload, kind):
    with serving(player) as url:
        with upgraded(url) as connection:
            size = bytes([128 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
            connection.sendall(bytes([128 | kind]) + size + bytes(4) + payload)
            connection.recv(100)
        time.sleep(0.2)
        with urllib.request.urlopen(url, timeout=120) as answer:
            assert answer.status == 200
    assert "Traceback" not in capfd.readouterr().err


#: Starts of messages that are closed before they end -> close code: of 1 GiB, and of a reserved type.
UNFINISHED = [(b"\x81\xff" + (1 << 30).to_bytes(8, "big") + bytes(4), 1009), (b"\x83\xfe\xff\xff" + bytes(4), 1002)]


@pytest.mark.parametrize(("head", "code"), UNFINISHED)
def test_rest_of_an_invalid_message_does_not_reset_the_connection(player, head, code):
    with serving(player) as url, upgraded(url) as connection:
        connection.sendall(head + bytes(1 << 17))
        received = b""
        while part := connection.recv(1 << 16):  # to the end of the stream: a reset raises
            received += part
        assert b"\x88" + bytes([len(received) - received.rindex(b"\x88") - 2]) + code.to_bytes(2, "big") in received
        for _ in range(4):
            connection.sendall(bytes(1 << 16))
            time.sleep(0.01)


def test_endless_invalid_message_is_cut_off(player, monkeypatch):
    monkeypatch.setattr(connections, "DISCARD_SECONDS", 0.2)
    with serving(player) as url, upgraded(url) as connection:
        connection.sendall(UNFINISHED[0][0])
        parts = iter(range(2000))
        with contextlib.suppress(ConnectionError):
            for _ in parts:
                connection.sendall(bytes(1 << 10))
                time.sleep(0.01)
        assert next(parts, None) is not None
