"""Downloads from a local host that breaks connections, resumes, changes files and sends damaged archives."""

import io
import tarfile
import threading
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from framecast.cli import run
from framecast.cli.data import run_data
from framecast.core.errors import UserError
from framecast.data.download import SETS, _Redirects, fetch, file_hash, find, offer, unpack

CONTENT = bytes(range(256)) * 4096  # one mebibyte


class Host(BaseHTTPRequestHandler):
    """files: name -> bytes.  breaks: bytes sent before the connection ends, once.  ranges: whether it can resume."""

    files = {}
    breaks = None
    ranges = True
    tag = '"one"'
    asked = []

    def do_HEAD(self):
        self.answer(head=True)

    def do_GET(self):
        self.answer(head=False)

    def answer(self, head):
        cls = type(self)
        cls.asked.append((self.command, self.headers.get("Range")))
        content = cls.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        start, wanted = 0, self.headers.get("Range")
        if wanted and cls.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", cls.tag)
        self.end_headers()
        if head:
            return
        part = content[start:]
        if cls.breaks is not None:
            part, cls.breaks = part[: cls.breaks], None
        self.wfile.write(part)
        self.close_connection = True

    def log_message(self, *words):
        pass


@contextmanager
def serving(**settings):
    host = type("Its", (Host,), {"asked": [], **settings})
    server = ThreadingHTTPServer(("127.0.0.1", 0), host)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def archive(members):
    """A .tar.gz of name -> bytes."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def test_broken_transfer_is_resumed(tmp_path):
    with serving(files={"a.bin": CONTENT}, breaks=400_000) as (address, host):
        wanted = offer(f"{address}/a.bin")
        assert wanted.size == len(CONTENT)
        assert wanted.words == f"a.bin, 1.0 MB, from {wanted.host}"
        with pytest.raises(UserError, match=r"ended at 400\.0 kB of 1\.0 MB; run the same command again"):
            fetch(wanted, tmp_path)
        assert not (tmp_path / "a.bin").exists()
        seen = []
        path = fetch(wanted, tmp_path, lambda done, total: seen.append((done, total)))
        assert path.read_bytes() == CONTENT
        assert host.asked[-1] == ("GET", "bytes=400000-")
        assert seen[-1] == (len(CONTENT), len(CONTENT))
        asked = len(host.asked)
        assert fetch(wanted, tmp_path) == path
        assert len(host.asked) == asked, "what is whole is not fetched again"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_host_without_ranges_restarts_the_transfer(tmp_path):
    with serving(files={"a.bin": CONTENT}, breaks=1000, ranges=False) as (address, _):
        with pytest.raises(UserError, match="run the same command again"):
            fetch(offer(f"{address}/a.bin"), tmp_path)
        assert fetch(offer(f"{address}/a.bin"), tmp_path).read_bytes() == CONTENT


def test_changed_file_is_downloaded_from_scratch(tmp_path):
    with serving(files={"a.bin": CONTENT}, breaks=1000) as (address, host):
        with pytest.raises(UserError):
            fetch(offer(f"{address}/a.bin"), tmp_path)
        host.files, host.tag = {"a.bin": CONTENT[::-1]}, '"two"'
        assert fetch(offer(f"{address}/a.bin"), tmp_path).read_bytes() == CONTENT[::-1]


def test_unreachable_hosts_are_reported(tmp_path):
    with serving(files={}) as (address, _), pytest.raises(UserError, match="the host returned 404"):
        offer(f"{address}/a.bin")
    with pytest.raises(UserError, match="cannot be reached"):
        offer(f"{address}/a.bin")


def test_names_of_sets_and_parts():
    assert find("agc", "mspacman").endswith("/mspacman.tar.gz")
    assert find("agc", "montezuma_revenge").endswith("/revenge.tar.gz")
    assert find("agc", "all", "https://mirror.example/x/") == "https://mirror.example/x/full.tar.gz"
    with pytest.raises(UserError, match="is not encrypted; use https://, or --allow-http"):
        find("agc", "all", "http://mirror.example/x/")
    assert find("agc", "all", "http://mirror.example/x/", True) == "http://mirror.example/x/full.tar.gz"
    assert find("agc", "all", "http://127.0.0.1:1/x").startswith("http://127.0.0.1")
    for address in ("https://[", "file:///etc/", "ftp://a/b", "//x"):
        with pytest.raises(UserError, match="must begin with https"):
            find("agc", "all", address)
    assert len(SETS["agc"].files) == 7
    with pytest.raises(UserError, match="unknown data set 'acg'; did you mean 'agc'"):
        find("acg", "all")
    with pytest.raises(UserError, match="has no part 'pacman'"):
        find("agc", "pacman")
    with pytest.raises(UserError, match="must begin with https"):
        find("agc", "all", "file:///etc")


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt"])
def test_paths_outside_the_folder_are_refused(tmp_path, name):
    (tmp_path / "a.tar.gz").write_bytes(archive({"fine.txt": b"1", name: b"2"}))
    if name.startswith("/"):  # an absolute name is taken as one below the folder
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
        assert (tmp_path / "out" / "tmp" / "outside.txt").read_bytes() == b"2"
    else:
        with pytest.raises(UserError, match="holds a path outside its folder"):
            unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert not (tmp_path / "outside.txt").exists()


def test_wrong_hash_is_refused_and_the_file_not_installed(tmp_path):
    with serving(files={"x.tar.gz": CONTENT}) as (address, _):
        wanted = offer(f"{address}/x.tar.gz")
        with pytest.raises(UserError, match=r"its SHA-256 is [0-9a-f]{64}, expected 00"):
            fetch(wanted, tmp_path, sha256="00" * 32)
        assert not (tmp_path / wanted.name).exists()
        found = file_hash(fetch(wanted, tmp_path))
        assert fetch(wanted, tmp_path, sha256=found.upper()) == tmp_path / wanted.name


def test_redirection_out_of_encryption_is_refused():
    request = urllib.request.Request("https://host.example/a")
    with pytest.raises(UserError, match="is not encrypted"):
        _Redirects().redirect_request(request, None, 302, "", {}, "http://other.example/a")


def test_links_in_place_of_a_partial_download_are_not_followed(tmp_path):
    (tmp_path / "secret").write_text("mine")
    with serving(files={"x.tar.gz": CONTENT}) as (address, _):
        wanted = offer(f"{address}/x.tar.gz")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / f"{wanted.name}.part").symlink_to(tmp_path / "secret")
        fetch(wanted, tmp_path / "out")
    assert (tmp_path / "secret").read_text() == "mine"


def test_expansion_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("framecast.data.download._FREE_BYTES", 1000)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"zeros-{number}")
            member.size = 1_000_000
            tar.addfile(member, io.BytesIO(bytes(1_000_000)))
    with pytest.raises(UserError, match="unpacks to more than 20 times its size"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


def test_links_and_damage_are_refused(tmp_path):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    (tmp_path / "a.tar.gz").write_bytes(raw.getvalue())
    with pytest.raises(UserError, match="'link', expected files and folders only"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    for damaged in (archive({"x": CONTENT})[:500], b"not an archive"):
        (tmp_path / "b.tar.gz").write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged"):
            unpack(tmp_path / "b.tar.gz", tmp_path / "out")


def test_command_reports_size_and_host_and_unpacks(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    members = {f"atari_v1/screens/qbert/1/{i}.png": bytes([i]) for i in range(3)}
    content = archive({**members, "atari_v1/trajectories/qbert/1.txt": b"x"})
    with serving(files={"qbert.tar.gz": content}) as (address, _):
        words = ["data", "download", "agc", "--game", "qbert", "--out", str(tmp_path / "agc"), "--url", address]
        assert run(words) == 2
        result = capsys.readouterr().err
        assert f"qbert.tar.gz, {len(content)} bytes, from {address[7:]}" in result
        assert "is not a terminal, so the question cannot be answered; use --yes" in result
        assert not list(tmp_path.glob("agc/*"))
        assert run([*words, "--yes"]) == 0
    assert "4 files in" in capsys.readouterr().out
    assert (tmp_path / "agc" / "atari_v1" / "screens" / "qbert" / "1" / "2.png").read_bytes() == b"\x02"
    assert not (tmp_path / "agc" / "qbert.tar.gz").exists()


@pytest.mark.parametrize("name", ["kth", "bair", "robonet", "cityscapes", "moving-mnist"])
def test_sets_fetched_by_hand_state_what_to_download(name):
    with pytest.raises(UserError, match=r"is not fetched by this command\..*download.*then framecast"):
        run_data(["download", name])


def test_a_set_that_is_fetched_needs_a_folder():
    with pytest.raises(UserError, match="data download: --out is missing"):
        run_data(["download", "agc"])
