"""Public names of the package: all exist, and none imports a heavy package before it is used."""

import subprocess
import sys

import pytest

import framecast


def python(code):
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.split()


def test_importing_the_package_imports_no_heavy_package():
    heavy = "{'torch', 'numpy', 'av', 'PIL', 'tyro', 'rich', 'yaml', 'matplotlib'}"
    printed = python(f"import sys, framecast; dir(framecast); print(len({heavy} & set(sys.modules)))")
    assert printed == ["0"]


def test_every_public_name_exists_and_has_its_kind():
    assert set(framecast.__all__) <= set(dir(framecast))
    kinds = {name: type(getattr(framecast, name)).__name__ for name in framecast.__all__}
    assert kinds == {
        "DatasetWriter": "type",
        "Predictor": "type",
        "run_benchmark": "function",
        "compare": "function",
        "envs": "module",
        "evaluate": "function",
        "from_pretrained": "function",
        "load": "function",
        "make_env": "function",
        "metrics": "module",
        "read_video": "function",
        "rollout": "function",
        "save_pretrained": "function",
        "train": "function",
        "write_video": "function",
    }


def test_public_functions_are_not_replaced_by_imported_submodules():
    printed = python(
        "import framecast.training.train, framecast.models.rollout, framecast.evaluation.evaluate\n"
        "from framecast.training.train import fit\n"
        "import framecast\n"
        "for name in ('train', 'rollout', 'evaluate'): print(type(getattr(framecast, name)).__name__)\n"
        "print(framecast.evaluate.__module__)\n"
        "print(framecast.metrics.__name__)"
    )
    assert printed == ["function", "function", "function", "framecast.evaluation.evaluate", "framecast.metrics"]


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = framecast.trian
