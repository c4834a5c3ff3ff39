"""Files that are read anew: what changed is loaded, and what cannot be used changes nothing."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from qc_adapter.watched import Unusable, WatchedFiles
from tests.support.watching import until


class Counts:
    """Remembers what was told of reloads."""

    def __init__(self):
        self.told = []

    def reloaded(self, what, *, refused):
        self.told.append((what, refused))


class Text:
    """A file whose text is in use; an empty one cannot be used."""

    def __init__(self, path):
        self.path = path
        self.loads = 0
        self.text = path.read_text()

    def load(self):
        self.loads += 1
        found = self.path.read_text()
        if not found:
            raise Unusable("is empty: write something into it")
        self.text = found


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("old")
    return Text(path)


@pytest.fixture
def watched(text, counts):
    files = WatchedFiles(0.01, counts)
    files.add("policy", [str(text.path), None], text.load)
    return files


def test_what_did_not_change_is_not_loaded(watched, text, counts):
    """A look costs no more than a look."""
    for _ in range(3):
        watched.look()
    assert (text.loads, counts.told) == (0, [])


def test_what_changed_is_loaded_once(watched, text, counts):
    """New content is in use after the next look, and is told of once."""
    text.path.write_text("new one")
    with capture_logs() as lines:
        watched.look()
        watched.look()
    assert (text.text, text.loads, counts.told) == ("new one", 1, [("policy", False)])
    assert [(line["event"], line["what"]) for line in lines] == [("reloaded", "policy")]


def test_what_cannot_be_used_changes_nothing_and_is_told_of_once(watched, text, counts):
    """The old content stays in use, the log says once what is wrong with the new one."""
    text.path.write_text("")
    with capture_logs() as lines:
        for _ in range(3):
            watched.look()
    assert (text.text, counts.told) == ("old", [("policy", True)])
    [line] = lines
    assert (line["event"], line["log_level"], line["detail"]) == (
        "reload_refused",
        "warning",
        "is empty: write something into it",
    )
    text.path.write_text("mended")
    watched.look()
    assert (text.text, counts.told[-1]) == ("mended", ("policy", False))


def test_a_file_that_is_gone_is_said_without_its_content(watched, text, counts):
    """A missing file is a reason as any other, and its return is seen."""
    text.path.unlink()
    with capture_logs() as lines:
        watched.look()
    assert [line["detail"] for line in lines] == [f"{text.path}: No such file or directory"]
    text.path.write_text("back")
    watched.look()
    assert text.text == "back"
    assert counts.told == [("policy", True), ("policy", False)]


def test_files_that_belong_together_may_come_one_after_the_other(tmp_path, counts):
    """What was refused is tried at each look: the second half of a pair may make the first one good."""
    cert, key = tmp_path / "cert", tmp_path / "key"
    cert.write_text("a")
    key.write_text("a")
    used = []

    def load():
        if cert.read_text() != key.read_text():
            raise Unusable("the key is not the certificate's")
        used.append(cert.read_text())

    files = WatchedFiles(1, counts)
    files.add("server", [str(cert), str(key)], load)
    cert.write_text("b")
    files.look()
    assert used == []
    key.write_text("b")
    files.look()
    assert used == ["b"]


def test_a_turned_link_is_a_change(tmp_path, text, counts):
    """Kubernetes puts new files into another folder and turns the link to it."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    link = tmp_path / "..data"
    link.symlink_to("one")
    (tmp_path / "file").symlink_to("..data/file")
    used = []
    files = WatchedFiles(1, counts)
    files.add("jwks", [str(tmp_path / "file")], lambda: used.append((tmp_path / "file").read_text()))
    (tmp_path / "turned").symlink_to("two")
    (tmp_path / "turned").rename(link)
    files.look()
    assert used == ["two"]


async def test_a_defect_in_one_reader_leaves_the_others(tmp_path, text, counts):
    """The watch goes on whatever a reader raises."""
    files = WatchedFiles(0.001, counts)
    broken = tmp_path / "broken"
    broken.write_text("1")

    def fail():
        raise RuntimeError(broken.read_text())

    files.add("server", [str(broken)], fail)
    files.add("policy", [str(text.path)], text.load)
    files.start()
    broken.write_text("canary-secret")
    text.path.write_text("new one")
    with capture_logs() as lines:
        await until(lambda: text.text == "new one" and ("server", True) in counts.told)
    await files.stop()
    refused = [line for line in lines if line["event"] == "reload_refused"]
    assert [line["detail"] for line in refused] == ["a defect: RuntimeError"]
