"""Many models in one folder: which come, in which order, which go, and what a bad one does to the others."""

import asyncio
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from contract import bundle, routing
from contract.bundle import Bundle
from contract.encoded import Encoded
from service.errors import LoadRefused, NotReady, UnknownLabel, UnknownModel, UnknownVersion
from service.registry import LOOKS_UNTIL_REMOVED, Registry
from service.settings import Settings, from_environment
from service.versions.loaded import LoadedModel
from service.versions.refusal import LONGEST_PAUSE_SECONDS, refusal
from tests import sums
from tests.waiting import PATIENCE_SECONDS

Test = Callable[[], Coroutine[None, None, None]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    return sums.made(tmp_path_factory)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@asynccontextmanager
async def watched(folder: Path, **settings: object) -> AsyncIterator[Registry]:
    registry = Registry(Settings(models_dir=folder, poll_seconds=0.01, **settings))
    watching = asyncio.create_task(registry.watch())
    try:
        yield registry
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        registry.close()


async def until(condition: Callable[[], object], what: str) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < ends, f"not within {PATIENCE_SECONDS:g} s: {what}"
        await asyncio.sleep(0.01)


def states(registry: Registry) -> dict[str, str]:
    return {slot.name: slot.state for slot in registry.slots()}


def versions(registry: Registry, name: str = sums.NAME) -> dict[int, str]:
    return {each.version: each.state for slot in registry.slots() if slot.name == name for each in slot.versions()}


def put(models: Path, made: Bundle, name: str, **how: object) -> Bundle:
    """In production."""
    put_there = sums.copy(made, models, name, **how)
    routing.promote(models, name, put_there.manifest.version, by="test", why="")
    return put_there


def says(model: LoadedModel) -> float:
    """Which version a model answers as."""
    row = sums.rows(1, seed=0)
    encoded = model.encoder.encode(row)
    assert isinstance(encoded, Encoded)
    return sums.version_of(row[0], float(model.run(encoded)["value"][0]))


def test_fifty_models_come_one_by_one_the_smallest_first(
    made: list[Bundle], models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sizes = np.random.default_rng(0).permutation(50) + 1000
    for i, size in enumerate(sizes):
        put(models, made[0], f"model-{i}", size=int(size))

    async def test() -> None:
        async with watched(models) as registry:
            await until(lambda: len(registry.slots()) == 50, "all are seen")
            assert not registry.ready()
            await until(registry.ready, "all serve")
            assert {says(registry.pick(f"model-{i}", None, None, b"")) for i in range(50)} == {1}

    asyncio.run(test())
    loaded = [record.args[0] for record in caplog.records if "is loaded" in record.msg]
    assert loaded == [f"model-{i}" for i in np.argsort(sizes)]


def noise(folder: Path) -> None:
    """A file that is no network, with a checksum that is right."""
    manifest = bundle.read(folder).manifest
    path = folder / manifest.variant(manifest.chosen.variant).path
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    facts = manifest.files | {
        path.relative_to(folder).as_posix(): bundle.FileFacts(size=5000, sha256=bundle._sha256(path))
    }
    (folder / bundle.MANIFEST).write_text(manifest.model_copy(update={"files": facts}).model_dump_json())


def test_models_that_do_not_load_block_no_other(made: list[Bundle], models: Path) -> None:
    noise(put(models, made[0], "a-noise", size=1).path)
    (put(models, made[0], "b-truncated", size=2).path / bundle.MANIFEST).write_text('{"name": "b')
    shutil.rmtree(put(models, made[0], "c-gone", size=3).path)
    (models / "d-routing").mkdir()
    (models / "d-routing" / routing.ROUTING).write_text("no JSON")
    (models / "e-loop").symlink_to("e-loop")
    (models / "f-link").symlink_to(models / "nowhere")
    (models / "g-file").write_text("")
    put(models, made[0], "z-good", size=9999)

    async def test() -> None:
        async with watched(models) as registry:
            await until(lambda: states(registry).get("z-good") == "ready", "the good one serves")
            assert registry.ready()
            assert states(registry) == {
                "a-noise": "refused",
                "b-truncated": "refused",
                "c-gone": "refused",
                "d-routing": "refused",
                "z-good": "ready",
            }

    asyncio.run(test())


def test_models_appear_and_vanish(made: list[Bundle], models: Path) -> None:
    async def test() -> None:
        async with watched(models) as registry:
            assert not registry.ready()
            put(models, made[0], "first")
            await until(registry.ready, "it has come")
            put(models, made[1], "second")
            await until(lambda: states(registry) == {"first": "ready", "second": "ready"}, "another has come")
            with pytest.raises(UnknownModel, match=r"several models serve here.*models: first, second"):
                registry.pick(None, None, None, b"")

            models.joinpath("first").rename(models / ".first")
            for _ in range(LOOKS_UNTIL_REMOVED - 2):
                await registry.look()
            await until(lambda: states(registry) == {"second": "ready"}, "it has been removed")
            assert says(registry.pick(None, None, None, b"")) == 2
            with pytest.raises(UnknownModel, match="no model 'first' serves here; models: second"):
                registry.pick("first", None, None, b"")
            models.joinpath(".first").rename(models / "first")
            await until(lambda: states(registry) == {"first": "ready", "second": "ready"}, "it is back")

    asyncio.run(test())


@pytest.mark.parametrize("away", ["the folder", "what is in it", "one of two, for a moment"])
def test_a_storage_that_is_away_takes_nothing_out_of_service(made: list[Bundle], models: Path, away: str) -> None:
    put(models, made[0], "first")
    put(models, made[1], "second")

    async def test() -> None:
        async with watched(models) as registry:
            await until(registry.ready, "both serve")
            hidden = models.with_name("hidden")
            models.rename(hidden)
            if away != "the folder":
                models.mkdir()
            if away == "one of two, for a moment":
                (models / "first").symlink_to(hidden / "first")
            for _ in range(LOOKS_UNTIL_REMOVED // 4 if "moment" in away else 3 * LOOKS_UNTIL_REMOVED):
                await registry.look()
            assert [says(registry.pick(name, None, None, b"")) for name in ("first", "second")] == [1, 2]

            if models.is_dir():
                shutil.rmtree(models)
            hidden.rename(models)
            put(models, made[1], "first")
            await until(lambda: registry.pick("first", None, None, b"").version == 2, "it is looked at again")

    asyncio.run(test())


@pytest.mark.parametrize("damage", ["{", '{"production": "latest"}', '{"production": 1, "unheard": 0}', None])
def test_a_routing_that_cannot_be_read_changes_nothing(made: list[Bundle], models: Path, damage: str | None) -> None:
    put(models, made[0], sums.NAME)
    file = models / sums.NAME / routing.ROUTING

    async def test() -> None:
        async with watched(models) as registry:
            await until(registry.ready, "it serves")
            if damage is None:
                file.unlink()
            else:
                file.write_text(damage)
            await until(lambda: registry.slot(sums.NAME).unreadable, "it is seen")
            assert says(registry.pick(None, None, None, b"")) == 1
            assert registry.ready()
            file.write_text('{"production": 1}')
            await until(lambda: registry.slot(sums.NAME).unreadable is None, "it is mended")

    asyncio.run(test())


def test_what_is_still_being_copied_is_left_until_it_is_whole(made: list[Bundle], models: Path) -> None:
    whole = sums.copy(made[1], models)
    hidden = models.parent / "hidden"
    whole.path.rename(hidden)
    put(models, made[0], sums.NAME)
    (models / sums.NAME / routing.ROUTING).write_text('{"production": 2}')

    async def test() -> None:
        async with watched(models) as registry:
            for file in sorted(hidden.rglob("*"), key=lambda path: path.name != bundle.MANIFEST):
                if file.is_file():
                    target = whole.path / file.relative_to(hidden)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, target)
                    await registry.look()
                    assert registry.slot(sums.NAME).serving is None or registry.pick(None, None, None, b"").version == 2
            await until(lambda: registry.slot(sums.NAME).serving, "it is whole")
            assert says(registry.pick(None, None, None, b"")) == 2

    asyncio.run(test())


def test_only_the_models_that_are_listed(made: list[Bundle], models: Path) -> None:
    for name in ("one", "two", "three"):
        put(models, made[0], name)
    settings = from_environment({"HORNPIPE_MODELS_DIR": str(models), "HORNPIPE_MODELS": "one, three,four"})
    assert settings.models == ("one", "three", "four")

    async def test() -> None:
        async with watched(models, models=settings.models) as registry:
            await until(registry.ready, "they serve")
            assert states(registry) == {"one": "ready", "three": "ready"}

    asyncio.run(test())


def test_versions_are_picked_by_number_and_label(made: list[Bundle], models: Path) -> None:
    put(models, made[0], sums.NAME)
    sums.copy(made[1], models)
    routing.pin(models, sums.NAME, 2, by="test", why="")

    async def test() -> None:
        async with watched(models) as registry:
            await until(lambda: versions(registry) == {1: "ready", 2: "ready"}, "both are loaded")
            for label in (None, "production", "stable"):
                assert says(registry.pick(sums.NAME, None, label, b"")) == 1
            assert says(registry.pick(None, 2, None, b"")) == 2
            assert registry.ready(sums.NAME, 2)
            with pytest.raises(UnknownVersion, match="sums/3 does not serve; serving: 1, 2"):
                registry.ready(sums.NAME, 3)
            with pytest.raises(UnknownLabel, match="labels: production, stable"):
                registry.pick(sums.NAME, None, "canary", b"")
            routing.unpin(models, sums.NAME, 2, by="test", why="")
            await until(lambda: versions(registry) == {1: "ready"}, "it has left")

    asyncio.run(test())


def test_pinned_versions_serve_without_production(made: list[Bundle], models: Path) -> None:
    for each in made:
        sums.copy(each, models)
        routing.pin(models, sums.NAME, each.manifest.version, by="test", why="")

    async def test() -> None:
        async with watched(models) as registry:
            await until(lambda: versions(registry) == {1: "ready", 2: "ready"}, "both are loaded")
            assert [says(registry.pick(sums.NAME, version, None, b"")) for version in (1, 2)] == [1, 2]
            with pytest.raises(UnknownVersion, match="sums has no production version; say which: 1, 2"):
                registry.pick(sums.NAME, None, None, b"")

    asyncio.run(test())


def test_an_administrator_loads_and_unloads(made: list[Bundle], models: Path) -> None:
    put(models, made[0], sums.NAME)
    sums.copy(made[1], models)

    async def test() -> None:
        async with watched(models) as registry:
            await until(registry.ready, "it serves")
            loaded = await registry.load(sums.NAME, 2)
            assert (loaded.version, loaded.roles) == (2, ("pinned",))
            assert [(each.version, each.state, each.reason) for each in registry.index()] == [
                (1, "ready", ""),
                (2, "ready", ""),
            ]
            await registry.unload(sums.NAME)
            assert [(each.version, each.state) for each in registry.index()] == [(None, "unloaded")]
            assert not registry.ready()
            with pytest.raises(UnknownModel, match="sums is unloaded"):
                registry.pick(sums.NAME, None, None, b"")
            assert (await registry.load(sums.NAME)).version == 1
            await until(lambda: versions(registry) == {1: "ready", 2: "ready"}, "what was pinned is back as well")

            with pytest.raises(UnknownModel):
                await registry.load("nobody")
            with pytest.raises(UnknownVersion, match="sums has no version 7"):
                await registry.load(sums.NAME, 7)
            third = made[1].manifest.model_copy(update={"version": 3})
            broken = sums.copy(Bundle(made[1].path, third), models)
            routing.pin(models, sums.NAME, 3, by="test", why="")
            noise(broken.path)
            with pytest.raises(LoadRefused, match="sums/3: this version did not load"):
                await registry.load(sums.NAME, 3)
            assert registry.ready()

    asyncio.run(test())
    actions = [event.action for event in routing.history(models, sums.NAME)]
    assert actions == ["promote", "pin", "unload", "load", "pin"]


def test_a_folder_that_cannot_be_written_is_said_to_be_one(made: list[Bundle], models: Path) -> None:
    put(models, made[0], sums.NAME)

    async def test() -> None:
        async with watched(models) as registry:
            await until(registry.ready, "it serves")
            (models / sums.NAME / ".lock").unlink()
            (models / sums.NAME / ".lock").mkdir()
            with pytest.raises(LoadRefused, match="the routing cannot be changed"):
                await registry.unload(sums.NAME)
            assert says(registry.pick(None, None, None, b"")) == 1

    asyncio.run(test())


def test_one_bundle_under_several_names(made: list[Bundle], models: Path) -> None:
    """Each name has its own routing."""
    for name in ("a", "b"):
        put(models, made[0], name)
        sums.copy(made[1], models, name)
    routing.canary(models, "b", 2, 100, by="test", why="")

    async def test() -> None:
        async with watched(models) as registry:
            await until(lambda: registry.ready() and versions(registry, "b") == {1: "ready", 2: "ready"}, "all serve")
            assert says(registry.pick("a", None, None, b"key")) == 1
            assert says(registry.pick("b", None, None, b"key")) == 2

    asyncio.run(test())


def test_nothing_is_picked_before_it_is_ready(made: list[Bundle], models: Path) -> None:
    put(models, made[0], sums.NAME)

    async def test() -> None:
        registry = Registry(Settings(models_dir=models))
        with pytest.raises(NotReady):
            registry.pick(None, None, None, b"")
        await registry.look()
        for version, label in ((None, None), (1, None), (None, "stable")):
            with pytest.raises(NotReady):
                registry.pick(sums.NAME, version, label, b"")
        assert not registry.ready(sums.NAME)
        registry.close()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError(5, "input/output error"), True),
        (PermissionError(13, "permission denied"), True),
        (MemoryError(), True),
        (FileNotFoundError(2, "no such file"), False),
        (ValueError("no network"), False),
    ],
)
def test_what_may_pass_is_tried_again_less_and_less_often(error: Exception, again: bool) -> None:
    try:
        raise bundle.BundleError(Path("x"), ["unreadable"]) from error
    except bundle.BundleError as caught:
        wrapped = caught
    pauses, before = [], None
    for _ in range(9):
        before = refusal(wrapped, (), before, now=100.0)
        pauses.append(before.pause)
        assert not before.may_be_tried(now=100.5)
        assert before.may_be_tried(now=100 + LONGEST_PAUSE_SECONDS) is again

    assert pauses == ([1, 2, 4, 8, 16, 32, 60, 60, 60] if again else [None] * 9)


@pytest.fixture
def open_models() -> Iterator[Path]:
    """A models folder that any user of this machine can read, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="hornpipe-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


AS_NOBODY = """
import asyncio, os, sys
import ai_edge_litert.interpreter
from pathlib import Path
from tests.service.test_registry_folder import states, until, watched
os.setuid(65534)

async def main():
    async with watched(Path(sys.argv[1])) as registry:
        await until(lambda: states(registry) == {"closed": "refused", "shut": "refused", "sums": "ready"}, "as is")
        print("open", flush=True)
        sys.stdin.readline()
        await until(lambda: set(states(registry).values()) == {"ready"}, "all may be read")
        print("done", flush=True)

asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_what_may_not_be_read_is_tried_again_until_it_may(made: list[Bundle], open_models: Path) -> None:
    """A change of permissions changes neither time nor size of a file."""
    put(open_models, made[0], sums.NAME)
    closed = put(open_models, made[0], "closed").path / bundle.MANIFEST
    shut = put(open_models, made[0], "shut").path.parent
    closed.chmod(0o000)
    shut.chmod(0o700)
    command = [sys.executable, "-c", AS_NOBODY, str(open_models)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline() == "open\n"
        closed.chmod(0o644)
        shut.chmod(0o755)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "done\n"
