"""The server: one page, one socket a browser, and nothing for strangers.

All model work runs on one thread with one torch thread; sockets wait for it without holding each other up.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import math
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
from framecast.web.session import Complaint, Player, Recording, Session

T = TypeVar("T")

PAGE = Path(__file__).parent / "page"
#: What is served to everybody whom the gate lets in: nothing in it is about the run.
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/play.css": ("play.css", "text/css; charset=utf-8"),
    **{
        f"/{name}": (name, "text/javascript; charset=utf-8")
        for name in ("play.js", "screen.js", "pad.js", "sliders.js")
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
#: Why a socket is closed, as numbers (RFC 6455).
POLICY, TOO_BIG, FAULT, LATER = 1008, 1009, 1011, 1013

#: Frames on their way to a browser that has not yet said it drew them.
_IN_FLIGHT = 2
#: A key may bring the next frame forward, but frames stay so many seconds apart.
_APART = 1 / 60
#: Frames per second a browser may ask for.
MAX_FPS = 240.0


@dataclass(frozen=True)
class Limits:
    """sessions: browsers at once.  message: bytes of one message.  rate, burst: messages per second in the long run,
    and at once."""

    sessions: int = 4
    message: int = 1 << 14
    rate: float = 200.0
    burst: int = 400


@dataclass(frozen=True)
class Gate:
    """Who is let in: by the name the server was called by, by the page that calls, and by token.

    hosts: names and addresses it answers to besides loopback; "*" stands for every address that is a number (a page
    of a foreign name that resolves to this machine is turned away).  token: asked for in the URL; None asks for none.
    """

    hosts: Collection[str] = ()
    token: str | None = None

    def problem(self, host: str, origin: str | None, token: str | None, live: bool) -> str | None:
        """Why a request is turned away, in one sentence; None when it is welcome. live: it opens a socket."""
        name = urlsplit(f"//{host}").hostname or ""
        if not self._known(name):
            return f"this server does not answer to the name {name[:80]!r}; open the address it printed"
        if origin is not None or live:  # a page of another place may call, but must not be heard
            there = urlsplit(origin or "")
            if there.scheme not in ("http", "https") or there.netloc.lower() != host.lower():
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


class Bucket:
    """Lets `burst` messages through at once and `rate` a second in the long run."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate, self.burst, self.left, self.then = rate, burst, float(burst), now

    def take(self, now: float) -> bool:
        """Whether there is room for one more at time `now` (seconds)."""
        self.left = min(self.burst, self.left + (now - self.then) * self.rate) - 1
        self.then = now
        return self.left >= 0


class AppState:
    """What all connections share: the player, the model's thread, films, and who is here."""

    def __init__(self, player: Player, gate: Gate, limits: Limits) -> None:
        self.player, self.gate, self.limits = player, gate, limits
        self.guests: set[Connection] = set()
        self.films: dict[str, Path] = {}
        self.folder = tempfile.TemporaryDirectory(prefix="framecast-play-")
        self.worker = ThreadPoolExecutor(1, "model", initializer=torch.set_num_threads, initargs=(1,))

    async def compute(self, work: Callable[[], T]) -> T:
        """What `work` returns, computed on the model's thread."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, work)

    async def film(self, recording: Recording, old: str | None) -> str:
        """The name under which a recording can be fetched; `old` is dropped."""
        if old is not None:
            self.drop(old)
        name = f"{secrets.token_urlsafe(12)}.mp4"
        path = Path(self.folder.name) / name
        await asyncio.to_thread(write_video, recording.film(), path, recording.fps)
        self.films[name] = path
        return name

    def drop(self, name: str) -> None:
        """Forget a film."""
        if path := self.films.pop(name, None):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """End the model's thread and remove the films."""
        self.worker.shutdown(wait=False, cancel_futures=True)
        self.folder.cleanup()


def make_app(player: Player, gate: Gate | None = None, limits: Limits | None = None) -> FastAPI:
    """The application: page, socket and films, behind the gate.  `app.state.house` is what its connections share."""
    house = AppState(player, gate or Gate(), limits or Limits())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield
        house.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.house = house

    @app.middleware("http")
    async def guard(request: Request, answer: Any) -> Response:
        # Style and script of the page are the same everywhere, and are asked for without the token.
        token = (
            house.gate.token
            if request.url.path in FILES and request.url.path != "/"
            else request.query_params.get("token")
        )
        problem = house.gate.problem(request.headers.get("host", ""), request.headers.get("origin"), token, live=False)
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
        path = house.films.get(name)
        if path is None or not path.is_file():
            return PlainTextResponse("this film is gone; record it again\n", 404)
        return FileResponse(path, media_type="video/mp4", filename="dream.mp4")

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        problem = house.gate.problem(
            socket.headers.get("host", ""),
            socket.headers.get("origin"),
            socket.query_params.get("token"),
            live=True,
        )
        if problem is not None:
            await socket.close(POLICY, problem)  # before accepting: the handshake is refused
            return
        await socket.accept()
        await Connection(house, socket).run()

    return app


class ClientDisconnected(Exception):
    """The browser is gone, or is sent away. code, says: why, for the browser; None when it left by itself."""

    def __init__(self, code: int | None = None, says: str = "") -> None:
        super().__init__(says)
        self.code, self.says = code, says


class Connection:
    """One browser's socket: what it asks is done in turn, and while it plays, frames are sent at its pace."""

    def __init__(self, house: AppState, socket: WebSocket) -> None:
        self.house, self.socket = house, socket
        self.inbox: deque[dict[str, Any]] = deque()
        self.wake = asyncio.Event()
        self.left: ClientDisconnected | None = None
        self.playing, self.fps = False, min(house.player.fps, MAX_FPS)
        self.due = self.last = 0.0
        self.eager = False
        self.sent = self.drawn = self.input = 0
        self.film: str | None = None
        self.session: Session

    async def run(self) -> None:
        """From the first word to the last; whatever goes wrong ends this socket alone."""
        house = self.house
        try:
            if len(house.guests) >= house.limits.sessions:
                seats = "1 browser" if house.limits.sessions == 1 else f"{house.limits.sessions} browsers"
                raise ClientDisconnected(
                    LATER, f"{seats} may play at once and all seats are taken; close another page and reload"
                )
            house.guests.add(self)
            self.session = await house.compute(lambda: Session(house.player))
            await self.socket.send_json({**house.player.hello(), "speed": self.fps})
            reader = asyncio.create_task(self._read())
            try:
                await self._show(still=True)
                await self._play()
            finally:
                reader.cancel()
        except ClientDisconnected as left:
            if left.code is not None:
                await self._bye(left.code, left.says)
        except (WebSocketDisconnect, OSError):
            pass  # it left while a frame was on its way
        except asyncio.CancelledError:
            pass  # the server ends and has waited for it long enough, while a film was being written, say
        except Exception:
            if self.left is None:
                traceback.print_exc()
                await self._bye(FAULT, "the server had a fault of its own, its console says which; reload to go on")
        finally:
            house.guests.discard(self)
            if self.film is not None:
                house.drop(self.film)

    async def _bye(self, code: int, says: str) -> None:
        with contextlib.suppress(Exception):  # it may be gone already
            await self.socket.send_json({"type": "bye", "says": says})
            await self.socket.close(code, says[:120])

    # ------------------------------------------------------------------------------------------------- what comes in

    async def _read(self) -> None:
        """Put what the browser says into the inbox, within the limits."""
        limits, loop = self.house.limits, asyncio.get_running_loop()
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
        """Do what is asked; while playing, step when a frame is due. Ends with `Left`."""
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
        """When the next frame is to be computed: at its time, or after a key as soon as may be, though no more than one
        period early: mashing keys does not hurry the dream."""
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
        # The tempo stays when a key brought a frame forward, and lost time is not made up for by a rush.
        self.due = max(self.due + period, now)
        self.last, self.eager = now, False
        if await self._do(self.session.step):
            await self._show()

    async def _do(self, work: Callable[[], Any]) -> bool:
        """Whether the model's thread could do it; if not, the dream pauses and the browser is told why."""
        try:
            await self.house.compute(work)
        except (Complaint, UserError) as error:
            self.playing = self.playing and isinstance(error, Complaint)
            await self.socket.send_json({"type": "complaint", "says": str(error), "playing": self.playing})
            return False
        return True

    async def _show(self, still: bool = False) -> None:
        said, pixels = await self.house.compute(lambda: self.session.look(still))
        self.sent += 1
        said |= {"id": self.sent, "input": self.input, "playing": self.playing}
        head = json.dumps(said, separators=(",", ":")).encode()
        await self.socket.send_bytes(struct.pack("<I", len(head)) + head + pixels)

    async def _answer_all(self) -> bool:
        """Answer what has come in; whether the picture, or what is said of it, may have changed."""
        changed = False
        while self.inbox:
            message = self.inbox.popleft()
            try:
                changed = await self._answer(message) or changed
            except Complaint as error:
                await self.socket.send_json({"type": "complaint", "says": str(error), "playing": self.playing})
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
        """What the model's thread is to do."""
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
        raise Complaint("this message is not known")

    async def _record(self, on: bool) -> bool:
        if on:
            self.session.record(self.fps)
            return True
        recording = self.session.stop()
        try:
            self.film = await self.house.film(recording, self.film)
        except UserError as error:
            raise Complaint(str(error)) from error
        await self.socket.send_json({"type": "film", "name": self.film, "frames": recording.length})
        return True


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
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Complaint(f"{what} is a number")
    if not low <= value <= high:
        raise Complaint(f"{what} lies in {low:g}…{high:g}")
    return float(value)
