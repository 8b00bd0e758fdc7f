"""get_file against a local server: the cache, hashes, lost connections, archives."""

import errno
import hashlib
import io
import os
import resource
import socket
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import keras
import pytest

from keraslite import config, layers, utils

DATA = b"the weights" * 100
MD5, SHA256 = hashlib.md5(DATA).hexdigest(), hashlib.sha256(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Keep the output of the tests clean."""

    def do_GET(self):
        self.server.requests.append(self.path)
        name = self.path.partition("?")[0].rpartition("/")[2]
        if name not in self.server.files:
            return self.send_error(404, "Not Found")
        body = self.server.files[name]
        self.send_response(200)
        if name.startswith("chunked"):
            self.send_header("Transfer-Encoding", "chunked")
        elif name.startswith("unsized"):
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if name.startswith("chunked"):
            body = b"%x\r\n%s\r\n" % (len(body), body) + (b"" if "cut" in name else b"0\r\n\r\n")
        if "cut" in name:
            body, self.close_connection = body[: len(body) // 2], True
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    """A server of `files`, which lists the `requests`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.files, http.requests = {"file.h5": DATA}, []
    http.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield http
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, which is the default one."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def entries(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def fails(error, match, *args, **kwargs):
    """Expect an error whose message is in one line and names the address."""
    with pytest.raises(error, match=match) as caught:
        utils.get_file(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return caught.value


# -- the cache ------------------------------------------------------------------------------------


def test_a_file_is_downloaded_once(server, cache, capsys):
    url = f"{server.url}/models/file.h5?version=1"
    path = utils.get_file(origin=url)
    assert path == str(cache / "datasets/file.h5") and Path(path).read_bytes() == DATA
    assert utils.get_file(origin=url) == path and len(server.requests) == 1
    assert utils.get_file(origin=url, force_download=True) == path and len(server.requests) == 2
    assert entries(cache) == ["datasets", "datasets/file.h5"]
    assert f"Downloading data from {url} - 1.07 KB/1.07 KB" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["chunked.h5", "unsized.h5", "empty.h5"])
def test_files_of_unknown_size_and_empty_ones(server, cache, name):
    server.files[name] = b"" if name == "empty.h5" else DATA
    assert Path(utils.get_file(origin=f"{server.url}/{name}")).read_bytes() == server.files[name]


def test_large_files_come_in_parts(server, cache):
    server.files["large.bin"] = os.urandom(3_000_001)
    path = utils.get_file(origin=f"{server.url}/large.bin")
    assert Path(path).read_bytes() == server.files["large.bin"]


def test_the_place_of_a_file(server, cache, tmp_path):
    url = f"{server.url}/file.h5"
    assert utils.get_file("a.h5", url, cache_subdir="models") == str(cache / "models/a.h5")
    assert utils.get_file("a.h5", url, cache_dir=tmp_path / "b") == str(
        tmp_path / "b/datasets/a.h5"
    )
    assert utils.get_file(Path("a.h5"), url, cache_subdir=tmp_path) == str(tmp_path / "a.h5")


def test_a_home_that_is_no_folder_is_replaced(server, monkeypatch, tmp_path):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    path = utils.get_file(origin=f"{server.url}/file.h5")
    assert path == str(tmp_path / "temporary/.keras/datasets/file.h5")
    fails(OSError, "home", origin=f"{server.url}/file.h5", cache_dir=tmp_path / "home")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"origin": None}, "origin must be"),
        ({"origin": "http://127.0.0.1/"}, "give fname"),
        ({"origin": "http://127.0.0.1/a/.."}, "give fname"),
        ({"fname": "../a.h5", "origin": "x"}, "fname must be a name without folders"),
        ({"fname": "..", "origin": "x"}, "give fname"),
        ({"origin": "http://h/a", "hash_algorithm": "sha1"}, "hash_algorithm must be"),
    ],
)
def test_arguments(cache, arguments, match):
    fails(ValueError, match, **arguments)
    assert not cache.exists()


# -- hashes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"file_hash": MD5}, {"file_hash": SHA256}, {"file_hash": SHA256.upper()}, {"md5_hash": MD5},
        {"file_hash": MD5, "hash_algorithm": "md5"},
        {"file_hash": SHA256, "hash_algorithm": "sha256"},
    ],
)  # fmt: skip
def test_hashes(server, cache, arguments):
    url = f"{server.url}/file.h5"
    path = Path(utils.get_file(origin=url, **arguments))
    utils.get_file(origin=url, **arguments)
    assert len(server.requests) == 1
    path.write_bytes(b"damaged")
    utils.get_file(origin=url, **arguments)
    assert len(server.requests) == 2 and path.read_bytes() == DATA


def test_messages_are_logged_where_interactive_logging_is_off(server, cache, capsys, caplog):
    url = f"{server.url}/file.h5"
    Path(utils.get_file(origin=url)).write_bytes(b"damaged")
    capsys.readouterr()
    config.disable_interactive_logging()
    try:
        with caplog.at_level("INFO", logger="keraslite"):
            utils.get_file(origin=url, file_hash=MD5)
    finally:
        config.enable_interactive_logging()
    assert capsys.readouterr().out == ""
    assert f"has another hash than {MD5}" in caplog.messages[0]
    assert f"Downloading data from {url}" in caplog.messages[1]


def test_a_wrong_hash_leaves_no_file(server, cache):
    url = f"{server.url}/file.h5"
    error = fails(ValueError, "its hash is", origin=url, file_hash="0" * 32)
    assert url in str(error) and MD5 in str(error) and "0" * 32 in str(error)
    assert entries(cache) == ["datasets"]


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("absent.h5", r"the server answered 404 \(Not Found\)"),
        ("cut.h5", "the connection was lost after 550 of 1,100 bytes"),
        ("chunked-cut.h5", "the connection was lost"),
    ],
)
@pytest.mark.parametrize("is_there", [False, True])
def test_a_download_that_fails_leaves_the_cache_as_it_was(server, cache, name, match, is_there):
    server.files |= {"cut.h5": DATA, "chunked-cut.h5": DATA}
    if is_there:
        utils.get_file(name, f"{server.url}/file.h5")
    before = entries(cache / "datasets")
    url = f"{server.url}/{name}"
    assert url in str(fails(OSError, match, name, url, force_download=True))
    assert entries(cache / "datasets") == before
    if is_there:
        assert (cache / "datasets" / name).read_bytes() == DATA


def test_a_server_that_is_not_there(cache):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.h5"
        fails(OSError, f"{url} cannot be downloaded: Connection refused", origin=url)
    fails(OSError, "unknown url type", origin="nowhere/a.h5")
    fails(OSError, "No such file", origin=(cache / "absent").as_uri())
    assert entries(cache) == ["datasets"]


def test_a_disk_without_room(server, cache):
    server.files["large.bin"] = bytes(2_000_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        error = fails(OSError, "large.bin", origin=f"{server.url}/large.bin")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.errno == errno.EFBIG and entries(cache) == ["datasets"]


def test_two_downloads_at_once(server, cache):
    url, paths = f"{server.url}/file.h5", []
    threads = [
        threading.Thread(target=lambda: paths.append(utils.get_file(origin=url, file_hash=MD5)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8 and len(set(paths)) == 1 and entries(cache / "datasets") == ["file.h5"]


# -- archives -------------------------------------------------------------------------------------

MEMBERS = {"pictures/a.txt": b"a", "pictures/b/c.txt": b"c"}


def tar(members, mode="w:gz"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None or isinstance(content, str):  # a device, a link
                info.type = tarfile.CHRTYPE if content is None else tarfile.SYMTYPE
                info.linkname = content or ""
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("fname", [None, "data", "data.tar.gz", "data.zip"])
@pytest.mark.parametrize(
    ("name", "argument"),
    [("files.tar", "extract"), ("files.tar.gz", "untar"), ("files.zip", "extract")],
)
def test_archives_lie_where_keras_puts_them(server, cache, tmp_path, fname, name, argument):
    server.files[name] = zipped(MEMBERS) if name == "files.zip" else tar(MEMBERS, "w:" + name[10:])
    (tmp_path / "keras").mkdir()
    url = f"{server.url}/{name}"
    theirs = keras.utils.get_file(fname, url, cache_dir=tmp_path / "keras", **{argument: True})
    path = utils.get_file(fname, url, **{argument: True})
    assert os.path.relpath(path, cache) == os.path.relpath(theirs, tmp_path / "keras")
    assert contents(cache) == contents(tmp_path / "keras") and len(contents(Path(path))) == 2
    assert entries(cache) == entries(tmp_path / "keras")


def test_a_folder_is_extracted_once_and_keeps_other_files(server, cache):
    server.files["files.tar"] = tar(MEMBERS)
    folder = Path(utils.get_file(origin=f"{server.url}/files.tar", extract=True))
    (folder / "labels.txt").write_bytes(b"mine")
    (folder / "pictures/a.txt").unlink()
    again = {"origin": f"{server.url}/files.tar", "extract": True}
    utils.get_file(**again)
    assert contents(folder) == {"pictures/b/c.txt": b"c", "labels.txt": b"mine"}
    server.files["files.tar"] = tar({"pictures/a.txt": b"new", "pictures/b": b"a file"})
    utils.get_file(**again, force_download=True)
    assert contents(folder) == {
        "pictures/a.txt": b"new", "pictures/b": b"a file", "labels.txt": b"mine"
    }  # fmt: skip
    assert entries(cache / "datasets")[:2] == ["files.tar", "files.tar/labels.txt"]


HOSTILE = {
    "parent": tar({"a": b"a", "../evil": b"x"}),
    "absolute": tar({"a": b"a", "link": "/etc/passwd"}),
    "through a link": tar({"a": b"a", "up": "..", "up/evil": b"x"}),
    "device": tar({"a": b"a", "device": None}),
    "zip parent": zipped({"a": b"a", "../evil": b"x"}),
    "zip absolute": zipped({"a": b"a", "/tmp/evil": b"x"}),
    "cut": tar({"a": os.urandom(10_000)})[:5000],
    "cut zip": zipped({"a": os.urandom(100)}).replace(b"PK\x03\x04", b"PK\x03\x05"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_and_hostile_archives(server, cache, name):
    server.files["files"] = HOSTILE[name]
    fails(ValueError, "cannot be extracted", "files", f"{server.url}/files", extract=True)
    assert entries(cache) == ["datasets", "datasets/files_archive"]


@pytest.mark.parametrize("archive_format", [None, [], "zip", ["zip"]])
def test_what_is_no_archive(server, cache, archive_format):
    server.files["files.tar"] = tar(MEMBERS)
    arguments = {"extract": True, "archive_format": archive_format}
    with pytest.warns(UserWarning, match="is not extracted"):
        path = utils.get_file(origin=f"{server.url}/files.tar", **arguments)
    assert not os.path.exists(path)
    arguments["archive_format"] = "rar"
    fails(ValueError, "archive_format must be", origin=f"{server.url}/files.tar", **arguments)


# -- other helpers --------------------------------------------------------------------------------


def test_source_inputs():
    a, b, unused = (layers.Input((2,)) for _ in range(3))
    x = layers.Add()([layers.Dense(2)(b), a])
    for _ in range(60):  # two ways into each: 2**60 paths
        x = layers.Add()([x, x])
    sources = utils.get_source_inputs(x)
    assert len(sources) == 2 and sources[0] is b and sources[1] is a
    assert utils.get_source_inputs(a)[0] is a
