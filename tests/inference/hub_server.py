"""A stand-in for the Hugging Face Hub on the loopback: the endpoints that an upload and a download use."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse


class Hub:
    """Repositories in memory.

    Attributes:
        files: (kind, repository) -> name -> bytes.
        requests: method and path of every request.
        refused: answer every request with 401.
    """

    def __init__(self):
        self.files, self.requests, self.refused, self.created = {}, [], False, []

    @staticmethod
    def commit_of(files):
        return hashlib.sha1(b"".join(name.encode() + data for name, data in sorted(files.items()))).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _reply(self, body, code=200, headers=None, head=False):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in {
            "Content-Length": str(len(data)),
            "Content-Type": "application/json",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if not head:
            self.wfile.write(data)

    def _answer(self):
        hub, path = self.server.hub, urlparse(self.path).path
        hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if hub.refused or (self.command == "POST" and self.headers.get("Authorization") != "Bearer secret"):
            return self._reply({"error": "Invalid credentials"}, 401)
        address = f"http://{self.headers['Host']}"
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            hub.files.setdefault((asked.get("type", "model"), name), {})
            hub.created.append(asked)
            return self._reply({"url": f"{address}/{name}"})
        if path == "/api/validate-yaml":
            return self._reply({"errors": [], "warnings": []})
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            kind, name, verb = parts[1].removesuffix("s"), "/".join(parts[2:4]), parts[4] if parts[4:] else ""
            if (kind, name) not in hub.files:
                return self._reply({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            files = hub.files[kind, name]
            if verb == "preupload":
                asked = json.loads(body)["files"]
                modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]
                return self._reply({"files": modes})
            if verb == "commit":
                for line in map(json.loads, body.decode().splitlines()):
                    if line["key"] == "file":
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                oid = hub.commit_of(files)
                return self._reply({"commitUrl": f"{address}/{name}/commit/{oid}", "commitOid": oid})
            if verb == "tree":
                rows = [
                    {"type": "file", "path": n, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                    for n, d in files.items()
                ]
                return self._reply(rows)
            siblings = [{"rfilename": n} for n in files]
            return self._reply({"id": name, "sha": hub.commit_of(files), "siblings": siblings})
        name, file = "/".join(parts[:2]), "/".join(parts[4:])
        files = hub.files.get(("model", name), {})
        if file not in files:
            return self._reply({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        etag = hashlib.sha1(files[file]).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": hub.commit_of(files)}
        return self._reply(files[file], headers=headers, head=self.command == "HEAD")

    do_GET = do_POST = do_HEAD = _answer


@contextmanager
def hub_server():
    """Within: the stand-in and its address; the token of uploads is "secret"."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = Hub()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.hub, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
