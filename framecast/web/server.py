"""Web server of `framecast play`: one page, one websocket per browser, access control.

All model work runs on one thread with one torch thread; sockets wait for it without blocking each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import secrets
import struct
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import torch
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, PlainTextResponse, Response

from framecast.core.errors import UserError
from framecast.media.write import write_video
from framecast.web.actions import finite
from framecast.web.player import Player
from framecast.web.session import Complaint, Recording, Session

T = TypeVar("T")

PAGE = Path(__file__).parent / "page"
#: Static files, path -> (file name, media type). They contain nothing about the run.
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/play.css": ("play.css", "text/css; charset=utf-8"),
    **{
        f"/{name}": (name, "text/javascript; charset=utf-8")
        for name in ("play.js", "connection.js", "screen.js", "pad.js", "sliders.js")
    },
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
#: Close codes of a websocket (RFC 6455).
POLICY, TOO_BIG, FAULT, LATER = 1008, 1009, 1011, 1013

#: Largest number of frames sent to a browser and not yet acknowledged as drawn.
_IN_FLIGHT = 2
#: Shortest time between two frames, seconds, also after a key press.
_APART = 1 / 60
#: Highest frame rate of a browser, 1/s.
MAX_FPS = 240.0


@dataclass(frozen=True)
class Limits:
    """Limits of the server.

    Attributes:
        sessions: browsers connected at once.
        message: size of one message, bytes.
        rate: sustained messages per second.
        burst: messages at once.
    """

    sessions: int = 4
    message: int = 1 << 14
    rate: float = 200.0
    burst: int = 400


@dataclass(frozen=True)
class Gate:
    """Access control by host name, origin and token.

    Attributes:
        hosts: names and addresses accepted besides loopback; "*" accepts every numeric address (a page under a foreign
            name that resolves to this machine is refused).
        token: token required in the URL; None requires none.
    """

    hosts: Collection[str] = ()
    token: str | None = None

    def problem(self, host: str, origin: str | None, token: str | None, live: bool) -> str | None:
        """Reason why a request is refused; None if it is accepted. live: the request opens a websocket."""
        name = _host_name(host)
        if not self._known(name):
            return f"this server does not answer to the name {name[:80]!r}; open the address it printed"
        if origin is not None or live:  # a foreign page may send a request, but must not open a socket
            scheme, _, netloc = (origin or "").partition("://")
            if scheme.lower() not in ("http", "https") or netloc.lower() != host.lower():
                return "this page comes from another place; open the address the server printed"
        if self.token is not None and not secrets.compare_digest((token or "").encode(), self.token.encode()):
            return "the address lacks the right token; open the whole address that the server printed"
        return None

    def _known(self, name: str) -> bool:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost" or name in self.hosts
        return address.is_loopback or "*" in self.hosts or name in self.hosts


def _host_name(host: str) -> str:
    """Name in a Host header; empty if it is invalid."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class Bucket:
    """Token bucket: `burst` messages at once, `rate` per second sustained."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate, self.burst, self.left, self.then = rate, burst, float(burst), now

    def take(self, now: float) -> bool:
        """Whether one more message is allowed at time `now`, seconds."""
        self.left = min(self.burst, self.left + (now - self.then) * self.rate) - 1
        self.then = now
        return self.left >= 0


class AppState:
    """State shared by all connections: the player, the thread of the model, recorded videos, open connections."""

    def __init__(self, player: Player, gate: Gate, limits: Limits) -> None:
        self.player, self.gate, self.limits = player, gate, limits
        self.connections: set[Connection] = set()
        self.films: dict[str, Path] = {}
        self.folder = tempfile.TemporaryDirectory(prefix="framecast-play-")
        self.worker = ThreadPoolExecutor(1, "model", initializer=torch.set_num_threads, initargs=(1,))

    async def compute(self, work: Callable[[], T]) -> T:
        """Result of `work`, computed on the thread of the model."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, work)

    async def film(self, recording: Recording, old: str | None) -> str:
        """Name of the written video of a recording; `old` is deleted."""
        if old is not None:
            self.drop(old)
        name = f"{secrets.token_urlsafe(12)}.mp4"
        path = Path(self.folder.name) / name
        await asyncio.to_thread(write_video, recording.film(), path, recording.fps)
        self.films[name] = path
        return name

    def drop(self, name: str) -> None:
        """Delete a video."""
        if path := self.films.pop(name, None):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop the thread of the model and delete the videos."""
        self.worker.shutdown(wait=False, cancel_futures=True)
        self.folder.cleanup()


def make_app(player: Player, gate: Gate | None = None, limits: Limits | None = None) -> FastAPI:
    """Application with page, websocket and videos behind the gate. `app.state.shared` is the shared `AppState`."""
    shared = AppState(player, gate or Gate(), limits or Limits())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield
        shared.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.shared = shared

    @app.middleware("http")
    async def guard(request: Request, answer: Any) -> Response:
        # Style and scripts are static and requested without the token.
        token = (
            shared.gate.token
            if request.url.path in FILES and request.url.path != "/"
            else request.query_params.get("token")
        )
        problem = shared.gate.problem(request.headers.get("host", ""), request.headers.get("origin"), token, live=False)
        if problem is not None:
            return PlainTextResponse(f"{problem}\n", 403, headers=HEADERS)
        response: Response = await answer(request)
        response.headers.update(HEADERS)
        return response

    def page(path: str) -> Callable[[], Response]:
        file, kind = FILES[path]

        def answer() -> Response:
            return Response((PAGE / file).read_bytes(), media_type=kind)

        return answer

    for path in FILES:
        app.get(path)(page(path))

    @app.get("/film/{name}")
    def film(name: str) -> Response:
        path = shared.films.get(name)
        if path is None or not path.is_file():
            return PlainTextResponse("this video was deleted; record it again\n", 404)
        return FileResponse(path, media_type="video/mp4", filename="dream.mp4")

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        problem = shared.gate.problem(
            socket.headers.get("host", ""),
            socket.headers.get("origin"),
            socket.query_params.get("token"),
            live=True,
        )
        if problem is not None:
            await socket.close(POLICY, problem)  # before accepting: the handshake is refused
            return
        with contextlib.suppress(WebSocketDisconnect, OSError, RuntimeError):  # it left before it was accepted
            await socket.accept()
        await Connection(shared, socket).run()

    return app


class ClientDisconnected(Exception):
    """The browser disconnected or is disconnected. code, reason: sent to the browser; code None if it left itself."""

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Connection:
    """Websocket of one browser: requests are handled in order, and frames are sent at its frame rate while it plays."""

    def __init__(self, shared: AppState, socket: WebSocket) -> None:
        self.shared, self.socket = shared, socket
        self.inbox: deque[dict[str, Any]] = deque()
        self.wake = asyncio.Event()
        self.left: ClientDisconnected | None = None
        self.playing, self.fps = False, min(shared.player.fps, MAX_FPS)
        self.due = self.last = 0.0
        self.eager = False
        self.sent = self.drawn = self.input = 0
        self.film: str | None = None
        self.session: Session

    async def run(self) -> None:
        """Serve the socket until it closes; any error closes this socket only."""
        shared = self.shared
        try:
            if len(shared.connections) >= shared.limits.sessions:
                seats = "1 browser" if shared.limits.sessions == 1 else f"{shared.limits.sessions} browsers"
                raise ClientDisconnected(
                    LATER, f"{seats} may play at once and all seats are taken; close another page and reload"
                )
            shared.connections.add(self)
            self.session = await shared.compute(lambda: Session(shared.player))
            await self.socket.send_json({**shared.player.hello(), "speed": self.fps})
            reader = asyncio.create_task(self._read())
            try:
                await self._show(still=True)
                await self._play()
            finally:
                reader.cancel()
        except ClientDisconnected as left:
            if left.code is not None:
                await self._bye(left.code, left.reason)
        except (WebSocketDisconnect, OSError):
            pass  # disconnected while a frame was being sent
        except asyncio.CancelledError:
            pass  # the server shuts down, e.g. while a video is being written
        except Exception as error:
            if self.left is None and not _was_closed(error):
                traceback.print_exc()
                await self._bye(FAULT, "internal error of the server; see its console, then reload the page")
        finally:
            shared.connections.discard(self)
            if hasattr(self, "session"):
                with contextlib.suppress(RuntimeError):  # the thread has ended; the recorder finishes the game
                    await shared.compute(self.session.close)
            if self.film is not None:
                shared.drop(self.film)

    async def _bye(self, code: int, reason: str) -> None:
        with contextlib.suppress(Exception):  # it may already be disconnected
            await self.socket.send_json({"type": "bye", "message": reason})
            await self.socket.close(code, reason[:120])

    # ------------------------------------------------------------------------------------------------- what comes in

    async def _read(self) -> None:
        """Put messages of the browser into the inbox, within the limits."""
        limits, loop = self.shared.limits, asyncio.get_running_loop()
        bucket = Bucket(limits.rate, limits.burst, loop.time())
        try:
            while True:
                message = await self.socket.receive()
                if message["type"] == "websocket.disconnect":
                    raise ClientDisconnected()
                text = message.get("text")
                if text is None:
                    raise ClientDisconnected(POLICY, "messages are text")
                if len(text.encode()) > limits.message:
                    raise ClientDisconnected(TOO_BIG, f"a message has at most {limits.message} bytes")
                if not bucket.take(loop.time()) or len(self.inbox) >= limits.burst:
                    raise ClientDisconnected(POLICY, f"at most {limits.rate:g} messages a second are read")
                self.inbox.append(_parsed(text))
                self.wake.set()
        except ClientDisconnected as left:
            self.left = left
            self.wake.set()

    # ---------------------------------------------------------------------------------------------- what is done

    async def _play(self) -> None:
        """Handle requests and step when a frame is due, until `ClientDisconnected`."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wait(loop)
            if self.left is not None:
                raise self.left
            changed = await self._answer_all()
            now = loop.time()
            if self.playing and self.sent - self.drawn < _IN_FLIGHT and now >= self._next():
                await self._step(now)
            elif changed:
                await self._show(still=not self.playing)

    def _next(self) -> float:
        """Time of the next frame, seconds: its scheduled time, or after a key press up to one period earlier, so that
        repeated key presses do not raise the frame rate."""
        early = max(self.last + _APART, self.due - 1 / self.fps)
        return min(self.due, early) if self.eager else self.due

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self_paced = self.playing and self.sent - self.drawn < _IN_FLIGHT
        delay = max(0.0, self._next() - loop.time()) if self_paced else None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wake.wait(), delay)
        self.wake.clear()

    async def _step(self, now: float) -> None:
        period = 1 / self.fps
        # The frame rate is unchanged by an early frame, and late frames are not caught up.
        self.due = max(self.due + period, now)
        self.last, self.eager = now, False
        if await self._do(self.session.step):
            await self._show()

    async def _do(self, work: Callable[[], Any]) -> bool:
        """Whether `work` succeeded; if not, playing pauses and the error is sent to the browser."""
        try:
            await self.shared.compute(work)
        except (Complaint, UserError) as error:
            self.playing = self.playing and isinstance(error, Complaint)
            await self.socket.send_json({"type": "complaint", "message": str(error), "playing": self.playing})
            return False
        return True

    async def _show(self, still: bool = False) -> None:
        header, pixels = await self.shared.compute(lambda: self.session.look(still))
        self.sent += 1
        header |= {"id": self.sent, "input": self.input, "playing": self.playing}
        head = json.dumps(header, separators=(",", ":")).encode()
        await self.socket.send_bytes(struct.pack("<I", len(head)) + head + pixels)

    async def _answer_all(self) -> bool:
        """Handle all received messages; whether the frame or its header may have changed."""
        changed = False
        while self.inbox:
            message = self.inbox.popleft()
            try:
                changed = await self._answer(message) or changed
            except Complaint as error:
                await self.socket.send_json({"type": "complaint", "message": str(error), "playing": self.playing})
            number = message.get("id")
            if isinstance(number, int) and not isinstance(number, bool):
                self.input = number
        return changed

    async def _answer(self, message: dict[str, Any]) -> bool:
        session, kind = self.session, message.get("type")
        if kind == "drawn":
            number = message.get("frame")
            if isinstance(number, int) and self.drawn < number <= self.sent:
                self.drawn = number
            return False
        if kind == "act":
            session.press(message.get("action"))
            self.eager = self.playing
            return not self.playing
        if kind == "play":
            self.playing = message.get("on") is True
            self.due = asyncio.get_running_loop().time()
            return True
        if kind == "speed":
            self.fps = _number(message.get("fps"), 0.1, MAX_FPS, "the speed")
            return False
        if kind == "turn":
            session.set_control(str(message.get("name")), message.get("value"))  # type: ignore[arg-type]
            return True
        if kind == "follow":
            session.follow(message.get("on") is True)
            return True
        if kind == "record":
            return await self._record(message.get("on") is True)
        work = self._work(kind, message)
        if kind in ("step", "go"):
            self.playing = False
        if kind == "reset":
            self.due = asyncio.get_running_loop().time() + 1 / self.fps
        return await self._do(work)

    def _work(self, kind: Any, message: dict[str, Any]) -> Callable[[], Any]:
        """Work for the thread of the model."""
        session = self.session
        if kind == "step":
            return session.step
        if kind == "go":
            return lambda: session.go(message.get("frame"))  # type: ignore[arg-type]
        if kind == "reset":
            start, flags = message.get("start"), {k: message.get(k) is True for k in ("from_noise", "again")}
            return lambda: session.reset(start, **flags)
        if kind == "pin":
            values = message.get("values")
            if not isinstance(values, dict) or not all(_index(key) for key in values):
                raise Complaint("pins are numbers of the code with their values")
            return lambda: session.pin({int(key): value for key, value in values.items()})
        if kind == "free":
            chosen = message.get("indices")
            if chosen is not None and not (isinstance(chosen, list) and all(isinstance(i, int) for i in chosen)):
                raise Complaint("pins are let go by a list of numbers")
            return lambda: session.free(chosen)
        raise Complaint(f"unknown message type {kind!r}"[:120])

    async def _record(self, on: bool) -> bool:
        if on:
            self.session.record(self.fps)
            return True
        recording = self.session.stop()
        try:
            self.film = await self.shared.film(recording, self.film)
        except UserError as error:
            raise Complaint(str(error)) from error
        await self.socket.send_json({"type": "film", "name": self.film, "frames": recording.length})
        return True


def _was_closed(error: Exception) -> bool:
    """Whether the server's library refused to send because the browser has left or its socket was closed."""
    return isinstance(error, RuntimeError) and ("websocket.close" in str(error) or "close message" in str(error))


def _parsed(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ClientDisconnected(POLICY, "messages are JSON") from None
    if not isinstance(message, dict):
        raise ClientDisconnected(POLICY, "messages are JSON objects")
    return message


def _index(key: str) -> bool:
    return key.isascii() and key.isdecimal() and len(key) < 7


def _number(value: Any, low: float, high: float, what: str) -> float:
    if not finite(value):
        raise Complaint(f"{what} is a number")
    if not low <= value <= high:
        raise Complaint(f"{what} lies in {low:g}…{high:g}")
    return float(value)
