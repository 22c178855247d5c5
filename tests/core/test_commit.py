"""Atomic, durable writes: unique names, no link is followed, leftovers are cleared, only own folders are replaced."""

import json
import os
from pathlib import Path

import pytest

from framecast.core import commit
from framecast.core.commit import (
    check_target,
    clear_leftovers,
    folder_kind,
    own_files,
    replaced_file,
    replaced_folder,
    temporary_path,
)
from framecast.core.errors import UserError
from framecast.core.io import write_text

STORE = {"format": 1, "videos": [], "arrays": {}}


def test_temporary_names_are_unique_and_hidden(tmp_path):
    names = {temporary_path(tmp_path / "a").name for _ in range(50)}
    assert len(names) == 50
    assert all(n.startswith(".a.part-") for n in names)
    assert len(temporary_path(tmp_path / ("x" * 250)).name) < 200


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(FileNotFoundError), replaced_file(tmp_path / "a.txt") as part:
        part.with_name("nowhere").rename(part)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_commit_syncs_the_content_and_then_the_folder_that_names_it(tmp_path, monkeypatch, kind):
    done = []
    monkeypatch.setattr(commit, "sync", lambda path: done.append(("sync", Path(path).name)))
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(("replace", Path(b).name)), real(a, b)))
    if kind == "file":
        write_text(tmp_path / "a.txt", "new")
        assert [d[0] for d in done] == ["sync", "replace", "sync"]
    else:
        with replaced_folder(tmp_path / "a.txt") as part:
            (part / "x").write_text("1")
        assert [d[0] for d in done] == ["sync", "sync", "replace", "sync"]
        assert done[0] == ("sync", "x")
    assert done[-2:] == [("replace", "a.txt"), ("sync", tmp_path.name)]


def test_links_are_replaced_and_never_followed(tmp_path):
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "a.json").symlink_to(tmp_path / "secret")
    (tmp_path / ".a.json.part").symlink_to(tmp_path / "secret")
    write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "secret").read_text() == "mine"
    assert (tmp_path / "a.json").read_text() == "new"
    assert not (tmp_path / "a.json").is_symlink()


def left(target, kind="part", pid=2**22 + 5, machine=None):
    return target.with_name(f".{target.name}.{kind}-{machine or commit._MACHINE}-{pid}-0123abcd")


def test_leftovers_of_ended_processes_are_cleared(tmp_path):
    target = tmp_path / "out"
    gone = [
        left(target),
        tmp_path / f".out.part-{2**22 + 5}",
        tmp_path / f".out.{2**22 + 5}.part",
        tmp_path / ".out.part",
    ]
    kept = [
        left(target, pid=os.getppid()),
        left(target, machine="0" * 8),
        left(tmp_path / "other"),
        tmp_path / ".outer",
    ]
    for path in (*gone, *kept):
        path.mkdir()
        (path / "x").write_text("1")
    clear_leftovers(target)
    assert [p for p in gone if p.exists()] == []
    # process ids recur: of this folder's maker only the age shows that the running process did not make it
    assert all(p.exists() for p in kept[1:])


def test_folder_that_was_being_replaced_is_restored(tmp_path):
    old = left(tmp_path / "store", "old")
    old.mkdir()
    (old / "index.json").write_text("{}")
    clear_leftovers(tmp_path / "store")
    assert (tmp_path / "store" / "index.json").is_file()


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("index.json", STORE, "store"),
        ("config.json", {"format": 1, "train": {}}, "run"),
        ("manifest.json", {"format": 1, "clips": [], "kind": "framecast-clips"}, "clips"),
        (".framecast.json", {"format": 1, "kind": "frames"}, "frames"),
        (".framecast.json", {"format": 1, "kind": "lerobot"}, "lerobot"),
        ("index.json", {"format": "1", "videos": []}, None),
        ("index.json", [], None),
        ("config.json", {"format": 1}, None),
        ("manifest.json", {"format": 1, "clips": [], "kind": "other"}, None),
        (".framecast.json", {"format": 1, "kind": "thesis"}, None),
        ("thesis.tex", {}, None),
    ],
)
def test_only_folders_with_an_own_manifest_are_replaced(tmp_path, name, content, kind):
    folder = tmp_path / "out"
    folder.mkdir()
    check_target(folder, "store", overwrite=False)
    (folder / name).write_text(json.dumps(content))
    assert folder_kind(folder) == kind
    for own in ("store", "run", "clips", "frames", "records", "lerobot"):
        if own == kind:
            check_target(folder, own, overwrite=True)
            with pytest.raises(UserError, match="already holds"):
                check_target(folder, own, overwrite=False)
        else:
            with pytest.raises(UserError, match="holds other files, so it is not replaced"):
                check_target(folder, own, overwrite=True)


def test_targets_that_are_no_folders_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(UserError, match="is a file or a broken link"):
            check_target(tmp_path / name, "store", overwrite=True)


def test_leases_and_leftovers_are_no_content(tmp_path):
    for name in (".lock", ".config.json.part", left(tmp_path / "config.json").name, "a"):
        (tmp_path / name).write_text("")
    assert [p.name for p in own_files(tmp_path)] == ["a"]
