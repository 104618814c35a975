"""What becomes of a version that passed the gate, by the policy in its config and by what others did meanwhile."""

from pathlib import Path

import pytest

from contract import introduction, routing
from contract.errors import BundleError
from contract.introduction import introduce
from tests.contract.published import NAME, publish


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Version 1 in production."""
    routing_of_first = publish(tmp_path)
    routing.promote(tmp_path, NAME, routing_of_first, by="ada", why="")
    return tmp_path


def lines(models: Path) -> list[tuple[str, int | None, str]]:
    """All that came after version 1 was promoted."""
    return [(event.action, event.to_version, event.by) for event in routing.history(models, NAME)[1:]]


def test_manual_waits_for_a_person_and_says_how(models: Path) -> None:
    publish(models, against=1)

    done = introduce(models, NAME, 2, by="job 1")

    assert (done.did, done.why) == ("held", "promotion is manual: hornpipe promote flights 2")
    assert routing.read(models, NAME).production == 1
    assert lines(models) == [("held", 2, "job 1")]


def test_direct_promotes_at_once(models: Path) -> None:
    publish(models, against=1, policy="direct")

    assert introduce(models, NAME, 2, by="job 1").did == "promoted"
    assert routing.read(models, NAME).production == 2
    assert lines(models) == [("promote", 2, "job 1")]


def test_a_canary_begins_at_the_first_step_and_is_watched(models: Path) -> None:
    publish(models, against=1, policy="canary", steps=[2.5, 50.0])

    assert introduce(models, NAME, 2, by="job 1").did == "canary"
    now = routing.read(models, NAME)
    assert (now.production, now.canary) == (1, routing.Canary(version=2, percent=2.5, watched=True))


@pytest.mark.parametrize("policy", ["direct", "canary"])
def test_the_first_version_serves_at_once(tmp_path: Path, policy: str) -> None:
    publish(tmp_path, policy=policy)

    assert introduce(tmp_path, NAME, 1, by="job 1").did == "promoted"
    assert routing.read(tmp_path, NAME).production == 1


def test_a_job_that_is_done_again_introduces_nothing_twice(models: Path) -> None:
    publish(models, against=1, policy="canary")
    first = introduce(models, NAME, 2, by="job 1")
    again = introduce(models, NAME, 2, by="job 1")
    publish(models, against=1, policy="canary")  # the job was killed, and made it anew
    anew = introduce(models, NAME, 3, by="job 1")

    assert [first.did, again.did, anew.did] == ["canary", "before", "before"]
    assert lines(models) == [("canary", 2, "job 1")]
    assert introduce(models, NAME, 3, by="job 2").did == "canary"


def test_what_has_gone_back_is_not_brought_again(models: Path) -> None:
    publish(models, against=1, policy="canary")
    introduce(models, NAME, 2, by="job 1")
    seen = routing.read(models, NAME).canary
    assert seen is not None
    routing.give_up(models, NAME, seen, by="canary watch", why="worse")

    assert introduce(models, NAME, 2, by="job 1").did == "before"
    assert routing.read(models, NAME).canary is None


@pytest.mark.parametrize("policy", ["direct", "canary"])
def test_a_line_whose_change_never_came_about_does_not_count(models: Path, policy: str) -> None:
    """Killed between the history and the routing."""
    publish(models, against=1, policy=policy)
    before = (models / NAME / routing.ROUTING).read_bytes()
    introduce(models, NAME, 2, by="job 1")
    (models / NAME / routing.ROUTING).write_bytes(before)

    assert introduce(models, NAME, 2, by="job 1").did == {"direct": "promoted", "canary": "canary"}[policy]
    assert 2 in routing.read(models, NAME).roles()


@pytest.mark.parametrize("policy", ["direct", "canary"])
def test_an_older_candidate_that_arrives_later_is_held(models: Path, policy: str) -> None:
    publish(models, against=1, policy=policy)
    publish(models, against=1)
    routing.promote(models, NAME, 3, by="ada", why="")

    done = introduce(models, NAME, 2, by="job 1")

    assert done.did == "held"
    assert "version 3, which is newer, serves by now" in done.why
    assert routing.read(models, NAME).production == 3


def test_direct_is_held_when_a_person_promoted_what_the_gate_has_not_seen(models: Path) -> None:
    publish(models)
    routing.promote(models, NAME, 2, by="ada", why="")
    publish(models, against=1, policy="direct")

    done = introduce(models, NAME, 3, by="job 1")

    assert done.did == "held"
    assert "the gate compared it with version 1, and version 2 serves by now" in done.why


def test_a_canary_is_tried_beside_whatever_a_person_promoted(models: Path) -> None:
    publish(models)
    routing.promote(models, NAME, 2, by="ada", why="")
    publish(models, against=1, policy="canary")

    assert introduce(models, NAME, 3, by="job 1").did == "canary"


def test_a_newer_candidate_takes_the_place_of_a_watched_canary(models: Path) -> None:
    for _ in (2, 3):
        publish(models, against=1, policy="canary")
    introduce(models, NAME, 2, by="job 1")

    done = introduce(models, NAME, 3, by="job 2")

    assert done.did == "canary"
    assert "instead of version 2" in done.why
    assert lines(models) == [("canary", 2, "job 1"), ("canary_off", 2, "job 2"), ("canary", 3, "job 2")]


def test_an_older_candidate_does_not_take_the_place_of_a_newer_canary(models: Path) -> None:
    for _ in (2, 3):
        publish(models, against=1, policy="canary")
    introduce(models, NAME, 3, by="job 2")

    assert introduce(models, NAME, 2, by="job 1").did == "held"
    assert routing.read(models, NAME).canary == routing.Canary(version=3, percent=5, watched=True)


def test_a_canary_by_hand_is_left_as_it_is(models: Path) -> None:
    for policy in ("canary", "canary", "direct"):
        publish(models, against=1, policy=policy)
    routing.canary(models, NAME, 2, 10, by="ada", why="")

    done = introduce(models, NAME, 3, by="job 1")
    assert done.did == "held"
    assert "version 2 is a canary by hand; instead of it: hornpipe canary flights 3 --watched" in done.why
    assert introduce(models, NAME, 4, by="job 2").did == "promoted"
    assert routing.read(models, NAME).canary == routing.Canary(version=2, percent=10)


def test_a_version_that_is_promoted_directly_ends_a_watched_canary(models: Path) -> None:
    publish(models, against=1, policy="canary")
    publish(models, against=1, policy="direct")
    introduce(models, NAME, 2, by="job 1")

    assert introduce(models, NAME, 3, by="job 2").did == "promoted"
    assert routing.read(models, NAME) == routing.Routing(production=3)


def test_an_altered_version_is_not_introduced(models: Path) -> None:
    publish(models, against=1, policy="direct")
    (models / NAME / "2" / "a").write_bytes(b"altered")

    with pytest.raises(BundleError, match="is not a sound bundle"):
        introduce(models, NAME, 2, by="job 1")
    assert lines(models) == []


def test_a_section_of_another_hornpipe_is_none(models: Path) -> None:
    publish(models, against=1, policy="canary", by_moonlight=True)

    assert introduction.introduce(models, NAME, 2, by="job 1").did == "held"
