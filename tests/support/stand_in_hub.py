"""A stand-in for the Hub on this machine: what huggingface_hub, transformers, diffusers and datasets ask of it.

Weights and tables travel by LFS with their SHA-256 checked, everything else inside the commit. Programs use it as
processes of their own with the variables of `StandInHub.environment`: they are read when the libraries are imported.
"""

import base64
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


OWNER = "tester"
_LFS = (".safetensors", ".parquet")
_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(.*))?")
_RESOLVE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


@dataclass
class Repository:
    """Files of the only branch, and one entry for each commit: its message and the paths that it changed."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[tuple[str, list[str]]] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1(f"{id(self)} {len(self.commits)}".encode()).hexdigest()


class StandInHub:
    """`with StandInHub() as hub:` answers at `hub.url` until the end of the block.

    Attributes:
        repositories: ("model" | "dataset", "owner/name") -> `Repository`.
        blobs: SHA-256 -> content of what LFS holds.
        uploads: SHA-256 of every blob that was sent, in order.
        requests: All that came, as "GET /path", in order.
        unknown: Requests that it has no answer for.
        hang_after: So many uploads are taken; the next ones get no answer until `release` is set.
        hanging: Set once an upload hangs.
    """

    def __init__(self):
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.hang_after: int | None = None
        self.hanging, self.release = threading.Event(), threading.Event()
        self.lock = threading.Lock()

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home) -> dict[str, str]:
        """Variables for a process that shall take this for the Hub, with its caches in `home`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return {
            **kept,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": "hf_standin",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "OMP_NUM_THREADS": "1",
            "no_proxy": "127.0.0.1",
        }


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self):
        parts = urlsplit(self.path)
        path, body = unquote(parts.path), self._body()
        self.hub.requests.append(f"{self.command} {path}")
        if path == "/api/whoami-v2":
            return self._json({"type": "user", "name": OWNER, "orgs": [], "auth": {"type": "access_token"}})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._lfs_batch(json.loads(body))
        if path.startswith("/lfs/"):
            return self._upload(path.removeprefix("/lfs/"), body)
        if found := _API.fullmatch(path):
            return self._api(found[1][:-1], found[2], found[3] or "", parts.query, body)
        if found := _RESOLVE.fullmatch(path):
            return self._file((found[1] or "models")[:-1], found[2], found[4])
        return self._unknown()

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    # ---- repositories ----

    def _create(self, asked: dict):
        kind, name = asked.get("type", "model"), f"{asked.get('organization') or OWNER}/{asked['name']}"
        url = f"{self.hub.url}/{'' if kind == 'model' else kind + 's/'}{name}"
        with self.hub.lock:
            if (kind, name) in self.hub.repositories:
                return self._json({"error": "You already created this repo", "url": url}, 409)
            self.hub.repositories[kind, name] = Repository(private=_is_private(asked))
        return self._json({"url": url, "name": name, "id": "1"})

    def _api(self, kind: str, name: str, rest: str, query: str, body: bytes):
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return self._missing("RepoNotFound")
        verb = rest.partition("/")[0]
        if verb in ("", "revision"):
            return self._json(self._info(name, repository))
        if verb == "preupload":
            return self._json({"files": [self._mode(repository, file["path"]) for file in json.loads(body)["files"]]})
        if verb == "commit":
            return self._commit(name, repository, body)
        if verb == "tree":
            folder = rest.split("/", 2)[2].strip("/") if rest.count("/") > 1 else ""
            deep = parse_qs(query).get("recursive", ["false"])[0].lower() in ("true", "1")
            entries = self._tree(repository, folder, deep)
            return self._json(entries) if entries or not folder else self._missing("EntryNotFound")
        if verb == "paths-info":
            wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode()).get("paths", [])
            everything = {entry["path"]: entry for entry in self._tree(repository, "", True)}
            return self._json([everything[path.strip("/")] for path in wanted if path.strip("/") in everything])
        return self._unknown()

    def _info(self, name: str, repository: Repository) -> dict:
        siblings = [{"rfilename": path} for path in sorted(repository.files)]
        return {"_id": "1", "id": name, "sha": repository.sha, "private": repository.private, "siblings": siblings,
                "tags": [], "downloads": 0, "likes": 0, "gated": False, "disabled": False}  # fmt: skip

    def _mode(self, repository: Repository, path: str) -> dict:
        content = repository.files.get(path)
        oid = None if content is None else _oid(path, content)
        return {"path": path, "uploadMode": _mode(path), "shouldIgnore": False, "oid": oid}

    def _commit(self, name: str, repository: Repository, body: bytes):
        lines = [json.loads(line) for line in body.splitlines() if line]
        summary, changed = lines[0]["value"]["summary"], {}
        removed = set()
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                changed[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile" and value["oid"] in self.hub.blobs:
                changed[value["path"]] = self.hub.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                removed.add(value["path"])
            else:
                return self._json({"error": f"cannot commit {value}"}, 400)
        with self.hub.lock:  # all of it or nothing
            repository.files |= changed
            for path in removed:
                del repository.files[path]
            repository.commits.append((summary, sorted(changed)))
        sha = repository.sha
        return self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha, "success": True})

    def _tree(self, repository: Repository, folder: str, deep: bool) -> list[dict]:
        entries, folders = [], set()
        for path, content in sorted(repository.files.items()):
            if folder and not path.startswith(folder + "/"):
                continue
            steps = path[len(folder) + 1 if folder else 0 :].split("/")
            ends = range(1, len(steps)) if deep else range(1, min(2, len(steps)))
            folders |= {"/".join(filter(None, [folder, *steps[:end]])) for end in ends}
            if deep or len(steps) == 1:
                entry = {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content)}
                if _mode(path) == "lfs":
                    entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 130}
                entries.append(entry)
        return entries + [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in sorted(folders)]

    # ---- contents ----

    def _lfs_batch(self, asked: dict):
        objects = []
        for wanted in asked["objects"]:
            found = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.blobs:
                found["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}
            objects.append(found)
        return self._json({"transfer": "basic", "objects": objects})

    def _upload(self, oid: str, body: bytes):
        if oid != _sha256(body):
            return self._json({"error": "the content has another SHA-256"}, 400)
        with self.hub.lock:
            hang = self.hub.hang_after is not None and len(self.hub.uploads) >= self.hub.hang_after
            if not hang:
                self.hub.uploads.append(oid)
                self.hub.blobs[oid] = body
        if hang:
            self.hub.hanging.set()
            self.hub.release.wait(60)
            self.close_connection = True
            return None
        return self._json({})

    def _file(self, kind: str, name: str, path: str):
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return self._missing("RepoNotFound")
        headers, content = {"X-Repo-Commit": repository.sha}, repository.files.get(path)
        if content is None:
            return self._missing("EntryNotFound", headers)
        headers |= {"ETag": f'"{_oid(path, content)}"', "Accept-Ranges": "bytes"}
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), int(asked[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return self._send(206, content[first : last + 1], headers)
        return self._send(200, content, headers)

    # ---- HTTP ----

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _json(self, value, status: int = 200, headers: dict | None = None):
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _missing(self, code: str, headers: dict | None = None):
        self._json({"error": code}, 404, {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _unknown(self):
        self.hub.unknown.append(f"{self.command} {self.path}")
        self._missing("unknown to the stand-in")

    def _send(self, status: int, content: bytes, headers: dict):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _is_private(asked: dict) -> bool:
    # huggingface_hub 1 says `private`, its successor `visibility`
    return bool(asked.get("private")) or asked.get("visibility") == "private"


def _mode(path: str) -> str:
    return "lfs" if path.endswith(_LFS) else "regular"


def _oid(path: str, content: bytes) -> str:
    return _sha256(content) if _mode(path) == "lfs" else _git_oid(content)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
