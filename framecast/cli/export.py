"""`framecast export`: weights to share, ONNX graphs, a page without a server."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framecast.cli.output import open_run_of, print_result
from framecast.cli.shared_flags import RunFlag, WeightsFlags, command_flags
from framecast.core.errors import UserError
from framecast.core.flags import Switch, parse
from framecast.core.remote import RemoteFolder, is_address

if TYPE_CHECKING:
    from framecast.inference.onnx_export import Agreement


@command_flags
class ExportFlags(WeightsFlags, RunFlag):
    """Exported weights: config.json, model.safetensors and a model card, without any local path.

    Example: framecast export runs/pacman --out pacman-weights --half
    """

    out: str | None = None
    """Output folder or address (s3://…); it must not exist yet or be empty. Default: NAME-weights, -onnx or -web."""
    onnx: Switch = False
    """ONNX graphs of rollout_init and rollout_step beside the weights, checked through onnxruntime."""
    web: Switch = False
    """Static web page that plays the model in the browser, instead of the weights."""
    data: str | None = None
    """Real frames for the check of the graphs and the starts of the page; as for framecast play if not given."""
    runtime: str | None = None
    """Unpacked npm package onnxruntime-web for the page; from the cache, filled by npm, if not given."""


def run_export(argv: list[str]) -> None:
    """Write config, weights and model card of a run into a folder, ONNX graphs beside them, or a page."""
    flags = parse(ExportFlags, argv, "export")
    if flags.web and (flags.onnx or flags.inference_only):
        raise UserError("export: --web writes a page with the graphs alone; leave out --onnx and --inference-only")
    run = open_run_of(flags)
    kind = "web" if flags.web else "onnx" if flags.onnx else "weights"
    out = flags.out or f"{run.results.name.removesuffix('-results')}-{kind}"
    if not is_address(out):
        _write(flags, run, Path(out), out)
        return
    remote = RemoteFolder(out)
    if remote.names():
        raise UserError(f"{remote}: already holds files; choose another address")
    with tempfile.TemporaryDirectory(prefix="framecast-export-") as place:
        _write(flags, run, Path(place) / "export", out, remote)


def _write(flags: ExportFlags, run: Any, folder: Path, out: str, remote: RemoteFolder | None = None) -> None:
    """Write the export into a folder, copy it to an address and print what was written."""
    found: Agreement | None
    if flags.web:
        from framecast.web.static import export_page

        found = export_page(run, folder, flags.data, flags.half, Path(flags.runtime) if flags.runtime else None)
        hint = f"python -m http.server --directory {out}"
    else:
        found, hint = (
            _export(flags, run, folder),
            f"framecast.load({out!r})" if remote is None else "download it to load it",
        )
    files = {p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
    if remote is not None:
        for name in files:
            remote.upload(folder / name, name)
    summary: dict[str, Any] = {"page" if flags.web else "weights": out, "bytes": files}
    text = f"{'page' if flags.web else 'weights'}: {out}  ({sum(files.values()) / 1e6:.1f} MB; {hint})"
    if found is not None:
        summary |= {"difference": found.difference, "equal": found.equal}
        text += (
            f"\ngraphs: frames differ by at most {found.difference:.2g}, {100 * found.equal:.2f} % of values are equal"
        )
    print_result(flags.json, summary, text)


def _export(flags: Any, run: Any, folder: Path) -> Agreement | None:
    """Weights, with graphs where they are wanted; how well the graphs agree with the model."""
    from framecast.inference.export import export

    found: list[Agreement] = []
    if not flags.onnx:
        export(run, folder, half=flags.half, inference_only=flags.inference_only)
        return None
    from framecast.inference.onnx_export import check_installed, export_graphs
    from framecast.inference.starts import open_starts

    check_installed()
    start = open_starts(run, flags.data)[0]

    def graphs(part: Path) -> None:
        found.append(export_graphs(run.model(), start, part, run.label, flags.half))

    export(run, folder, half=flags.half, inference_only=flags.inference_only, graphs=graphs)
    return found[0]
