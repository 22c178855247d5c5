"""Public names of the package: all exist and are functions, not the modules that define them."""

import importlib

import pytest

import framecast


def test_every_public_name_exists_and_has_its_kind():
    assert set(framecast.__all__) <= set(dir(framecast))
    kinds = {name: type(getattr(framecast, name)).__name__ for name in framecast.__all__}
    assert kinds == {
        "DatasetWriter": "type",
        "Predictor": "type",
        "run_benchmark": "function",
        "compare": "function",
        "evaluate": "function",
        "from_pretrained": "function",
        "load": "function",
        "metrics": "module",
        "read_video": "function",
        "rollout": "function",
        "save_pretrained": "function",
        "anomaly": "function",
        "push_to_hub": "function",
        "train": "function",
        "write_video": "function",
    }


def test_public_functions_are_not_replaced_by_imported_submodules():
    modules = ("training.train", "models.rollout", "evaluation.evaluate", "evaluation.compare")
    for module in modules:
        name = module.rpartition(".")[2]
        public = getattr(framecast, name)
        assert getattr(importlib.import_module(f"framecast.{module}"), name) is public
        assert getattr(framecast, name) is public
        assert callable(public)
    assert framecast.metrics.__name__ == "framecast.metrics"


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = framecast.trian
