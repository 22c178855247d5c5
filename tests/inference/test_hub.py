"""Uploads to the Hub and loading from it, against a stand-in on the loopback."""

# ruff: noqa: F401, F811 - fixtures come by import

import importlib.util
import json
import socket
from pathlib import Path

import pytest
import torch
import yaml
from cli_support import copy_run, done, refused, store, tiny_run
from test_models_contract import build

import framecast
from framecast.core.errors import UserError
from framecast.inference.hub import push_store, push_to_hub
from framecast.models.base import Predictor
from framecast.models.multiscale_gan.predictor import MultiscaleGAN
from framecast.training.run_folder import open_run, packaged

_SPEC = importlib.util.spec_from_file_location("hub_server", Path(__file__).with_name("hub_server.py"))
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)


@pytest.fixture
def hub(monkeypatch):
    """The stand-in and its address; no token is stored on this machine."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the tests are offline otherwise
    with _MODULE.hub_server() as found:
        yield found


def header(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_a_dry_run_lists_the_files_and_sends_nothing(hub, done):
    found, address = hub
    text = done("push", tiny_run(), "me/tiny", "--endpoint", address)
    assert "model.safetensors" in text
    assert "dry run, nothing was uploaded to me/tiny; add --yes" in text
    files = json.loads(done("push", tiny_run(), "me/tiny", "--half", "--json", "-"))["files"]
    assert sorted(files) == ["README.md", "checksums.json", "config.json", "model.safetensors"]
    assert found.requests == []


def test_without_a_token_one_sentence(hub, refused):
    sentence = "no token of the Hugging Face Hub: run hf auth login, or set HF_TOKEN"
    assert sentence in refused("push", tiny_run(), "me/tiny", "--yes", "--endpoint", hub[1])
    assert sentence in refused("data", "push", store(), "me/data", "--yes", "--endpoint", hub[1])


def test_pushed_weights_are_loaded_by_class_and_by_name(hub, tmp_path):
    found, address = hub
    model = framecast.load(tiny_run())
    link = model.push_to_hub("me/tiny", token="secret", private=True, endpoint=address, commit_message="First")
    assert link.startswith(f"{address}/me/tiny/commit/")
    assert found.created[0].get("private") or found.created[0].get("visibility") == "private"
    options = {"endpoint": address, "cache_dir": tmp_path / "cache"}
    loaded = MultiscaleGAN.from_pretrained("me/tiny", **options)
    assert type(loaded) is type(model)
    context = torch.rand(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.predict(context, 2), model.predict(context, 2))
    assert type(Predictor.from_pretrained("hf://me/tiny", local_files_only=True, **options)) is MultiscaleGAN
    with pytest.raises(UserError, match=r"hf://me/none: cannot be fetched"):
        MultiscaleGAN.from_pretrained("me/none", **options)
    found.files["model", "me/other"] = {"README.md": b"other weights"}
    with pytest.raises(UserError, match=r"hf://me/other: has no config.json; expected weights that framecast push"):
        MultiscaleGAN.from_pretrained("me/other", **options)


def test_a_class_refuses_the_weights_of_another():
    with pytest.raises(UserError, match="dreams-ball: holds a Dreams, expected a MultiscaleGAN"):
        MultiscaleGAN.from_pretrained("dreams-ball")


def test_saved_folder_is_opened_by_its_class(tmp_path):
    model = build("copy-last")
    folder = model.save_pretrained(tmp_path / "weights", license="mit")
    assert type(type(model).from_pretrained(folder)) is type(model)
    assert header((folder / "README.md").read_text())["license"] == "mit"


def test_card_has_the_metadata_that_the_hub_indexes(hub, tmp_path):
    run = open_run(copy_run())
    framecast.evaluate(run, horizon=2, clips=2)
    push_to_hub(run, "me/copy", dry_run=False, token="secret", endpoint=hub[1], license="apache-2.0")
    card = hub[0].files["model", "me/copy"]["README.md"].decode()
    found = header(card)
    assert found["library_name"] == "framecast"
    assert found["pipeline_tag"] == "image-to-video"
    assert found["license"] == "apache-2.0"
    assert found["datasets"] == [Path(run.config.data.path).name]
    result = found["model-index"][0]["results"][0]
    assert result["dataset"]["type"] == found["datasets"][0]
    assert {m["type"] for m in result["metrics"]} >= {"psnr", "ssim"}
    assert 'framecast.from_pretrained("me/copy")' in card


def test_a_store_is_pushed_as_a_data_set_with_its_card(hub, done):
    found, address = hub
    made = push_store(store(), "me/frames", dry_run=False, token="secret", endpoint=address, license="cc-by-4.0")
    files = found.files["dataset", "me/frames"]
    assert {"index.json", "README.md"} <= set(files) == set(made.files)
    assert files["index.json"] == (store() / "index.json").read_bytes()
    assert header(files["README.md"].decode())["license"] == "cc-by-4.0"
    assert "nothing was uploaded" in done("data", "push", store(), "me/frames")


def test_refusals_of_the_hub_are_one_sentence(hub):
    with pytest.raises(UserError, match=r"me/tiny: could not be uploaded .*; check token, name and network"):
        push_to_hub(tiny_run(), "me/tiny", dry_run=False, token="wrong", endpoint=hub[1])
    for name in ("tiny", "a/b/c", "me/sp ace"):
        with pytest.raises(UserError, match="must be organisation/name"):
            push_to_hub(tiny_run(), name)


def test_without_a_network_one_sentence(refused, monkeypatch, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"  # nothing listens there
        monkeypatch.setenv("HF_TOKEN", "secret")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        for words in (["push", tiny_run(), "me/tiny"], ["data", "push", store(), "me/data"]):
            text = refused(*words, "--yes", "--endpoint", address)
            assert "could not be uploaded (" in text
            assert text.endswith("check token, name and network")
        with pytest.raises(UserError, match=r"hf://me/tiny: cannot be fetched"):
            MultiscaleGAN.from_pretrained("me/tiny", endpoint=address, cache_dir=tmp_path)


def test_the_card_of_pushed_weights_keeps_sections_of_the_card_they_have(hub):
    found, address = hub
    push_to_hub("world-paddle", "me/paddle", dry_run=False, token="secret", endpoint=address)
    text, ours = found.files["model", "me/paddle"]["README.md"].decode(), packaged()["world-paddle"] / "README.md"
    assert 'from_pretrained("me/paddle")' in text
    assert text.partition("\n## ")[2] == ours.read_text().partition("\n## ")[2]
    assert "Provenance: " in text
    push_to_hub("dreams-ball", "me/ball", dry_run=False, token="secret", endpoint=address)
    assert found.files["model", "me/ball"]["README.md"].decode().count("## Scores") == 1


@pytest.mark.parametrize("name", list(packaged()))
def test_packaged_cards_state_their_licence_and_data(name):
    found = header((packaged()[name] / "README.md").read_text())
    assert found["license"] == "apache-2.0"
    assert found["datasets"]
    assert ("model-index" in found) == (packaged()[name] / "scores.json").is_file()
