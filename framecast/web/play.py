"""`framecast play`: open a run and serve its page until stopped."""

from __future__ import annotations

import dataclasses
import importlib.util
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from framecast.core.errors import UserError
from framecast.training.run_folder import Run

if TYPE_CHECKING:
    from framecast.web.player import Player


@dataclasses.dataclass(frozen=True)
class Playing:
    """A prepared server: its URL, port, and the function that serves until a signal arrives."""

    url: str
    serve: Callable[[], None]
    port: int


def prepare_game(
    name: str,
    record: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    names: Sequence[str] = (),
    sessions: int = 4,
    seed: int = 0,
    overwrite: bool = False,
) -> Playing:
    """Prepared server of a real game.

    Args:
        name: paddle, maze, or a game of the emulator.
        record: folder of a store for all that is played; `serve` then returns when it is written. None records nothing.
        host, port, names, sessions, seed: as in `prepare`.
        overwrite: replace an existing store.

    Raises:
        UserError: invalid input, in one sentence.
    """
    _check_installed()
    if sessions < 1:
        raise UserError(f"--sessions must be at least 1, got {sessions}")
    from framecast.web.games import GamePlayer, Recorder, open_game

    game = open_game(name)
    listener = _listen(host, port)
    try:
        recorder = None if record is None else Recorder(game, record, overwrite)
        found = _served(GamePlayer(game, seed, recorder), listener, host, names, sessions)
    except BaseException:
        listener.close()
        raise
    if recorder is None:
        return found

    def serve() -> None:
        try:
            found.serve()
        except KeyboardInterrupt:
            pass  # the usual end of a recording
        finally:
            recorder.close()

    return dataclasses.replace(found, serve=serve)


def prepare(
    run: Run,
    data: str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    names: Sequence[str] = (),
    sessions: int = 4,
    size: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
) -> Playing:
    """Prepared server: opens model, start frames and port, and predicts two frames so that errors appear early.

    Args:
        run: trained run.
        data: source of start frames; None uses the examples of the run, otherwise held-out frames of its data.
        host: address to listen on; outside loopback the URL contains a token.
        port: TCP port; 0 selects a free one.
        names: further accepted host names.
        sessions: largest number of browsers at once.
        size: frame size, "128" (shorter side) or "96x128".
        seed: random seed for start selection and sampling.
        device: torch device.
        precision: autocast precision.

    Raises:
        UserError: invalid input, in one sentence.
    """
    _check_installed()
    if sessions < 1:
        raise UserError(f"--sessions must be at least 1, got {sessions}")
    import torch

    from framecast.inference.starts import open_starts
    from framecast.web.player import Player
    from framecast.web.session import Session

    listener = _listen(host, port)
    try:
        torch.set_num_threads(1)  # one thread: more compete with the browser for cores
        starts = open_starts(run, data, size, seed)
        title = f"{run.config.name} ({run.config.profile})"
        try:
            player = Player(run.model(device), starts, page_title(run), title, seed, precision)
            rehearsal = Session(player)
            for _ in range(2):
                rehearsal.step()
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"{run.label}: {error}") from error
        return _served(player, listener, host, names, sessions)
    except BaseException:
        listener.close()
        raise


def _served(player: Player, listener: socket.socket, host: str, names: Sequence[str], sessions: int) -> Playing:
    from framecast.web.server import Gate, Limits, make_app

    token = None if _loopback(listener) else secrets.token_urlsafe(16)
    app = make_app(player, Gate(_names(host, names), token), Limits(sessions=sessions))
    bound = listener.getsockname()[1]
    query = f"/?token={token}" if token else "/"
    return Playing(f"http://{_shown(host)}:{bound}{query}", lambda: _serve(app, listener), bound)


def page_title(run: Run) -> str:
    """Name of the run without its parent folders."""
    return run.label.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def _check_installed() -> None:
    missing = [name for name in ("fastapi", "uvicorn", "websockets") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'play needs {", ".join(missing)}; install it with: pip install "framecast[web]"')


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65536:
        raise UserError(f"--port {port}: must be in 0…65535; use 0 for a free port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{host}:{port}: cannot be listened on ({reason}); give another --port, 0 for a free one, or --host"
        ) from error


def _loopback(listener: socket.socket) -> bool:
    import ipaddress

    return ipaddress.ip_address(listener.getsockname()[0].split("%")[0]).is_loopback


def _names(host: str, names: Sequence[str]) -> set[str]:
    """Accepted host names. With an address of all interfaces, every numeric address is accepted."""
    own = {socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"}
    return {host.lower(), *(name.lower() for name in names), *own} | ({"*"} if host in ("0.0.0.0", "::") else set())


def _shown(host: str) -> str:
    host = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"[{host}]" if ":" in host else host


def _serve(app: Any, listener: socket.socket) -> None:
    """Run until a signal arrives.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
    """
    running, stopped = server(app), []
    leave = running.handle_exit

    def note(number: int, frame: Any) -> None:
        stopped.append(number)
        leave(number, frame)

    running.handle_exit = note
    running.run(sockets=[listener])
    if signal.SIGINT in stopped:  # whether the server raises it again depends on its version
        raise KeyboardInterrupt


def server(app: Any) -> Any:
    """Configured web server of `app`; `run(sockets=[…])` serves until a signal arrives."""
    import logging

    import uvicorn

    from framecast.web.connections import BoundedProtocol, DiscardingProtocol

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=1 << 16,  # longer messages end the socket before they are read
        ws_max_queue=32,
        ws_ping_interval=10,  # a browser that vanished is noticed
        ws_ping_timeout=10,
        ws_per_message_deflate=False,  # frames are small, and compressing them costs more than it saves
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=1 << 14,
        http=BoundedProtocol,
        ws=DiscardingProtocol,
    )
    logging.getLogger("uvicorn.error").addFilter(_without_invalid_text)
    return uvicorn.Server(config)


def _without_invalid_text(record: Any) -> bool:
    """Keep a log record, but not with a traceback about a browser that sent no UTF-8: its connection is closed."""
    if record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError):
        record.exc_info = record.exc_text = None
    return True
