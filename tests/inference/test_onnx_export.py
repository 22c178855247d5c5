"""ONNX graphs beside their model, float16 weights, and models that have no graph."""

# ruff: noqa: F401, F811 - fixtures come by import

import json

import numpy as np
import onnx
import pytest
import torch
from cli_support import command
from small_models import Plain, small_config
from small_world import COLOURS, REGIONS, SIDE, graphs_of, traced_once, write_world

from framecast.core.errors import UserError
from framecast.core.types import ClipSpec
from framecast.inference import onnx_export
from framecast.inference.onnx_export import GRAPHS, INIT, STEP, compare, export_graphs, run_graph, session
from framecast.inference.starts import Start, open_starts
from framecast.training.run_folder import open_run


@pytest.fixture(scope="module")
def exported(tmp_path_factory, traced_once):
    """An opened run of a world with regions, and the folder that the command wrote."""
    folder = tmp_path_factory.mktemp("world")
    run = write_world(folder, **REGIONS)
    with graphs_of(traced_once):
        words = ["export", str(run), "--onnx", "--out", str(folder / "out"), "--json", str(folder / "out.json")]
        assert command(words) == 0
    return open_run(run), folder / "out"


def inputs(run):
    return onnx_export._inputs(run.model(), open_starts(run)[0])


def test_the_folder_is_a_run_with_graphs_that_agree_with_the_model(exported):
    run, folder = exported
    assert {INIT, STEP, GRAPHS, "config.json", "model.safetensors"} <= {p.name for p in folder.iterdir()}
    assert command(["check", str(folder)]) == 0
    summary = json.loads((folder.parent / "out.json").read_text())
    assert summary["difference"] <= 1e-3
    assert summary["equal"] == 1
    found = compare(open_run(folder).model(), folder, *inputs(run))
    assert found.difference <= 1e-3
    assert not [p.name for p in folder.iterdir() if b".py" in p.read_bytes()], "no trace of this machine's files"
    described = json.loads((folder / GRAPHS).read_text())
    assert described["context"] == [1, 4, 3, SIDE, SIDE]
    assert described["actions"]["names"] == ["NOOP", "UP", "DOWN"]
    assert described["state"]["temperature"] == {"shape": [1], "type": "float32"}


def test_a_graph_depends_on_action_temperature_and_seed_as_the_model_does(exported):
    run, folder = exported
    model, (context, actions) = run.model(), inputs(run)
    step = session(folder / STEP)
    frames = {}
    for action, heat, seed in ((0, 0.0, 1), (1, 0.0, 1), (1, 1e6, 1), (1, 1e6, 3)):
        state = model.rollout_init(context, actions=actions)
        state |= {"temperature": torch.tensor([heat]), "seed": torch.tensor([seed])}
        chosen = torch.eye(3)[action : action + 1]
        given = {f"state_{k}": v.numpy() for k, v in state.items()} | {"action": chosen.numpy()}
        found, (new, frame) = run_graph(step, given), model.rollout_step(state, chosen)
        assert np.allclose(found["frame"], frame.numpy(), atol=1e-3)
        for name, value in new.items():
            assert np.allclose(found[f"next_{name}"], value.numpy(), atol=1e-3), name
        frames[action, heat, seed] = frame
    assert not torch.equal(frames[1, 0.0, 1], frames[1, 1e6, 1])
    assert not torch.equal(frames[1, 1e6, 1], frames[1, 1e6, 3])


def test_a_graph_has_the_regions_of_its_model(exported):
    run, folder = exported
    model = run.model()
    assert compare(model, folder, *inputs(run)).equal == 1
    assert model.impossible.sum() == 2 * 8 * SIDE  # the bright colour above, and its region below


def test_float16_weights_are_smaller_and_give_the_same_pixels(exported, tmp_path):
    run, folder = exported
    for name in (INIT, STEP):
        onnx_export._save(onnx.load(folder / name), tmp_path / name, half=True)
    assert (tmp_path / STEP).stat().st_size < 0.9 * (folder / STEP).stat().st_size
    kinds = {w.data_type for w in onnx.load(tmp_path / STEP).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert compare(run.model(), tmp_path, *inputs(run)).equal >= 0.999


def test_graphs_that_differ_from_the_model_are_refused(exported, tmp_path):
    run, folder = exported
    for name in (INIT, STEP):
        graph = onnx.load(folder / name)
        for weight in graph.graph.initializer:
            if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) == 4:
                values = onnx.numpy_helper.to_array(weight)
                weight.CopyFrom(onnx.numpy_helper.from_array(-values, weight.name))
        onnx.save(graph, str(tmp_path / name))
    found = compare(run.model(), tmp_path, *inputs(run))
    assert found.difference > 1e-3
    assert found.equal < 1


class Cumulated(Plain):
    """Predicts with an operation that ONNX does not have."""

    def guess(self, context, actions=None):
        return torch.linalg.matrix_exp(context[:, -1])


class Deciding(Plain):
    """Predicts with a decision that depends on the values."""

    def guess(self, context, actions=None):
        return context[:, -1] if float(context.mean()) > 0.5 else context[:, 0]


class Blocks(Plain):
    """Keeps predicted frames, so that the shape of its state changes."""

    block = 2


def start_of(model):
    seen = np.full((model.num_context, 1, 12, 12), 30, np.uint8)
    return Start(name="", seen=seen, actions=None, length=0, pairs=None, video=0, last=0)


@pytest.mark.parametrize(
    ("model_class", "sentence"),
    [
        (Cumulated, r"mine: cannot be exported to ONNX: operation aten\.linalg_matrix_exp\S* has no ONNX form"),
        (Deciding, r"cannot be exported to ONNX: inference/test_onnx_export\.py, line \d+: 'return context.* if float"),
        (Blocks, r"rollout_step of Blocks changes the shape of its state \(queue\), which is fixed in a graph"),
    ],
)
def test_a_model_without_a_graph_is_refused_with_the_operation(model_class, sentence, tmp_path):
    model = model_class(small_config(model_class).model, ClipSpec(channels=1, height=12, width=12)).eval()
    with pytest.raises(UserError, match=sentence):
        export_graphs(model, start_of(model), tmp_path, "mine")


def test_without_the_packages_the_extra_is_named(monkeypatch, tmp_path, exported):
    monkeypatch.setattr(onnx_export, "_PACKAGES", ("onnx_of_another_name",))
    with pytest.raises(UserError, match=r'need onnx_of_another_name; install with: pip install "framecast\[export\]"'):
        export_graphs(exported[0].model(), open_starts(exported[0])[0], tmp_path, "mine")


def test_frames_of_another_game_are_refused_in_a_sentence(exported, tmp_path):
    assert COLOURS[1] == (250, 250, 250)
    start = open_starts(exported[0])[0]
    other = Start(**{**vars(start), "seen": np.full_like(start.seen, 128)})
    with pytest.raises(UserError, match="frames differ from the palette"):
        export_graphs(exported[0].model(), other, tmp_path, "mine")


def test_page_and_weights_are_not_written_together(capsys):
    assert command(["export", "world-paddle", "--onnx", "--web"]) == 2
    assert "leave out --onnx and --inference-only" in capsys.readouterr().err
