"""A download arrives whole or not at all."""

import hashlib
import io
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from recsys.datasets import catalog
from recsys.datasets.catalog import ARCHIVES, Archive, fetch
from recsys.errors import DownloadError


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as content:
        for name, text in members.items():
            content.writestr(zipfile.ZipInfo(name), text)  # of 1980: the same bytes in every process
    return buffer.getvalue()


BODY = zipped(
    {
        "small/": "",
        "small/u.data": "1\t10\t5\t100\n",
        "small/README": "terms of use",
        "small/unneeded": "x" * 1000,
        "small/../../escaped": "out",
        "/tmp/absolute": "out",
        "u.data": "not this one",
    }
)
SMALL = Archive("small.zip", hashlib.md5(BODY).hexdigest(), "small", ("u.data", "README"))


@pytest.fixture
def server():
    """A server on this machine: `bodies` maps a path to what is sent, and to the length that is announced."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            if self.path not in self.server.bodies:
                self.send_error(404)
                return
            body, length = self.server.bodies[self.path]
            self.send_response(200)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.bodies = {"/sets/small.zip": (BODY, len(BODY))}
        httpd.asked = []
        httpd.url = f"http://127.0.0.1:{httpd.server_port}/sets/"
        thread = Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("slash", ["", "/"])
def test_fetch_unpacks_the_needed_members_and_nothing_else(server, tmp_path, slash, capsys):
    target = tmp_path / "data" / "raw" / "small"
    assert fetch(SMALL, target, base_url=server.url.rstrip("/") + slash) == target
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == [
        "data/raw/small/README",
        "data/raw/small/u.data",
    ]
    assert [path.name for path in target.parent.iterdir()] == ["small"]
    assert (target / "u.data").read_text() == "1\t10\t5\t100\n"
    assert capsys.readouterr().err == "", "bars are drawn on a terminal alone"


def test_a_length_that_is_not_announced_is_no_obstacle(server, tmp_path):
    server.bodies["/sets/small.zip"] = (BODY, None)
    assert (fetch(SMALL, tmp_path / "small", base_url=server.url) / "README").read_text() == "terms of use"


def test_a_folder_that_is_there_is_not_fetched_again_and_an_empty_one_is_filled(server, tmp_path):
    target = tmp_path / "small"
    target.mkdir()
    fetch(SMALL, target, base_url=server.url)
    (target / "u.data").write_text("mine")
    fetch(SMALL, target, base_url=server.url)
    assert (target / "u.data").read_text() == "mine"
    assert server.asked == ["/sets/small.zip"]


@pytest.mark.parametrize(
    ("answer", "archive", "message"),
    [
        (None, SMALL, "404"),
        ((BODY[:-40], len(BODY)), SMALL, f"cut short: expected {len(BODY):,} bytes, got {len(BODY) - 40:,}"),
        ((BODY[:-40], None), SMALL, "checksum of .* differs"),
        ((BODY[:-1] + b"x", len(BODY)), SMALL, f"expected md5 {SMALL.md5}"),
        ((b"no zip", 6), replace(SMALL, md5=hashlib.md5(b"no zip").hexdigest()), "not a zip file"),
        ((BODY, len(BODY)), replace(SMALL, members=("u.data", "u.item")), "expected small/u.item in small.zip"),
    ],
)
def test_a_failed_download_leaves_nothing_and_says_what_to_do(server, tmp_path, answer, archive, message):
    server.bodies = {} if answer is None else {"/sets/small.zip": answer}
    with pytest.raises(DownloadError, match=f"(?s)small.zip: .*{message}.*nothing was kept.*unpack its folder small/"):
        fetch(archive, tmp_path / "small", base_url=server.url)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_is_a_download_error(server, tmp_path):
    gone = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="refused"):
        fetch(SMALL, tmp_path / "small", base_url=gone)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_download_leaves_nothing(server, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(catalog, "_unpack", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(SMALL, tmp_path / "small", base_url=server.url)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_download_left_goes_and_a_link_is_followed(server, tmp_path):
    for name in (SMALL.file, f"{SMALL.folder}/README", f"{SMALL.folder}/thesis"):
        path = tmp_path / ".far.recsys-0123abcd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    (tmp_path / "far").mkdir()
    (tmp_path / "small").symlink_to("far")
    fetch(SMALL, tmp_path / "small", base_url=server.url)
    assert (tmp_path / "small" / "README").read_text() == "terms of use"
    assert [path.name for path in (tmp_path / ".far.recsys-0123abcd").rglob("*")] == [SMALL.folder, "thesis"]
    (tmp_path / "lost").symlink_to("none")
    with pytest.raises(DownloadError, match=r"lost is a link to .*none, where there is no folder"):
        fetch(SMALL, tmp_path / "lost", base_url=server.url)


def test_several_fetches_at_once_end_in_one_whole_folder(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: fetch(SMALL, tmp_path / "small", base_url=server.url), range(4)))
    assert set(folders) == {tmp_path / "small"}
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    assert sorted(path.name for path in folders[0].iterdir()) == ["README", "u.data"]


def test_the_copy_of_whoever_came_first_stays(server, tmp_path, monkeypatch):
    unpack = catalog._unpack

    def unpack_after_another(*args):
        unpack(*args)
        (tmp_path / "small").mkdir()
        (tmp_path / "small" / "u.data").write_text("first")

    monkeypatch.setattr(catalog, "_unpack", unpack_after_another)
    assert (fetch(SMALL, tmp_path / "small", base_url=server.url) / "u.data").read_text() == "first"


def test_a_target_that_cannot_be_made_is_a_download_error(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match="file: it is not a folder"):
        fetch(SMALL, tmp_path / "file" / "small", base_url=server.url)


def test_every_archive_is_described_in_full():
    assert sorted(ARCHIVES) == ["ml-100k", "ml-10m", "ml-1m", "ml-20m", "ml-25m", "ml-32m"]
    assert len({archive.md5 for archive in ARCHIVES.values()}) == 6
    for name, archive in ARCHIVES.items():
        assert archive.file == f"{name}.zip"
        assert len(bytes.fromhex(archive.md5)) == 16
        assert any(member.startswith("README") for member in archive.members)


def test_what_is_there_is_read_where_nothing_may_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "u.data").write_text("there")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert fetch(SMALL, tmp_path / "small", base_url=server.url) == tmp_path / "small"
    with pytest.raises(DownloadError, match="nothing may be written there"):
        fetch(SMALL, tmp_path / "other", base_url=server.url)
