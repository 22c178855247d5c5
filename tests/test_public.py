"""The public names: all reachable, none paid for before it is used."""

import subprocess
import sys

import pytest

import framecast


def python(code):
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'torch', 'numpy', 'av', 'PIL', 'tyro', 'rich', 'yaml', 'matplotlib'}"
    told = python(f"import sys, framecast; dir(framecast); print(len({heavy} & set(sys.modules)))")
    assert told == ["0"]


def test_every_public_name_is_there_and_is_what_it_says():
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
        "train": "function",
        "write_video": "function",
    }


def test_submodules_imported_first_do_not_hide_the_functions_named_like_them():
    told = python(
        "import framecast.training.train, framecast.models.rollout, framecast.evaluation.evaluate\n"
        "from framecast.training.train import fit\n"
        "import framecast\n"
        "for name in ('train', 'rollout', 'evaluate'): print(type(getattr(framecast, name)).__name__)\n"
        "print(framecast.evaluate.__module__)\n"
        "print(framecast.metrics.__name__)"
    )
    assert told == ["function", "function", "function", "framecast.evaluation.evaluate", "framecast.metrics"]


def test_what_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = framecast.trian
