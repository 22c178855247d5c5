"""One session: steps, history, controls, edited latents, recordings; all without a socket."""

import gc
import tracemalloc

import numpy as np
import pytest
import torch
from small_models import Steered

from framecast.models.baselines import CopyLast
from framecast.web import session as module
from framecast.web.player import _slider
from framecast.web.session import Complaint, Recording, Session
from tests.web.playing import make_player


@pytest.fixture
def steered(tmp_path):
    return Session(make_player(tmp_path / "data"))


def pixels(session):
    header, raw = session.look()
    h, w = session.start.seen.shape[2:]
    pictures = np.frombuffer(raw, np.uint8).reshape(-1, h, w, 3)
    assert len(pictures) == 1 + header["recorded"]
    return header, pictures


def walk(session, count):
    for _ in range(count):
        session.step()
    return session.now.picture


def test_hello_describes_sizes_controls_actions_and_starts(steered):
    hello = steered.player.hello()
    assert (hello["width"], hello["height"], hello["fps"]) == (12, 12, 10)  # the recording's rate
    assert hello["stochastic"] is True
    assert hello["steerable"] is True
    assert hello["recorded"] is True
    assert [c["name"] for c in hello["controls"]] == ["warmth"]
    assert hello["controls"][0]["value"] == 1
    assert [c["keys"] for c in hello["actions"]["choices"]] == [["left"], [], ["right"]]
    assert [(s["index"], s["low"], s["high"]) for s in hello["sliders"]] == [(0, -3, 3), (1, -3, 3), (2, -3, 3)]
    assert hello["starts"][0].startswith("video")


def test_reset_returns_to_the_start_frame(steered):
    header, pictures = pixels(steered)
    assert (header["number"], header["kind"], header["recorded"]) == (0, "real", True)
    real = steered.start.seen[-1]
    assert np.array_equal(pictures[0].transpose(2, 0, 1)[:1], real)
    assert np.array_equal(pictures[0], pictures[1])
    walk(steered, 3)
    assert steered.look()[0]["kind"] == "dream"
    assert not np.array_equal(steered.now.picture, real)
    steered.reset()
    assert np.array_equal(steered.now.picture, real)
    assert steered.look()[0]["number"] == 0


def test_recording_shows_the_frames_after_the_start(steered):
    start = steered.start
    video = start.video
    for number in range(1, start.length + 1):
        steered.step()
        _, pictures = pixels(steered)
        expected = start.pairs.source.clip(video, start.last + number, 1).frames[0]
        assert np.array_equal(pictures[1][..., 0], expected[0])
    steered.step()
    assert steered.look()[0]["recorded"] is False


def test_recorded_actions_are_followed_until_a_key_press(steered):
    start = steered.start
    recorded = start.pairs.source.clip(start.video, start.last, 6).arrays["actions"]
    for move in recorded[:4]:
        steered.step()
        assert steered.look()[0]["action"] == move
    steered.press(2)
    for expected in (2, 2):
        steered.step()
        assert steered.look()[0]["action"] == expected
    steered.press(None)
    steered.step()
    assert steered.look()[0]["action"] == 1  # nothing done
    assert steered.look()[0]["following"] is False
    steered.reset()
    steered.follow(True)
    steered.step()
    assert steered.look()[0]["action"] == recorded[0]


def test_actions_change_the_prediction(steered):
    steered.set_control("warmth", 0)
    bright = []
    for action in (0, 2):
        steered.reset()
        steered.press(action)
        bright.append(float(walk(steered, 3).mean()))
        steered.press(None)
    assert bright[1] > bright[0] + 20


def test_short_key_press_counts_for_one_frame(steered):
    steered.press(0)
    steered.press(None)
    steered.step()
    assert steered.look()[0]["action"] == 0
    steered.step()
    assert steered.look()[0]["action"] == 1


def test_step_after_going_back_starts_a_new_branch(steered):
    steered.set_control("warmth", 0)
    steered.press(2)
    there = walk(steered, 4)
    steered.go(2)
    assert steered.now.number == 2
    assert steered.look()[0]["last"] == 4
    assert np.array_equal(walk(steered, 2), there)  # the same way again
    steered.go(2)
    steered.press(0)
    assert not np.array_equal(walk(steered, 2), there)
    assert [m.number for m in steered.moments] == [0, 1, 2, 3, 4]
    steered.go(-5)
    assert steered.now.number == 0
    steered.go(99)
    assert steered.now.number == 4


def test_history_is_bounded(steered, monkeypatch):
    monkeypatch.setattr(module, "HISTORY", 10)
    walk(steered, 25)
    assert [m.number for m in steered.moments] == list(range(16, 26))
    assert steered._held_bytes == sum(m.bytes for m in steered.moments)
    steered.go(0)
    assert steered.now.number == 16
    steered.step()
    assert [m.number for m in steered.moments] == [16, 17]
    assert steered._held_bytes == sum(m.bytes for m in steered.moments)
    monkeypatch.setattr(module, "HISTORY_BYTES", 3 * steered.now.bytes)
    walk(steered, 9)
    assert len(steered.moments) == 3


def test_memory_is_constant_once_history_is_full(steered, monkeypatch):
    """What Python holds; what the process holds over 1,000 frames, through a browser: benchmarks/playing.py."""
    monkeypatch.setattr(module, "HISTORY", 40)
    walk(steered, 5)
    tracemalloc.start()
    try:
        walk(steered, 50)  # all of the past that is held now was allocated under the eyes of the tracer
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            steered.step()
            steered.look()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert steered.now.number == 155
    assert grown < 25_000, grown  # moments that stayed would be 100 times 900 bytes


def test_reset_changes_the_seed_unless_again(steered):
    first = walk(steered, 5)
    steered.reset(again=True)
    assert np.array_equal(walk(steered, 5), first)
    seed = steered.seed
    steered.reset()
    assert steered.seed == seed + 1
    assert not np.array_equal(walk(steered, 5), first)


def test_controls_last_through_a_reset(steered):
    steered.set_control("warmth", 0)
    steered.reset(1)
    steered.press(1)
    assert np.array_equal(walk(steered, 1), walk(steered, 5))
    with pytest.raises(Complaint, match=r"temperature lies in 0…2"):
        steered.set_control("warmth", 3)
    with pytest.raises(Complaint, match=r"temperature lies in 0…2"):
        steered.set_control("warmth", float("nan"))
    with pytest.raises(Complaint, match="no such control"):
        steered.set_control("heat", 1)


def test_edited_latent_is_shown_and_held(steered):
    steered.set_control("warmth", 0)
    steered.press(1)
    steered.pin({0: 0.25})
    header, pictures = pixels(steered)
    assert (header["kind"], header["number"], header["pins"]) == ("hand", 0, [0])
    assert header["code"][0] == 0.25
    assert np.unique(pictures[0]).tolist() == [64]
    steered.pin({0: 1.0})
    steered.press(0)
    assert walk(steered, 3).min() == 255  # held against the action
    assert steered.look()[0]["kind"] == "hand"
    steered.free()
    assert walk(steered, 4).max() < 255
    steered.pin({1: 2.0})
    steered.reset()
    assert steered.look()[0]["pins"] == []
    assert steered.look()[0]["kind"] == "real"


@pytest.mark.parametrize("values", [{9: 0}, {0: 3.5}, {0: float("inf")}, {0: "1"}, {0: None}, {0: True}])
def test_pin_rejects_values_outside_the_slider(steered, values):
    with pytest.raises(Complaint, match="a slider was set"):
        steered.pin(values)
    assert steered.pins == {}


def test_model_without_editable_latent_shows_a_still_image(tmp_path):
    session = Session(make_player(tmp_path / "data", "codes"))
    player = session.player
    assert len(player.sliders) == 6
    assert player.hello()["steerable"] is False
    dream = walk(session, 4).copy()
    assert session.look()[0]["code"] == []  # not computed while it plays
    header, _ = session.look(still=True)
    window = player.floats(np.concatenate([session.seen, np.stack([m.picture for m in session.moments[1:]])])[-3:])
    expected = player.model.encode(window[None])[0, -1].detach()
    assert header["code"] == [round(float(v), 3) for v in expected]
    session.pin({2: 1.5})
    session.pin({0: -1.0})
    header, pictures = pixels(session)
    code = expected.clone()
    code[2], code[0] = 1.5, -1.0
    picture = player.model.decode(code[None, None])[0, 0].clamp(0, 1).mul(255).round()
    assert np.array_equal(pictures[0][..., 0], picture[0].detach().numpy())
    assert header["kind"] == "hand"
    assert sorted(header["pins"]) == [0, 2]
    session.free([0])
    session.free([2])
    assert np.array_equal(session.pictures()["dream"], dream)
    session.pin({2: 1.5})
    session.step()
    assert session.look()[0]["kind"] == "dream"
    assert session.pins == {}


def test_long_latents_have_sliders_for_dimensions_that_vary_most(tmp_path, monkeypatch):
    monkeypatch.setattr("framecast.web.player.SLIDERS", 2)
    player = make_player(tmp_path / "data", "codes")
    assert len(player.sliders) == 2
    windows = [player.floats(player.starts[i].seen)[None] for i in range(min(len(player.starts), 8))]
    spread = torch.cat([player.model.encode(w)[0] for w in windows]).std(0, correction=0)
    assert {s.index for s in player.sliders} == set(spread.argsort(descending=True)[:2].tolist())


def test_wider_latents_have_wider_sliders():
    assert (_slider(0, 0.2, 0.9).low, _slider(0, 0.2, 0.9).high) == (-3, 3)
    assert (_slider(0, 1.0, 4.0).low, _slider(0, 1.0, 4.0).high) == (-11, 13)


def test_model_without_actions_or_latents_raises_complaint(tmp_path):
    session = Session(make_player(tmp_path / "data", "plain"))
    hello = session.player.hello()
    assert (hello["actions"], hello["sliders"], hello["controls"]) == (None, [], [])
    for call in (lambda: session.press(1), lambda: session.follow(True), lambda: session.pin({0: 1})):
        with pytest.raises(Complaint, match="no "):
            call()
    assert walk(session, 3).shape == (1, 12, 12)
    with pytest.raises(Complaint, match="nothing is being recorded"):
        session.stop()


def test_a_baseline_plays(tmp_path):
    session = Session(make_player(tmp_path / "data", model_class=CopyLast))
    real = session.now.picture
    assert np.array_equal(walk(session, 3), real)


@pytest.mark.parametrize("start", [99, -1, True, "1", 1.0])
def test_reset_rejects_invalid_starts(steered, start):
    before = steered.now
    with pytest.raises(Complaint, match="start must be in 0…"):
        steered.reset(start)
    assert steered.now is before


def test_start_from_noise_has_no_recording(steered):
    steered.reset(from_noise=True)
    header, pictures = pixels(steered)
    assert (header["kind"], header["recorded"], len(pictures)) == ("noise", False, 1)
    assert len(np.unique(pictures[0])) > 50
    walk(steered, 3)
    with pytest.raises(Complaint, match="no recorded actions"):
        steered.follow(True)
    steered.reset()
    assert steered.look()[0]["kind"] == "real"


def test_recording_contains_the_frames_shown(steered):
    steered.record(12.0)
    walk(steered, 4)
    recording = steered.stop()
    assert recording.length == 5
    frames = list(recording.film())
    assert len(frames) == 5
    assert all(f.shape == frames[0].shape and f.shape[0] == 3 for f in frames)
    assert frames[0].shape[2] > 2 * 384  # dream and recording, side by side
    walk(steered, 1)
    assert recording.length == 5


def test_recording_stops_at_its_limit(monkeypatch):
    monkeypatch.setattr(module, "FILM_BYTES", 500)
    recording = Recording(10)
    picture = np.zeros((1, 10, 10), np.uint8)
    recording.add({"dream": picture, "recording": picture})
    recording.add({"dream": picture})
    assert [len(v) for v in recording.frames.values()] == [2, 2]
    for _ in range(9):
        recording.add({"dream": picture, "recording": picture})
    assert recording.full
    assert recording.length == 3
    assert recording.bytes == 500


def test_sessions_of_one_player_are_independent(tmp_path):
    player = make_player(tmp_path / "data")
    one, other = Session(player), Session(player)
    one.set_control("warmth", 0)
    walk(one, 3)
    assert other.now.number == 0
    assert other.settings == {}
    assert isinstance(player.model, Steered)
    one.reset()
    assert np.array_equal(one.now.picture, other.now.picture)


def test_a_model_without_actions_plays_on_a_game_that_has_them(tmp_path, monkeypatch):
    """What is beside it is the recording: the game has no input for such a model."""
    pytest.importorskip("ale_py")
    from framecast.data.base import Segment
    from framecast.data.store import Store
    from framecast.data.synthetic.atari import Atari, AtariConfig
    from framecast.inference.starts import Starts
    from framecast.models.base import Predictor
    from framecast.web.player import Player

    Atari(AtariConfig(episodes=1, max_frames=8)).prepare(tmp_path / "game")
    store = Store(tmp_path / "game")
    model: Predictor = CopyLast(CopyLast.Config(), store.spec)
    starts = Starts(store, [Segment(0, 0, 8)], model.request(model.config), 2, store.spec.actions)
    session = Session(Player(model, starts, "run", "copy-last"))
    walk(session, 1)
    header, pictures = pixels(session)
    assert (header["alive"], header["recorded"], header["action"]) == (False, True, None)
    assert np.array_equal(pictures[1].transpose(2, 0, 1), session.start.after(1)[0])


def test_simulated_scene_follows_the_same_actions(tmp_path, monkeypatch):
    """Here a scene that counts: its picture is what was done so far, added up."""

    class Counting:
        def __init__(self):
            self.sum = 100

        def frame(self):
            return np.full((1, 12, 12), self.sum, np.uint8)

        def act(self, action):
            self.sum += action - 1

        def save(self):
            return self.sum

        def restore(self, state):
            self.sum = state

    monkeypatch.setattr("framecast.inference.starts.replay", lambda source, video, frame: Counting())
    session = Session(make_player(tmp_path / "data"))
    recorded = session.start.pairs.source.clip(session.start.video, session.start.last, 6).arrays["actions"]
    walk(session, 2)
    expected = 100 + int((recorded[:2] - 1).sum())
    assert session.truth().max() == expected
    session.press(2)
    walk(session, 3)
    assert session.truth().max() == expected + 3
    session.go(3)
    assert session.truth().max() == expected + 1
    session.press(0)
    walk(session, 2)
    assert session.truth().max() == expected - 1
    assert session.look()[0]["alive"] is True
    other = Session(session.player)  # shares the scene, not its state
    walk(other, 1)
    session.press(2)
    walk(session, 1)
    assert session.truth().max() == expected
    session.reset()
    assert np.array_equal(session.truth(), session.seen[-1])
    session.reset(from_noise=True)
    assert session.truth() is None
    assert session.look()[0]["alive"] is False


def test_a_latent_is_decoded_with_the_last_frames_of_a_longer_window(tmp_path, monkeypatch):
    """Contexts of a session may be longer than the model's: its background is the frame before the shown one."""
    player, seen = make_player(tmp_path / "d", kind="codes"), []

    def decode(z, context):
        seen.append(context)
        return context[:, -1:]

    monkeypatch.setattr(player.model, "decode", decode)
    count = player.model.num_context
    window = torch.rand(count + 5, 1, 12, 12)
    assert torch.equal(player.decode(torch.zeros(2), window), window[-1])
    assert torch.equal(seen[0][0], window[-count:])
