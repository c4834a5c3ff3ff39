"""The image: what the Dockerfile says, what goes to the builder, and which builder is taken."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import tomllib

import pytest

from deploy.tests.manifests import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
SCRIPT = ROOT / "deploy" / "image.sh"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def instructions():
    """The instructions of the Dockerfile as word and rest, continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def last_stage():
    """The instructions of the image that is kept."""
    found = instructions()
    return found[max(place for place, (word, _) in enumerate(found) if word == "FROM") :]


def of_last(word):
    """What the last stage says with that instruction."""
    return [rest for one, rest in last_stage() if one == word]


def test_the_base_is_pinned_by_an_argument():
    """The base is one exact release, which a build may replace, by its digest for example."""
    word, rest = instructions()[0]
    assert (word, bool(re.fullmatch(r"PYTHON_IMAGE=docker\.io/library/python:3\.11\.\d+-slim-bookworm", rest))) == (
        "ARG",
        True,
    )
    bases = [rest.split(" AS ")[0] for word, rest in instructions() if word == "FROM"]
    assert bases == ["${PYTHON_IMAGE}", "packages", "scratch"]


def test_the_last_stage_runs_nothing_and_takes_files_only():
    """What builds is not in the image: its files come from the stages before, and no command runs in it."""
    assert of_last("RUN") == []
    assert of_last("ADD") == []
    assert all(rest.startswith("--from=") for rest in of_last("COPY"))
    assert of_last("HEALTHCHECK") == []


def test_the_process_is_nobody_and_hears_sigterm():
    """A user by number, the program itself as process 1, and no setting baked in."""
    assert of_last("USER") == ["65532:65532"]
    assert of_last("ENTRYPOINT") == ['["qc-adapter"]']
    assert of_last("CMD") == ['["serve"]']
    assert of_last("STOPSIGNAL") == ["SIGTERM"]
    assert "QC_" not in "\n".join(of_last("ENV") + of_last("ARG"))


def test_everything_installed_is_locked_and_compiled_elsewhere():
    """What pip takes is a wheel with a known hash, or our own from the folder where it was built."""
    calls = re.findall(r"pip --python \S+ install (.*?)(?:&&|$)", " ".join(rest for _, rest in instructions()) + "&&")
    assert len(calls) == 3
    for call in calls:
        locked = "--require-hashes" in call and "--only-binary :all:" in call
        assert locked or ("--no-index" in call and "--no-deps" in call), call


def test_what_builds_the_wheel_is_in_the_lock():
    """The lines taken from the development lock are hatchling and all that it needs, and no more."""
    [listed] = re.findall(r"keep = /\^\(([\w|-]+)\)==/", DOCKERFILE)
    needed, ask = set(), ["hatchling"]
    while ask:
        name = ask.pop()
        if name not in needed:
            needed.add(name)
            wanted = (one.replace('"', "'") for one in importlib.metadata.requires(name) or [])
            ask += [
                re.match(r"[\w-]+", one)[0]
                for one in wanted
                if "python_version < '3.11'" not in one and "extra ==" not in one
            ]
    assert set(listed.split("|")) == needed
    lock = (ROOT / "requirements-dev.txt").read_text()
    assert all(re.search(rf"^{name}==", lock, re.MULTILINE) for name in needed)


def test_only_what_is_named_goes_to_the_builder():
    """The list of what is sent begins with nothing, and lets in what the Dockerfile copies and no more."""
    lines = [one for one in (ROOT / ".dockerignore").read_text().splitlines() if one and not one.startswith("#")]
    assert lines[0] == "*"
    let_in = {one.removeprefix("!") for one in lines if one.startswith("!")}
    copied = {
        name for word, rest in instructions() if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]
    }
    assert let_in == copied


@pytest.fixture
def path(tmp_path):
    """A PATH with nothing but what the script needs, and a function that puts builders on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "sed", "git", "dirname"):
        (folder / tool).symlink_to(shutil.which(tool))

    def put(name, *, fails=""):
        """A stand-in that notes what it is asked to do, and cannot do what `fails` begins with."""
        program = folder / name
        refuse = f'case "$*" in {fails}*) exit 1 ;; esac\n' if fails else ""
        program.write_text(f'#!/bin/sh\n{refuse}echo "{name} $*" >> {tmp_path}/asked\n')
        program.chmod(0o755)

    put.folder, put.asked = folder, tmp_path / "asked"
    return put


def image(path, *arguments, **environment):
    """Run the script."""
    return subprocess.run(  # noqa: S603 - a script of ours
        [shutil.which("sh"), str(SCRIPT), *arguments],
        env={"PATH": str(path.folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def asked_to_build(path):
    """The builder's last command."""
    return path.asked.read_text().splitlines()[-1]


def test_without_a_builder_it_says_what_to_install(path):
    """The message names the three."""
    made = image(path)
    assert made.returncode == 1
    assert all(name in made.stderr for name in ("docker", "podman", "buildah"))


@pytest.mark.parametrize("fails", ["version", "buildx"])
def test_a_docker_that_cannot_build_is_passed_over(path, fails):
    """A client without its engine, or without BuildKit, is no builder; the next one is taken."""
    path("docker", fails=fails)
    path("buildah")
    assert image(path).returncode == 0
    assert asked_to_build(path).startswith("buildah build ")


def test_the_first_that_works_gets_the_version_and_all_arguments(path):
    """Docker comes first; the tag and the label have the version of pyproject.toml; arguments are handed on."""
    for name in ("docker", "podman", "buildah"):
        path(name)
    made = image(
        path, "--secret", "id=pip.conf,src=/x", PYTHON_IMAGE="base@sha256:0", IMAGE_SOURCE="https://a.example/b"
    )
    assert made.returncode == 0, made.stderr
    command = asked_to_build(path)
    assert command.startswith("docker buildx build --load --file deploy/Dockerfile ")
    assert f"--tag qc-adapter:{VERSION} --tag qc-adapter:local " in command
    assert f"--build-arg VERSION={VERSION} " in command
    assert re.search(r"--build-arg REVISION=([0-9a-f]{40}(-dirty)?|unknown) ", command)
    assert "--build-arg SOURCE=https://a.example/b --build-arg PYTHON_IMAGE=base@sha256:0 " in command
    assert command.endswith(" --secret id=pip.conf,src=/x .")


def test_one_builder_can_be_asked_for(path):
    """Who wants buildah gets it, or is told that it does not work."""
    path("docker")
    assert image(path, IMAGE_BUILDER="buildah").returncode == 1
    path("buildah")
    assert image(path, IMAGE_BUILDER="buildah").returncode == 0
    assert asked_to_build(path).startswith("buildah build ")
