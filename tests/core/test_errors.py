"""Errors of the disk and missing packages become one sentence."""

import errno
import os
from pathlib import Path

import pytest

from framecast.core.errors import UserError, imported, writing


def test_error_of_the_disk_names_path_reason_and_fix():
    sentence = r"^runs/a: cannot be written \(.*space.*\); choose another --out$"
    with pytest.raises(UserError, match=sentence) as found, writing(Path("runs/a")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert isinstance(found.value.__cause__, OSError)


def test_other_errors_pass_unchanged():
    with pytest.raises(KeyError), writing(Path("runs/a")):
        raise KeyError("a")


def test_missing_package_is_reported_with_its_remedy():
    assert imported("json", "needs json") is __import__("json")
    with pytest.raises(UserError, match=r"^x needs y; install it$"):
        imported("framecast_has_no_such_package", "x needs y; install it")
