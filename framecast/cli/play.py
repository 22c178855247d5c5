"""`framecast play`: an interactive rollout in the browser."""

from __future__ import annotations

import sys
from typing import Any, Literal

from framecast.cli.output import open_run_of, print_result
from framecast.cli.shared_flags import DeviceFlag, ModelClassFlag, ServeFlags, command_flags
from framecast.core.flags import RunName, Switch, parse


@command_flags
class PlayFlags(ServeFlags, DeviceFlag, ModelClassFlag):
    """Interactive rollout in the browser, with actions, temperatures and latent sliders. Ctrl-C ends it.

    Example: framecast play runs/pacman
    """

    run: RunName
    """Run folder, name of packaged weights, or hf://organisation/name[@revision]; with --real the name of a game."""
    real: Switch = False
    """The game itself instead of a model: paddle, maze or a game of the emulator."""
    data: str | None = None
    """Real frames to start from; the run's examples, or held-out frames of the training data, if not given."""
    size: str | None = None
    """Frame size, 128 (shorter side) or 96x128; as in training if not given."""
    names: str | None = None
    """Additional host names of the page, such as lab.example.org,lab."""
    seed: int = 0
    """Random seed for the rollouts."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Autocast precision."""


def run_play(argv: list[str]) -> None:
    """Serve the page until Ctrl-C."""
    flags = parse(PlayFlags, argv, "play")
    from framecast.training.device import pick_device
    from framecast.web.play import prepare, prepare_game

    served: dict[str, Any] = {
        **{name: getattr(flags, name) for name in ("host", "port", "sessions", "seed")},
        "names": [name.strip() for name in (flags.names or "").split(",") if name.strip()],
    }
    if flags.real:
        ready = prepare_game(flags.run, **served)
    else:
        device = str(pick_device(flags.device))
        more: dict[str, Any] = {"size": flags.size, "device": device, "precision": flags.precision}
        ready = prepare(open_run_of(flags), flags.data, **served, **more)
    text = f"playing {flags.run}: {ready.url}\nCtrl-C ends it"
    print_result(flags.json, {"url": ready.url, "port": ready.port}, text)
    sys.stdout.flush()
    if flags.open:
        import webbrowser

        webbrowser.open(ready.url)
    ready.serve()
