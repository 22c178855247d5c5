"""The server over real sockets: who is let in, what is answered, and that one browser's faults are its own."""

import asyncio
import contextlib
import json
import re
import socket
import struct
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from framecast.core.errors import UserError
from framecast.media.video import read_video
from framecast.web.server import MAX_FPS, PAGE, Bucket, Connection, Gate, make_app
from framecast.web.session import Session
from tests.web.playing import limits, make_player, serving

client = pytest.importorskip("websockets.sync.client")
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402


class Guest:
    """A browser without a window: it sends the given messages and draws nothing."""

    def __init__(self, url, origin=None, draws=True, path="/live"):
        address = url.replace("http", "ws") + path
        self.manager = client.connect(address, origin=origin or url, compression=None, max_size=None)
        self.socket = self.manager.__enter__()
        self.is_stochastic, self.frames, self.received = draws, [], []
        self.count = 0

    def hello(self):
        return self.until("hello")

    def ask(self, **message):
        self.count += 1
        self.socket.send(json.dumps({**message, "id": self.count}))
        return self.count

    def next(self, timeout=120):
        """The next message: a dict; of a frame with its pictures under `pictures`."""
        data = self.socket.recv(timeout)
        if isinstance(data, str):
            received = json.loads(data)
        else:
            (length,) = struct.unpack("<I", data[:4])
            received = json.loads(data[4 : 4 + length])
            side = int(((len(data) - 4 - length) // 3 // (1 + received["recorded"])) ** 0.5)
            received["pictures"] = np.frombuffer(data[4 + length :], np.uint8).reshape(-1, side, side, 3)
            if self.is_stochastic:
                self.socket.send(json.dumps({"type": "drawn", "frame": received["id"]}))
        self.received.append(received)
        return received

    def until(self, kind, test=lambda received: True):
        while True:
            received = self.next()
            if received["type"] == kind and test(received):
                return received

    def answer(self, **message):
        """The first frame that knows of this message."""
        number = self.ask(**message)
        return self.until("frame", lambda received: received["input"] >= number)

    def ending(self):
        """Code and reason with which the server closes."""
        try:
            while True:
                self.next()
        except ConnectionClosed as closed:
            return closed.rcvd.code, closed.rcvd.reason

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.manager.__exit__(*error)


@pytest.fixture(scope="module")
def player(tmp_path_factory):
    return make_player(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def url(player):
    with serving(player) as found:
        yield found


def get(url, **headers):
    """Status, headers and text of a page."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=120) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def fine(url):
    """Fail unless somebody new can play."""
    with Guest(url) as guest:
        assert guest.hello()["name"] == "run"
        assert guest.until("frame")["number"] == 0
        assert guest.answer(type="step")["number"] == 1


# ------------------------------------------------------------------------------------------------------------- pages


def test_page_loads_no_foreign_resources(url):
    status, headers, text = get(url + "/")
    assert status == 200
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    names = re.findall(r'(?:src|href)="([^"]+)"', text.decode())
    assert set(names) == {"data:,", "play.css", "play.js"}
    for file in sorted(PAGE.iterdir()):
        assert not re.search(r"https?://|//\w+\.|@import|\sstyle=|\son\w+=", file.read_text(encoding="utf-8")), (
            file.name
        )
        address = url + ("/" if file.name == "index.html" else f"/{file.name}")
        assert get(address)[2] == file.read_bytes()


def test_other_paths_are_not_found(url):
    for path in ("/docs", "/openapi.json", "/film/x.mp4", "/../session.py", "/film/..%2f..%2fetc%2fpasswd", "/play.py"):
        assert get(url + path)[0] == 404, path


# -------------------------------------------------------------------------------------------------------------- gate


@pytest.mark.parametrize(
    ("host", "origin", "token", "live", "sentence"),
    [
        ("127.0.0.1:80", None, None, False, None),
        ("localhost", None, None, False, None),
        ("[::1]:80", None, None, False, None),
        ("127.0.0.1:80", "http://127.0.0.1:80", None, True, None),
        ("LOCALHOST:80", "http://localhost:80", None, True, None),
        ("evil.example", None, None, False, "does not answer to the name 'evil.example'"),
        ("127.0.0.1.evil.example", None, None, False, "does not answer to the name"),
        ("10.0.0.7:80", None, None, False, "does not answer to the name"),
        ("", None, None, False, "does not answer to the name"),
        ("127.0.0.1:80", "http://evil.example", None, True, "comes from another place"),
        ("127.0.0.1:80", "http://127.0.0.1:81", None, True, "comes from another place"),
        ("127.0.0.1:80", "null", None, True, "comes from another place"),
        ("127.0.0.1:80", None, None, True, "comes from another place"),
        ("127.0.0.1:80", "http://evil.example", None, False, "comes from another place"),
    ],
)
def test_gate_refuses_foreign_requests(host, origin, token, live, sentence):
    problem = Gate().problem(host, origin, token, live)
    assert (problem is None) if sentence is None else (sentence in problem)


def test_gate_requires_token_outside_loopback():
    gate = Gate({"*", "lab"}, "secret")
    assert gate.problem("10.0.0.7:80", None, "secret", False) is None
    assert gate.problem("lab:80", None, "secret", False) is None
    for token in (None, "", "Secret", "ſecret"):
        assert "lacks the right token" in gate.problem("10.0.0.7:80", None, token, False)
    assert "does not answer" in gate.problem("evil.example", None, "secret", False)


def test_pages_and_sockets_pass_the_gate(player, url):
    assert get(url + "/", Host="evil.example")[0] == 403
    assert b"does not answer to the name" in get(url + "/", Host="evil.example")[2]
    assert get(url + "/", Origin="http://evil.example")[0] == 403
    for origin in ("http://evil.example", "null"):
        with pytest.raises(InvalidStatus, match="403"):
            Guest(url, origin)
    with serving(player, Gate(token="secret")) as locked:
        assert get(locked + "/")[0] == 403
        assert get(locked + "/?token=secret")[0] == 200
        assert get(locked + "/play.js")[0] == 200
        assert get(locked + "/film/x.mp4")[0] == 403
        with pytest.raises(InvalidStatus, match="403"):
            Guest(locked, path="/live?token=other")
        with Guest(locked, path="/live?token=secret") as guest:
            assert guest.hello()["name"] == "run"
    fine(url)


# ------------------------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        ("{", 1008, "messages are JSON"),
        ("", 1008, "messages are JSON"),
        ("[" * 9000, 1008, "messages are JSON"),
        ("[1]", 1008, "messages are JSON objects"),
        (b"\x00\x01", 1008, "messages are text"),
        (json.dumps({"type": "step", "more": "x" * (1 << 14)}), 1009, "at most 16384 bytes"),
        ("x" * (1 << 17), 1009, ""),
    ],
)
def test_malformed_message_closes_only_its_socket(url, text, code, sentence):
    with Guest(url) as other, Guest(url) as guest:
        guest.socket.send(text)
        found, reason = guest.ending()
        assert found == code
        assert sentence in reason
        other.hello()
        assert other.answer(type="step")["number"] == 1
    fine(url)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"type": "dance"}, "unknown message type"),
        ({}, "unknown message type"),
        ({"type": "turn", "name": "warmth", "value": 99}, "temperature lies in 0…2"),
        ({"type": "turn", "name": "warmth", "value": "x"}, "temperature lies in 0…2"),
        ({"type": "turn", "name": ["a"]}, "no such control"),
        ({"type": "pin", "values": {"7": 1}}, "a slider was set to a value it does not have"),
        ({"type": "pin", "values": {"x": 1}}, "pins are numbers"),
        ({"type": "pin", "values": {"²": 1}}, "pins are numbers"),
        ({"type": "pin", "values": [1]}, "pins are numbers"),
        ({"type": "free", "indices": "all"}, "a list of numbers"),
        ({"type": "act", "action": 17}, "an action is a number in 0…2"),
        ({"type": "act", "action": [0.5]}, "an action is a number in 0…2"),
        ({"type": "speed", "fps": 0}, "the speed lies in 0.1…240"),
        ({"type": "speed", "fps": None}, "the speed is a number"),
        ({"type": "speed", "fps": True}, "the speed is a number"),
        ({"type": "go", "frame": "last"}, "frame must be an integer"),
        ({"type": "reset", "start": 10**9}, "start must be in 0…"),
        ({"type": "reset", "start": {}}, "start must be in 0…"),
        ({"type": "record", "on": False}, "nothing is being recorded"),
    ],
)
def test_invalid_request_is_answered_with_a_complaint(url, message, sentence):
    with Guest(url) as guest:
        guest.ask(**message)
        assert sentence in guest.until("complaint")["message"]
        assert guest.answer(type="step")["number"] == 1  # and it goes on


def test_too_many_messages_end_the_socket(player):
    with serving(player, limits=limits(rate=1, burst=20)) as url, Guest(url) as guest, Guest(url) as other:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(40):
                guest.ask(type="speed", fps=5)
        assert guest.ending() == (1008, "at most 1 messages a second are read")
        other.hello()
        assert other.answer(type="step")["number"] == 1


def test_bucket_allows_burst_then_rate():
    bucket = Bucket(10, 5, now=0)
    assert [bucket.take(0) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.take(0.05)
    assert bucket.take(0.5)
    slow, fast = Bucket(10, 5, now=0), Bucket(10, 5, now=0)
    assert all(slow.take(i / 9) for i in range(500))
    assert not all(fast.take(i / 12) for i in range(500))


def test_connections_beyond_the_limit_are_refused(player):
    with serving(player, limits=limits(sessions=1)) as url:
        with Guest(url) as first:
            first.hello()
            with Guest(url) as second:
                assert "1 browser may play at once" in second.until("bye")["message"]
                assert second.ending()[0] == 1013
            assert first.answer(type="step")["number"] == 1
        until(lambda: free(url))


def free(url):
    with Guest(url) as guest:
        return guest.next()["type"] == "hello"


def until(test, seconds=120.0):
    """Wait until `test` holds."""
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def test_lost_connection_frees_its_slot(player):
    with serving(player, limits=limits(sessions=2)) as url, Guest(url) as stays:
        stays.hello()
        goes = Guest(url)
        goes.hello()
        goes.ask(type="play", on=True)
        goes.until("frame", lambda received: received["number"] > 2)
        # The wire is cut, as when a telephone leaves the shared: no farewell.
        goes.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        goes.socket.socket.shutdown(socket.SHUT_RDWR)
        goes.socket.socket.close()
        until(lambda: free(url))
        assert stays.answer(type="step")["number"] == 1


def test_unacknowledged_frames_stop_sending(url):
    with Guest(url, draws=False) as guest:
        guest.hello()
        guest.ask(type="speed", fps=MAX_FPS)
        guest.ask(type="play", on=True)
        frames = [guest.until("frame") for _ in range(2)]
        with contextlib.suppress(TimeoutError):
            while len(frames) < 9:
                frames.append(guest.next(timeout=0.5))
        assert len(frames) <= 4
        number = guest.received[-1]["id"]
        guest.socket.send(json.dumps({"type": "drawn", "frame": number}))
        assert guest.next()["number"] == guest.received[-2]["number"] + 1


def test_internal_error_closes_only_its_socket_and_is_reported(player, monkeypatch, capfd):
    def broken(self):
        raise RuntimeError("the roof is on fire")

    with serving(player) as url, Guest(url) as other:
        other.hello()
        with monkeypatch.context() as patch, Guest(url) as guest:
            guest.hello()
            patch.setattr(Session, "step", broken)
            guest.ask(type="step")
            assert "internal error" in guest.until("bye")["message"]
            assert guest.ending()[0] == 1011
        assert other.answer(type="step")["number"] == 1
    assert "the roof is on fire" in capfd.readouterr().err


def test_failed_step_pauses_and_reports_the_error(player, monkeypatch):
    def torn(self):
        raise UserError("frames hold values that are not finite")

    with serving(player) as url, Guest(url) as guest:
        guest.hello()
        with monkeypatch.context() as patch:
            patch.setattr(Session, "step", torn)
            guest.ask(type="play", on=True)
            received = guest.until("complaint")
        assert received == {"type": "complaint", "message": "frames hold values that are not finite", "playing": False}
        assert guest.answer(type="reset")["number"] == 0


# ---------------------------------------------------------------------------------------------------------- playing


def test_session_plays_and_pauses(url):
    with Guest(url) as guest:
        guest.hello()
        guest.ask(type="speed", fps=MAX_FPS)
        guest.ask(type="play", on=True)
        frames = [guest.until("frame") for _ in range(8)]
        numbers = [received["number"] for received in frames if received["number"]]
        assert numbers == list(range(1, 1 + len(numbers)))
        still = guest.answer(type="play", on=False)
        with pytest.raises(TimeoutError):
            guest.next(timeout=0.3)
        assert np.array_equal(guest.answer(type="go", frame=still["number"])["pictures"], still["pictures"])
        assert guest.answer(type="go", frame=1)["number"] == 1


def test_frame_rate_is_kept(player):
    """Frames are due one period apart, whatever keys bring forward; counted on the connection's own clock."""
    with serving(player) as url, Guest(url) as guest:
        guest.hello()
        guest.ask(type="speed", fps=20)
        guest.ask(type="play", on=True)
        guest.until("frame", lambda received: received["number"] == 1)
        began = time.monotonic()
        while guest.until("frame")["number"] < 11:
            guest.ask(type="act", action=2)
            guest.ask(type="act", action=None)
        # ten frames at 20 a second take half a second; a key brings one forward, but not the dream
        assert time.monotonic() - began > 0.42


def test_keys_reach_the_next_frame(url):
    with Guest(url) as guest:
        guest.hello()
        guest.ask(type="play", on=True)
        guest.until("frame", lambda received: received["number"] > 1)
        assert guest.answer(type="act", action=2)["action"] == 2


def test_video_is_deleted_with_its_connection(url):
    with Guest(url) as guest:
        guest.hello()
        guest.ask(type="record", on=True)
        for _ in range(5):
            guest.ask(type="step")
        guest.ask(type="record", on=False)
        film = guest.until("film")
        assert film["frames"] == 6
        status, headers, data = get(f"{url}/film/{film['name']}")
        assert status == 200
        assert headers["Content-Type"] == "video/mp4"
        assert b"ftyp" in data[:12]
        path = f"{url}/film/{film['name']}"
    until(lambda: get(path)[0] == 404)


def test_downloaded_video_can_be_read(url, tmp_path):
    with Guest(url) as guest:
        guest.hello()
        guest.ask(type="speed", fps=12)
        guest.ask(type="record", on=True)
        for _ in range(4):
            guest.ask(type="step")
        guest.ask(type="record", on=False)
        name = guest.until("film")["name"]
        (tmp_path / "dream.mp4").write_bytes(get(f"{url}/film/{name}")[2])
    clip = read_video(tmp_path / "dream.mp4")
    assert len(clip.frames) == 5
    assert clip.fps == 12
    assert clip.frames[0].std() > 10


def test_shutdown_while_writing_a_video_is_silent(player, capsys):
    """After its time of grace the web server cancels what still runs; its users see no trace of that."""

    class Wire:
        sent = 0

        async def send_json(self, _):
            self.sent += 1

        async def send_bytes(self, _):
            self.sent += 1

        async def receive(self):
            await asyncio.Event().wait()

    async def live():
        shared, wire = make_app(player).state.shared, Wire()
        connection = Connection(shared, wire)
        task = asyncio.create_task(connection.run())
        while wire.sent < 2:  # hello and the first frame
            await asyncio.sleep(0.01)
        writing = asyncio.Event()

        async def film(*_):
            writing.set()
            await asyncio.Event().wait()

        shared.film = film
        connection.inbox += [{"type": "record", "on": True}, {"type": "record", "on": False}]
        connection.wake.set()
        await writing.wait()
        task.cancel()
        await task
        assert not shared.connections
        shared.close()

    asyncio.run(asyncio.wait_for(live(), 60))
    assert capsys.readouterr() == ("", "")
