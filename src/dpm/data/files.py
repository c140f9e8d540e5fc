"""The image files of MNIST and CIFAR-10: read where they lie, verified by SHA-256, downloaded only where that is asked for.

Below the data folder lie `cifar-10-batches-bin/*.bin` and `mnist/*-ubyte`, as they were published; each may be gzipped
(`.gz`). What is read is 8-bit, (n, channels, height, width), in the order of the files, and cannot be written to: everybody
who reads the same folder shares the same arrays. Whatever is wrong with a file is one UserError line.
"""

import gzip
import os
import re
import shlex
import struct
import tarfile
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pooch

from dpm.errors import UserError
from dpm.study.records import sha256, write_atomically

PATIENCE, SLOWEST = 30.0, 1000.0  # seconds before a server is judged by its rate; bytes a second


@dataclass(frozen=True)
class File:
    """One file of a data set: its path below the data folder; size in bytes and SHA-256 of what it holds uncompressed."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """What is downloaded: the same .tar.gz of several files, or .gz of one, from any of its mirrors."""

    name: str
    sha256: str
    mirrors: tuple[str, ...]
    files: tuple[File, ...]


_BATCHES = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
_MNIST_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")


def _mnist(name: str, compressed: str, size: int, uncompressed: str) -> Archive:
    return Archive(f"{name}.gz", compressed, _MNIST_MIRRORS, (File(f"mnist/{name}", size, uncompressed),))


# The hashes of the archives are those that TensorFlow Datasets checks its downloads by.
ARCHIVES: dict[str, tuple[Archive, ...]] = {
    "cifar10": (
        Archive(
            "cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ("https://www.cs.toronto.edu/~kriz/",),
            tuple(File(f"cifar-10-batches-bin/{name}", 10000 * 3073, known) for name, known in _BATCHES.items()),
        ),
    ),
    "mnist": (
        _mnist(
            "train-images-idx3-ubyte",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            16 + 60000 * 784,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        _mnist(
            "t10k-images-idx3-ubyte",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            16 + 10000 * 784,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        _mnist(
            "train-labels-idx1-ubyte",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            8 + 60000,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        _mnist(
            "t10k-labels-idx1-ubyte",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            8 + 10000,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
}


def default_folder() -> Path:
    """The environment variable DPM_DATA, or else `data` in the working directory."""
    return Path(os.environ.get("DPM_DATA") or "data")


def cifar10(folder: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """(training (50000, 3, 32, 32), test (10000, 3, 32, 32)), channels red, green, blue."""
    return _cifar10(Path(folder).resolve())


def mnist(folder: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """(training (60000, 1, 28, 28), test (10000, 1, 28, 28)); 0 is paper, 255 is ink."""
    return _mnist_images(Path(folder).resolve())


def mnist_labels(folder: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """The digits 0..9 of the images: (training (60000,), test (10000,))."""
    return _mnist_labels(Path(folder).resolve())


def available(name: str, folder: Path | str) -> bool:
    """Whether all files of a data set are there; not whether they are right: a damaged file is an error, not an absent one."""
    return not _missing(_files(name), Path(folder))


def download_cifar10(folder: Path | str, progress: bool = False) -> list[Path]:
    """170 MB to fetch, 184 MB on disk."""
    return download("cifar10", folder, progress)


def download_mnist(folder: Path | str, progress: bool = False) -> list[Path]:
    """12 MB to fetch, 55 MB on disk."""
    return download("mnist", folder, progress)


def download(name: str, folder: Path | str, progress: bool = False) -> list[Path]:
    """Fetch what is missing or damaged, and nothing else; the paths of all files of the data set.

    An archive is unpacked in a temporary folder, and its files are moved into place when all of them are verified: whenever
    this is interrupted, each file is as it was before or right.
    """
    folder = Path(folder).resolve()
    for archive in ARCHIVES[name]:
        wanted = [file for file in archive.files if not _is_right(file, folder)]
        if wanted:
            _fetch(archive, wanted, folder, progress)
    return [_path(file, folder) for file in _files(name)]


@cache
def _cifar10(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    *train, test = _read("cifar10", folder, _batch)
    return _shared(np.concatenate(train)), _shared(np.ascontiguousarray(test))  # without the labels


@cache
def _mnist_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    train, test = _read("mnist", folder, partial(_idx, dimensions=3), "-images-")
    return _shared(train[:, None]), _shared(test[:, None])


@cache
def _mnist_labels(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    train, test = _read("mnist", folder, partial(_idx, dimensions=1), "-labels-")
    return _shared(train), _shared(test)


def _shared(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _batch(content: bytes) -> np.ndarray:
    """Rows of the label, then 1024 red, 1024 green and 1024 blue values, each channel from its upper left corner by lines."""
    return np.frombuffer(content, np.uint8).reshape(-1, 3073)[:, 1:].reshape(-1, 3, 32, 32)


def _idx(content: bytes, dimensions: int) -> np.ndarray:
    """The bytes 0, 0, 8 (unsigned 8-bit) and the number of dimensions; the lengths, 32-bit and big-endian; the values."""
    start = 4 + 4 * dimensions
    magic, *shape = struct.unpack(f">{1 + dimensions}I", content[:start].ljust(start, b"\0"))
    if magic != 0x0800 + dimensions or len(content) != start + prod(shape):
        raise ValueError(f"not an IDX file of 8-bit values in {dimensions} dimensions")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read(name: str, folder: Path, parse: Callable[[bytes], np.ndarray], part: str = "") -> list[np.ndarray]:
    """The files of a data set with `part` in their names, in the order of the table, verified and parsed."""
    files = [file for file in _files(name) if part in file.path]
    command = f"python experiments/download.py {name} --folder {shlex.quote(str(folder))}"
    if missing := _missing(files, folder):
        raise UserError(f"{folder} lacks {', '.join(missing)}; get the data by `{command}`")
    return [_parsed(_path(file, folder), file, parse, command) for file in files]


def _parsed(path: Path, file: File, parse: Callable[[bytes], np.ndarray], command: str) -> np.ndarray:
    try:
        return parse(_verified(_content(path, file.size), file))
    except ValueError as error:
        raise UserError(f"{path}: {error}; delete it and download it again by `{command}`") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _content(path: Path, size: int) -> bytes:
    """What the file holds uncompressed, up to one byte more than it should: a wrong file can be of any size."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return stream.read(size + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"damaged gzip file ({error})") from error


def _verified(content: bytes, file: File) -> bytes:
    if len(content) != file.size:
        raise ValueError(f"{'truncated' if len(content) < file.size else 'too long'}, {file.size} bytes expected")
    if (found := sha256(content)) != file.sha256:
        raise ValueError(_wrong_hash(file.sha256, found))
    return content


def _wrong_hash(expected: str = "unknown", found: str = "unknown") -> str:
    return f"not the published content (wrong SHA-256, {found} instead of {expected})"


def _is_right(file: File, folder: Path) -> bool:
    try:
        return bool(_verified(_content(_path(file, folder), file.size), file))
    except (ValueError, OSError):
        return False


def _files(name: str) -> list[File]:
    return [file for archive in ARCHIVES[name] for file in archive.files]


def _missing(files: list[File], folder: Path) -> list[str]:
    return [file.path for file in files if not _path(file, folder).is_file()]


def _path(file: File, folder: Path) -> Path:
    """Where the file is read from: its own path, or that with .gz if only that exists."""
    path = folder / file.path
    compressed = path.with_name(f"{path.name}.gz")
    return compressed if compressed.is_file() and not path.is_file() else path


def _fetch(archive: Archive, files: list[File], folder: Path, progress: bool) -> None:
    """Put some files of an archive into place, the first one when all of them are verified."""
    place = (folder / files[0].path).parent
    try:
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".download-", dir=place) as temporary:  # beside its target: a rename is atomic
            contents = dict(_unpacked(_retrieved(archive, temporary, progress)))
            parts = {file: Path(temporary) / Path(file.path).name for file in files}
            for file, part in parts.items():
                write_atomically(part, _verified(contents.get(part.name, b""), file))
            for file, part in parts.items():
                part.replace(folder / file.path)
    except ValueError as error:
        raise UserError(f"{archive.name}: {error}; nothing was stored") from error
    except OSError as error:
        raise UserError(f"cannot write to {place}: {error.strerror}") from error


def _retrieved(archive: Archive, into: str, progress: bool) -> Path:
    """The archive from the first mirror that has the right one."""
    failures = []
    for address in (mirror + archive.name for mirror in archive.mirrors):
        downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=2**18, hooks={"response": _impatient})
        try:
            return Path(pooch.retrieve(address, archive.sha256, archive.name, into, downloader=downloader))
        except (OSError, ValueError) as error:  # every exception of requests is an OSError; a wrong hash is a ValueError
            failures.append(f"{address} ({_reason(error)})")
    raise UserError(f"cannot download {' nor '.join(failures)}; check the network")


def _impatient(response: Any, **options: Any) -> None:
    """Let what is read of a response come as it comes, and give up on a server that is slower than anybody would wait for."""
    raw, start, received = weakref.proxy(response.raw), time.monotonic(), 0  # no cycle: the connection closes with its owner

    def read(amt: int, decode_content: bool) -> bytes:
        nonlocal received
        part: bytes = raw.read1(amt, decode_content=decode_content)
        received, seconds = received + len(part), time.monotonic() - start
        if part and seconds > PATIENCE and received < SLOWEST * seconds:
            raise OSError(0, f"{received} bytes in {seconds:.0f} s")
        return part

    response.raw.read = read


def _reason(error: Exception) -> str:
    if isinstance(error, ValueError):  # of pooch, which names the hash it expected and the one it found
        return _wrong_hash(*re.findall("[0-9a-f]{64}", str(error)))
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    return getattr(error, "strerror", None) or type(error).__name__  # requests' messages are pages long, their names clear


def _unpacked(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each file in a .tar.gz, or of the one in a .gz."""
    if not archive.name.endswith(".tar.gz"):
        yield archive.stem, gzip.decompress(archive.read_bytes())
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if stream := tar.extractfile(member):  # None for a folder
                yield Path(member.name).name, stream.read()
