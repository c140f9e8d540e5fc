"""MNIST and CIFAR-10: what the files hold comes out in their order, damage is noticed, a download is whole or not there.

The files here are tiny, the tables are patched to know them, and downloads come from a server in this process.
"""

import contextlib
import gzip
import hashlib
import io
import os
import re
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pooch
import pytest

from dpm.data import files
from dpm.errors import UserError

ROOT = Path(__file__).parents[1]
BATCHES = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
LAST = "cifar-10-batches-bin/test_batch.bin"
TRAIN, TEST = "mnist/train-images-idx3-ubyte", "mnist/t10k-images-idx3-ubyte"
TABLES = dict(files.ARCHIVES)
HALF = "half of it, then the connection ends"
SLOWLY = "slowly"


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape) + values.tobytes()


def batch(i: int) -> bytes:
    """Two images of label i; the pixel in line 2, column 5 has the colour (i, 100 + image, 200 + i), the others noise."""
    rows = np.random.default_rng(i).integers(0, 256, (2, 3073), dtype=np.uint8)
    rows[:, 0] = i
    for channel, value in enumerate([i, [100, 101], 200 + i]):
        rows[:, 1 + channel * 1024 + 2 * 32 + 5] = value
    return rows.tobytes()


DIGITS = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = np.array([5, 0, 4, 7, 2], np.uint8)
CONTENTS = {f"cifar-10-batches-bin/{name}": batch(i) for i, name in enumerate(BATCHES)} | {
    TRAIN: idx(DIGITS[:3]),
    TEST: idx(DIGITS[3:]),
    "mnist/train-labels-idx1-ubyte": idx(LABELS[:3]),
    "mnist/t10k-labels-idx1-ubyte": idx(LABELS[3:]),
}


def tar_gz(contents: dict[str, bytes]) -> bytes:
    """As published: in a folder, which is a member too, with a file that nobody needs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        folder = tarfile.TarInfo("cifar-10-batches-bin")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in {"cifar-10-batches-bin/readme.html": b"<html>", **contents}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


PUBLISHED = {
    "cifar-10-binary.tar.gz": tar_gz({path: content for path, content in CONTENTS.items() if path.startswith("cifar")}),
    **{f"{Path(path).name}.gz": gzip.compress(content) for path, content in CONTENTS.items() if path.startswith("mnist")},
}


class Server(ThreadingHTTPServer):
    """Answers with bytes, or a status, or HALF of what is published; `asked` are the paths of the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, bytes | int | str] = {}
        self.asked: list[str] = []

    def mirror(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path, PUBLISHED.get(Path(self.path).name, 404))
        content = PUBLISHED[Path(self.path).name] if answer == HALF else answer if isinstance(answer, bytes) else b""
        self.send_response(answer if isinstance(answer, int) else 200)
        self.send_header("Content-Length", str(len(content) if answer != SLOWLY else len(PUBLISHED[Path(self.path).name])))
        self.end_headers()
        if answer == SLOWLY:
            self.slowly(PUBLISHED[Path(self.path).name])
        self.wfile.write(content[: len(content) // 2] if answer == HALF else content)

    def slowly(self, content: bytes) -> None:
        with contextlib.suppress(OSError):  # the other end has had enough
            for byte in content:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(variable, "127.0.0.1")
    with Server() as server:
        thread = Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def know(monkeypatch, path: str, content: bytes) -> None:
    """Let the table expect this content of this file."""
    know_all(monkeypatch, lambda file: replace(file, **expected(content)) if file.path == path else file)


def know_all(monkeypatch, change: Callable[[files.File], files.File], **fields: object) -> None:
    for name, archives in files.ARCHIVES.items():
        changed = tuple(replace(a, files=tuple(change(file) for file in a.files), **fields) for a in archives)
        monkeypatch.setitem(files.ARCHIVES, name, changed)


def expected(content: bytes) -> dict[str, int | str]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.fixture(autouse=True)
def tiny(monkeypatch) -> None:
    """The tables know the tiny files and archives."""
    know_all(monkeypatch, lambda file: replace(file, **expected(CONTENTS[file.path])))
    for name, archives in files.ARCHIVES.items():
        known = (replace(a, sha256=hashlib.sha256(PUBLISHED[a.name]).hexdigest()) for a in archives)
        monkeypatch.setitem(files.ARCHIVES, name, tuple(known))


@pytest.fixture
def mirrors(server: Server, monkeypatch) -> Server:
    """Both data sets come from `/first/` or else from `/second/`."""
    know_all(monkeypatch, lambda file: file, mirrors=(server.mirror("first"), server.mirror("second")))
    return server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with all files, uncompressed."""
    for path, content in CONTENTS.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path


def compress(path: Path) -> Path:
    compressed = path.with_name(f"{path.name}.gz")
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return compressed


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def files_of(name: str) -> list[str]:
    return [file.path for archive in files.ARCHIVES[name] for file in archive.files]


def complaint(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------- what is read


def test_cifar10_is_in_the_order_of_its_files_with_red_green_and_blue(folder: Path) -> None:
    train, test = files.cifar10(folder)
    assert (train.shape, test.shape, train.dtype, test.dtype) == ((10, 3, 32, 32), (2, 3, 32, 32), np.uint8, np.uint8)
    assert train[:, :, 2, 5].tolist() == [[i, 100 + image, 200 + i] for i in range(5) for image in range(2)]
    assert test[:, :, 2, 5].tolist() == [[5, 100, 205], [5, 101, 205]]
    assert train[3].tobytes() == CONTENTS["cifar-10-batches-bin/data_batch_2.bin"][3074:]


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "gz"])
def test_mnist_is_in_the_order_of_its_files(folder: Path, compressed: bool) -> None:
    if compressed:
        for path in (folder / "mnist").iterdir():
            compress(path)
    assert files.available("mnist", folder)
    for part, expected in zip(files.mnist(folder), (DIGITS[:3], DIGITS[3:]), strict=True):
        assert part.shape == (len(expected), 1, 28, 28)
        assert part.dtype == np.uint8
        assert np.array_equal(part[:, 0], expected)
    assert [part.tolist() for part in files.mnist_labels(folder)] == [[5, 0, 4], [7, 2]]


def test_a_raw_file_goes_before_a_compressed_one(folder: Path) -> None:
    (folder / f"{TRAIN}.gz").write_bytes(b"not even gzip")
    assert len(files.mnist(folder)[0]) == 3


def test_the_labels_can_be_absent_when_only_images_are_read(folder: Path) -> None:
    for path in (folder / "mnist").glob("*labels*"):
        path.unlink()
    assert len(files.mnist(folder)[0]) == 3
    assert "lacks mnist/train-labels-idx1-ubyte, mnist/t10k-labels-idx1-ubyte;" in complaint(files.mnist_labels, folder)


@pytest.mark.parametrize("read", [files.cifar10, files.mnist, files.mnist_labels])
def test_readers_of_one_folder_share_arrays_that_nobody_can_change(folder: Path, monkeypatch, read) -> None:
    monkeypatch.chdir(folder)
    train, test = read(folder)
    for again in (read(str(folder)), read("."), read(folder / "mnist" / "..")):
        assert again[0] is train
        assert again[1] is test
    for part in (train, test):
        with pytest.raises(ValueError, match="read-only"):
            part[0] = 0


# ------------------------------------------------------------------------------------------------- what is missing or wrong


def test_missing_files_are_named_with_the_command_that_gets_them(tmp_path: Path, folder: Path) -> None:
    assert files.available("cifar10", folder)
    (folder / "cifar-10-batches-bin/data_batch_4.bin").unlink()
    assert not files.available("cifar10", folder)
    assert complaint(files.cifar10, folder) == (
        f"{folder} lacks cifar-10-batches-bin/data_batch_4.bin; "
        f"get the data by `python experiments/download.py cifar10 --folder {folder}`"
    )


def test_a_folder_that_is_not_there_lacks_every_file_and_is_quoted_for_the_shell(tmp_path: Path) -> None:
    absent = tmp_path / "my data"
    assert not files.available("mnist", absent)
    line = complaint(files.mnist, absent)
    assert f"{absent} lacks {TRAIN}, {TEST};" in line
    assert f"download.py mnist --folder '{absent}'`" in line


def truncate(content: bytes) -> bytes:
    return content[:-1]


def lengthen(content: bytes) -> bytes:
    return content + b"\0"


def flip_a_bit(content: bytes) -> bytes:
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


def empty(content: bytes) -> bytes:
    return b""


DAMAGES = [(truncate, "truncated, "), (lengthen, "too long, "), (flip_a_bit, r"wrong SHA-256"), (empty, "truncated, ")]


@pytest.mark.parametrize(("damage", "what"), DAMAGES)
@pytest.mark.parametrize(("read", "name", "path"), [(files.cifar10, "cifar10", LAST), (files.mnist, "mnist", TRAIN)])
def test_a_damaged_file_is_one_line_and_right_again_once_it_is_replaced(folder: Path, read, name, path, damage, what) -> None:
    damaged = folder / path
    whole = damaged.read_bytes()
    damaged.write_bytes(damage(whole))
    line = complaint(read, folder)
    assert line.startswith(f"{damaged}: ")
    assert what in line
    assert line.endswith(f"; delete it and download it again by `python experiments/download.py {name} --folder {folder}`")
    damaged.write_bytes(whole)
    read(folder)


def not_gzip(content: bytes) -> bytes:
    return b"<html>404</html>"


def flip_the_checksum(content: bytes) -> bytes:
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


def spoil_the_first_block(content: bytes) -> bytes:
    """The byte after gzip's header of 10 bytes says how the block is compressed."""
    return content[:10] + b"\xff" + content[11:]


@pytest.mark.parametrize("damage", [truncate, empty, not_gzip, flip_the_checksum, spoil_the_first_block])
def test_a_damaged_gzip_file_is_one_line(folder: Path, damage) -> None:
    path = compress(folder / TEST)
    path.write_bytes(damage(path.read_bytes()))
    line = complaint(files.mnist, folder)
    assert line.startswith(f"{path}: {'truncated' if damage is empty else 'damaged gzip file'}")
    assert "; delete it and download it again" in line


def test_a_compressed_file_is_verified_by_what_it_holds(folder: Path) -> None:
    (folder / TEST).write_bytes(flip_a_bit(CONTENTS[TEST]))
    path = compress(folder / TEST)
    assert complaint(files.mnist, folder).startswith(f"{path}: not the published content (wrong SHA-256, ")


def test_a_file_of_labels_is_not_taken_for_images(folder: Path, monkeypatch) -> None:
    labels = (folder / "mnist/train-labels-idx1-ubyte").read_bytes()
    (folder / TRAIN).write_bytes(labels)
    assert f"{TRAIN}: truncated" in complaint(files.mnist, folder)
    know(monkeypatch, TRAIN, labels)  # as if the table were wrong too
    assert f"{TRAIN}: not an IDX file of 8-bit values in 3 dimensions" in complaint(files.mnist, folder)


@pytest.mark.parametrize(
    "content",
    [
        idx(DIGITS).replace(b"\0\0\x08", b"\0\0\x0d", 1),  # floats
        idx(DIGITS).replace(b"\0\0\x08", b"\1\0\x08", 1),
        idx(DIGITS)[:-1],
        idx(DIGITS)[:10],
        b"",
    ],
)
def test_what_is_not_idx_is_refused_even_if_its_hash_is_known(folder: Path, monkeypatch, content: bytes) -> None:
    (folder / TRAIN).write_bytes(content)
    know(monkeypatch, TRAIN, content)
    assert "not an IDX file" in complaint(files.mnist, folder)


def test_no_more_is_read_of_a_file_than_shows_that_it_is_too_long(folder: Path, monkeypatch) -> None:
    (folder / TRAIN).write_bytes(bytes(10**7))
    path, asked = compress(folder / TRAIN), []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: (asked.append(size), read(self, size))[1])
    assert f"{path}: too long, {len(CONTENTS[TRAIN])} bytes expected" in complaint(files.mnist, folder)
    assert asked == [len(CONTENTS[TRAIN]) + 1]


def test_a_file_that_may_not_be_read_is_one_line(folder: Path, monkeypatch) -> None:
    def forbidden(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    assert complaint(files.mnist, folder) == f"cannot read {folder / TRAIN}: Permission denied"


# -------------------------------------------------------------------------------------------------------------- downloads


@pytest.mark.parametrize(("name", "download"), [("cifar10", files.download_cifar10), ("mnist", files.download_mnist)])
def test_a_download_gives_the_published_files_and_asks_for_nothing_twice(tmp_path, mirrors: Server, name, download) -> None:
    folder = tmp_path / "new" / "data"
    paths = download(folder)
    assert contents(folder) == {path: CONTENTS[path] for path in files_of(name)}
    assert paths == [folder / path for path in files_of(name)]
    assert sorted(mirrors.asked) == sorted(f"/first/{archive.name}" for archive in files.ARCHIVES[name])
    mirrors.asked.clear()
    assert download(folder) == paths
    assert mirrors.asked == []


def test_what_is_right_stays_and_what_is_damaged_or_missing_is_fetched(folder: Path, mirrors: Server) -> None:
    kept = compress(folder / TRAIN)
    (folder / TEST).write_bytes(truncate(CONTENTS[TEST]))
    (folder / "mnist/t10k-labels-idx1-ubyte").unlink()
    assert files.download_mnist(folder)[:2] == [kept, folder / TEST]
    assert mirrors.asked == ["/first/t10k-images-idx3-ubyte.gz", "/first/t10k-labels-idx1-ubyte.gz"]
    assert files.mnist(folder)[1].shape == (2, 1, 28, 28)
    assert files.mnist_labels(folder)[1].tolist() == [7, 2]
    assert not (folder / TRAIN).exists()


def test_of_an_archive_only_the_files_that_are_not_right_are_stored(folder: Path, mirrors: Server) -> None:
    right, wrong = (folder / "cifar-10-batches-bin" / name for name in BATCHES[1:3])
    wrong.write_bytes(b"half a file")
    before = right.stat().st_ino
    files.download_cifar10(folder)
    assert right.stat().st_ino == before
    assert contents(folder) == CONTENTS


BAD_ANSWERS = {404: "HTTP status 404", b"<html>": "wrong SHA-256", b"": "wrong SHA-256", HALF: "ChunkedEncodingError"}


@pytest.mark.parametrize("answer", BAD_ANSWERS)
def test_the_second_mirror_is_asked_if_the_first_one_fails(tmp_path: Path, mirrors: Server, answer) -> None:
    mirrors.answers = {f"/first/{name}": answer for name in PUBLISHED}
    files.download_cifar10(tmp_path)
    assert mirrors.asked == ["/first/cifar-10-binary.tar.gz", "/second/cifar-10-binary.tar.gz"]
    assert files.cifar10(tmp_path)[0].shape == (10, 3, 32, 32)


def test_a_server_that_sends_a_byte_now_and_then_is_given_up_on(tmp_path: Path, mirrors: Server, monkeypatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    mirrors.answers = {f"/{mirror}/train-images-idx3-ubyte.gz": SLOWLY for mirror in ("first", "second")}
    assert re.search(r"first/train-images-idx3-ubyte\.gz \(\d+ bytes in 0 s\)", complaint(files.download_mnist, tmp_path))


@pytest.mark.parametrize(("answer", "why"), BAD_ANSWERS.items())
def test_if_all_mirrors_fail_one_line_says_why_and_nothing_changes(folder: Path, mirrors: Server, answer, why) -> None:
    (folder / TRAIN).write_bytes(b"wrong")
    (folder / TEST).unlink()
    mirrors.answers = {"/first/train-images-idx3-ubyte.gz": 503, "/second/train-images-idx3-ubyte.gz": answer}
    before = contents(folder)
    line = complaint(files.download_mnist, folder)
    assert f"{mirrors.mirror('first')}train-images-idx3-ubyte.gz (HTTP status 503)" in line
    assert why in line
    assert contents(folder) == before
    assert {path.name for path in folder.rglob("*") if path.is_dir()} == {"mnist", "cifar-10-batches-bin"}


def unreachable() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_without_a_network_one_short_line_says_so(tmp_path: Path, server: Server, monkeypatch) -> None:
    know_all(monkeypatch, lambda file: file, mirrors=(unreachable(),))
    line = complaint(files.download_cifar10, tmp_path)
    assert line.endswith("cifar-10-binary.tar.gz (ConnectionError); check the network")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("content", [b"other", None], ids=["wrong", "absent"])
def test_no_file_of_an_archive_is_stored_unless_all_are_right(tmp_path: Path, mirrors: Server, monkeypatch, content) -> None:
    inside = {path: CONTENTS[path] for path in files_of("cifar10")[:-1]} | ({LAST: content} if content else {})
    archive = tar_gz(inside)
    mirrors.answers = {"/first/cifar-10-binary.tar.gz": archive}
    know_all(monkeypatch, lambda file: file, sha256=hashlib.sha256(archive).hexdigest())
    line = complaint(files.download_cifar10, tmp_path)
    assert line.startswith("cifar-10-binary.tar.gz: truncated")
    assert contents(tmp_path) == {}


@pytest.fixture
def interrupted(monkeypatch) -> Callable[[Callable[[], None]], None]:
    """Let something happen in the middle of every transfer."""

    def interrupt(happen: Callable[[], None]) -> None:
        def transfer(self: pooch.HTTPDownloader, url: str, output: str, pooch: None) -> None:
            Path(output).write_bytes(PUBLISHED[Path(url).name][:50])
            happen()

        monkeypatch.setattr(pooch.HTTPDownloader, "__call__", transfer)

    return interrupt


def ctrl_c() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def full_disk() -> None:
    raise OSError(28, "No space left on device")


def test_an_interrupted_transfer_leaves_nothing_behind(tmp_path: Path, interrupted) -> None:
    interrupted(ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        files.download_cifar10(tmp_path)
    assert contents(tmp_path) == {}


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path: Path, interrupted) -> None:
    interrupted(full_disk)
    assert "(No space left on device)" in complaint(files.download_mnist, tmp_path)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("moved", [0, 3])
def test_an_interruption_while_files_are_moved_leaves_only_whole_ones(tmp_path, mirrors: Server, monkeypatch, moved) -> None:
    rename, done = Path.replace, []

    def interrupted_rename(self: Path, target: Path) -> Path:
        if ".download-" not in str(target):  # into place
            done.append(target)
            if len(done) > moved:
                raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", interrupted_rename)
    with pytest.raises(KeyboardInterrupt):
        files.download_cifar10(tmp_path)
    assert contents(tmp_path) == {path: CONTENTS[path] for path in files_of("cifar10")[:moved]}


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path, mirrors: Server) -> None:
    (tmp_path / "data").write_text("a file")
    line = complaint(files.download_mnist, tmp_path / "data")
    assert line == f"cannot write to {tmp_path / 'data' / 'mnist'}: Not a directory"
    assert mirrors.asked == []


# ------------------------------------------------------------------------------------------------------------ command line


@pytest.fixture
def command(monkeypatch, capfd) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run experiments/download.py in this process: (exit status, standard output, standard error)."""
    before, level = signal.getsignal(signal.SIGTERM), pooch.get_logger().level

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["experiments/download.py", *arguments])
        status = 0
        try:
            runpy.run_path(str(ROOT / "experiments/download.py"), run_name="__main__")
        except SystemExit as stop:
            status = stop.code
        return status, *capfd.readouterr()

    yield call
    signal.signal(signal.SIGTERM, before)
    pooch.get_logger().setLevel(level)


def test_the_command_prints_where_the_files_are(command, tmp_path: Path, mirrors: Server) -> None:
    printed = "".join(f"{tmp_path / path}\n" for path in files_of("mnist"))
    assert command("mnist", "--folder", str(tmp_path)) == (0, printed, "")
    assert files.mnist(tmp_path)[0].shape == (3, 1, 28, 28)


@pytest.mark.parametrize(("variable", "expected"), [("elsewhere", "elsewhere"), ("", "data"), (None, "data")])
def test_the_folder_is_that_of_the_environment(command, tmp_path, mirrors: Server, monkeypatch, variable, expected) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DPM_DATA", raising=False)
    if variable is not None:
        monkeypatch.setenv("DPM_DATA", variable)
    assert command("cifar10")[0] == 0
    assert files.available("cifar10", tmp_path / expected)


def test_check_fetches_nothing_and_says_what_to_do(command, tmp_path: Path, mirrors: Server) -> None:
    status, out, err = command("mnist", "--folder", str(tmp_path), "--check")
    assert (status, out, err) == (
        f"skipped: mnist is not in {tmp_path}; `python experiments/download.py mnist` gets it",
        "",
        "",
    )
    assert not list(tmp_path.iterdir())
    command("mnist", "--folder", str(tmp_path))
    assert command("mnist", "--folder", str(tmp_path), "--check") == (0, "", "")


@pytest.mark.parametrize("arguments", [[], ["imagenet"], ["mnist", "--folders", "data"], ["mnist", "--folder"]])
def test_a_wrong_command_line_is_one_line_and_status_2(command, arguments: list[str]) -> None:
    status, out, err = command(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")


def test_no_network_is_one_line_and_status_2(tmp_path: Path) -> None:
    """A process of its own, with the true addresses, behind a proxy that does not answer."""
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    line = [sys.executable, str(ROOT / "experiments/download.py"), "mnist", "--folder", str(tmp_path)]
    result = subprocess.run(line, env={**environment, "https_proxy": unreachable()}, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: cannot download https://")
    assert result.stderr.count("(ProxyError)") == 2
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(("happen", "status"), [(ctrl_c, 130), (terminate, 143)])
def test_stopping_the_command_leaves_nothing_behind(command, tmp_path: Path, interrupted, happen, status: int) -> None:
    interrupted(happen)
    result = command("cifar10", "--folder", str(tmp_path))
    assert result[0] == status
    assert "Traceback" not in result[2]
    assert contents(tmp_path) == {}


# ------------------------------------------------------------------------------------------------------------- real files


@pytest.fixture
def real(tiny: None, monkeypatch) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Read what lies below $DPM_DATA by the tables as they are; skip if nothing is there."""
    monkeypatch.setattr(files, "ARCHIVES", TABLES)

    def read(name: str, reader: Callable[[Path], tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        if not files.available(name, files.default_folder()):
            pytest.skip(f"no {name} below $DPM_DATA (or else data): python experiments/download.py {name}")
        return reader(files.default_folder())

    return read


def moments(images: np.ndarray) -> tuple[list[float], list[float], float]:
    """Mean and standard deviation of each channel on the scale 0..1, and E x^2 over all of them on the scale -1..1."""
    parts = [[np.bincount(part[:, c].ravel(), minlength=256) for c in range(images.shape[1])] for part in np.split(images, 50)]
    shares = np.sum(parts, 0) / (images.size / images.shape[1])
    value = np.arange(256) / 255
    mean = shares @ value
    std = np.sqrt(shares @ value**2 - mean**2)
    return mean.round(4).tolist(), std.round(4).tolist(), round(float(shares.mean(0) @ (2 * value - 1) ** 2), 4)


def test_the_real_cifar10(real) -> None:
    train, test = real("cifar10", files.cifar10)
    assert (train.shape, test.shape) == ((50000, 3, 32, 32), (10000, 3, 32, 32))
    assert moments(train) == ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616], 0.2560)
    assert test[0, :, 0, 0].tolist() == [158, 112, 49]


def test_the_real_mnist(real) -> None:
    train, test = real("mnist", files.mnist)
    labels = real("mnist", files.mnist_labels)
    assert (train.shape, test.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert moments(train) == ([0.1307], [0.3081], 0.9254)
    assert [part.shape for part in labels] == [(60000,), (10000,)]
    assert [part[:10].tolist() for part in labels] == [[5, 0, 4, 1, 9, 2, 1, 3, 1, 4], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]]
