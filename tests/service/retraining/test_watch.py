"""What the clock and labels ask for: real job table, history and labels; only the time is the test's."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from contract.trigger import Evidence
from service.labels.labels import Labels
from service.retraining.asking import Asking, Outcome
from tests.service.retraining.looking import HOUR, MODEL, Looking

DAY = 24 * HOUR
# Ten rows of which nine are right, and ten of which one is.
RIGHT = [0.9] * 5 + [0.1] * 5, ["late"] * 5 + ["on_time"] * 4 + ["late"]
WRONG = [0.9] * 5 + [0.1] * 5, ["on_time"] * 5 + ["late"] * 4 + ["on_time"]


@pytest.fixture
def looking(tmp_path: Path) -> Looking:
    Labels(tmp_path / "log").close()
    return Looking(tmp_path)


def at(looking: Looking, hour: int) -> str:
    """A schedule for an hour of UTC that is so many from now."""
    return f"0 {(datetime.fromtimestamp(looking.now, UTC).hour + hour) % 24} * * *"


# The schedule


def test_a_schedule_asks_when_it_is_due_and_once(looking: Looking) -> None:
    wish = looking.wish(schedule=at(looking, 3))
    assert looking.look(wish) == []
    assert looking.look(wish, after=HOUR) == []
    (job,) = looking.look(wish, after=2 * HOUR)
    assert looking.look(wish, after=60.0) == [job]

    assert (job.order.model, job.order.cause, job.order.asked_by) == (MODEL, "schedule", "schedule")
    assert json.loads(job.order.config) == wish.manifest.config
    assert job.order.why.startswith(f"the schedule {wish.retrain.schedule} was due at ")
    assert looking.told() == [("asked", "schedule", f"job 1: {job.order.why}")]


def test_after_downtime_it_asks_for_what_was_missed_once(looking: Looking) -> None:
    wish = looking.wish(schedule=at(looking, 3))
    looking.look(wish)
    looking.begin()
    assert len(looking.look(wish, after=10 * DAY)) == 1
    looking.end()
    looking.begin()
    assert len(looking.look(wish, after=HOUR)) == 1
    assert len(looking.look(wish, after=DAY)) == 2
    assert [action for action, *_ in looking.told()] == ["asked", "asked"]


def test_who_died_before_it_was_marked_as_seen_asks_for_no_second_job(looking: Looking) -> None:
    wish, seen = looking.wish(schedule=at(looking, 3)), looking.seen
    looking.look(wish)
    before = seen.read_bytes()
    looking.look(wish, after=3 * HOUR)
    seen.write_bytes(before)
    looking.begin()
    assert len(looking.look(wish, after=60.0)) == 1
    looking.end(after=60.0)
    seen.write_bytes(before)
    looking.begin()
    assert len(looking.look(wish, after=7 * HOUR)) == 1
    assert "job 1 has answered it" in looking.told()[-1][2]


def test_a_time_that_comes_while_a_job_is_open_is_let_pass_and_written_down_once(looking: Looking) -> None:
    wish = looking.wish(schedule="* * * * *")
    looking.look(wish)
    for _ in range(3):
        looking.look(wish, after=60.0)
    assert [action for action, *_ in looking.told()] == ["asked", "not_asked", "not_asked"]
    assert looking.told()[-1][2].startswith("job 1 is queued, though the schedule * * * * * was due at")
    looking.look(wish)
    assert len(looking.told()) == 3


def test_another_schedule_than_before_begins_now(looking: Looking) -> None:
    looking.look(looking.wish(schedule=at(looking, 3)))
    assert looking.look(looking.wish(version=2, schedule=at(looking, 4)), after=5 * HOUR) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schedule": "0 3 * * *", "timezone": "UTC", "until": "yesterday"}'])
def test_a_broken_file_of_what_was_seen_begins_anew(
    looking: Looking, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    looking.seen.parent.mkdir()
    looking.seen.write_bytes(content)
    wish = looking.wish(schedule=at(looking, 3))
    assert looking.look(wish) == []
    assert "the schedule begins now" in caplog.text
    assert len(looking.look(wish, after=3 * HOUR)) == 1


def test_in_quiet_hours_a_job_is_queued_and_waits(looking: Looking) -> None:
    hour = datetime.fromtimestamp(looking.now, UTC).hour
    quiet = f"{hour:02}:00-{(hour + 5) % 24:02}:00"
    wish = looking.wish(schedule=at(looking, 3), quiet_hours=quiet)
    looking.look(wish)
    (job,) = looking.look(wish, after=3 * HOUR)
    ends = datetime.fromtimestamp(job.not_before, UTC)

    assert (ends.hour, ends.minute) == ((hour + 5) % 24, 0)
    assert looking.now < job.not_before <= looking.now + 2 * HOUR
    assert looking.told()[0][2].endswith("after the quiet hours")


# Labels


def test_so_many_new_labels_ask_and_then_as_many_again(looking: Looking) -> None:
    wish = looking.wish(on_labels=20)
    looking.predict(*RIGHT)
    looking.predict(*RIGHT, model="other")
    assert looking.look(wish) == []
    looking.predict(*RIGHT, version=2)  # whichever version answered
    (job,) = looking.look(wish)
    assert (job.order.cause, job.order.why) == ("labels", "20 rows have got their label since version 1 was made")

    # What had come by when the job began, it had.
    looking.end()
    assert len(looking.look(wish, after=DAY)) == 1
    assert looking.told() == [("asked", "labels", f"job 1: {job.order.why}")]
    for _ in range(2):
        looking.predict(*RIGHT)
    *_, again = looking.look(wish, after=60.0)
    assert again.order.why == "20 rows have got their label since job 1"


def test_a_job_that_failed_has_not_learned_what_labels_said(looking: Looking) -> None:
    wish = looking.wish(on_labels=10, cooldown="2h")
    looking.predict(*RIGHT)
    looking.look(wish)
    looking.end("failed")
    assert len(looking.look(wish, after=HOUR)) == 1
    assert len(looking.look(wish, after=HOUR)) == 2
    looking.end("refused")
    assert len(looking.look(wish, after=3 * DAY)) == 2
    assert [action for action, *_ in looking.told()] == ["asked", "not_asked", "asked"]
    assert "cool-down after job 1" in looking.told()[1][2]


def test_looks_that_decide_the_same_write_no_further_line_whichever_process_looks(looking: Looking) -> None:
    wish = looking.wish(on_labels=10)
    looking.predict(*RIGHT)
    looking.look(wish)
    looking.end("failed")
    for _ in range(3):
        looking.begin()
        looking.look(wish, after=5.0)
        looking.look(wish, after=5.0)
    until = wish.retrain.said(datetime.fromtimestamp(looking.now - 30.0 + 6 * HOUR, UTC))
    assert looking.told() == [
        ("asked", "labels", "job 1: 10 rows have got their label since version 1 was made"),
        ("not_asked", "labels", f"cool-down after job 1, until {until}, though on_labels = 10 is reached"),
    ]


# Quality


def quality(**given: object) -> dict[str, object]:
    return {"on_quality": {"metric": "accuracy", "bound": 0.5, "rows": 20} | given}


def test_quality_that_is_worse_for_sure_asks_once_until_as_many_labels_come_again(looking: Looking) -> None:
    wish = looking.wish(**quality())
    looking.predict(*WRONG)
    assert looking.look(wish) == []  # too few
    looking.predict(*WRONG)
    (job,) = looking.look(wish)
    assert job.order.cause == "quality"
    assert job.order.why == "accuracy of 20 labelled rows of version 1 is 0.1 (0.02787 to 0.301), below 0.5"
    looking.end("refused")
    assert len(looking.look(wish, after=DAY)) == 1
    looking.predict(*WRONG)
    assert len(looking.look(wish, after=60.0)) == 1
    looking.predict(*WRONG)
    assert looking.look(wish, after=60.0)[1].order.why.startswith("accuracy of 40 labelled rows")


def test_quality_that_is_good_or_may_be_by_chance_asks_for_nothing(looking: Looking) -> None:
    for _ in range(2):
        looking.predict(*RIGHT)
    assert looking.look(looking.wish(**quality())) == []
    assert looking.look(looking.wish(**quality(bound=0.95))) == []  # 0.9, and its interval reaches beyond 0.95
    assert len(looking.look(looking.wish(**quality(bound=0.99)))) == 1


def test_of_some_metrics_less_is_better(looking: Looking) -> None:
    for _ in range(2):
        looking.predict(*WRONG)
    assert looking.look(looking.wish(**quality(metric="log_loss", bound=100.0))) == []
    (job,) = looking.look(looking.wish(**quality(metric="log_loss", bound=0.7)))
    score = np.where(np.array(WRONG[1]) == "late", WRONG[0], 1 - np.array(WRONG[0]))
    assert f"is {-np.log(score).mean():.4g} (" in job.order.why
    assert job.order.why.endswith("above 0.7")


def test_the_quality_of_another_version_is_not_production_s(looking: Looking) -> None:
    for _ in range(2):
        looking.predict(*WRONG, version=1)
    assert looking.look(looking.wish(version=2, **quality())) == []


# What goes wrong


def test_a_history_that_cannot_be_written_holds_up_no_job(looking: Looking, caplog: pytest.LogCaptureFixture) -> None:
    (looking.folder / "models" / MODEL).rmdir()
    wish = looking.wish(schedule="* * * * *")
    looking.look(wish)
    assert len(looking.look(wish, after=60.0)) == 1
    looking.look(wish, after=60.0)
    assert caplog.text.count("is not in its history") == 1


def test_without_a_log_of_predictions_it_is_said_once_and_the_schedule_goes_on(
    looking: Looking, caplog: pytest.LogCaptureFixture
) -> None:
    looking.begin(labelled=False)
    wish = looking.wish(on_labels=1, schedule=at(looking, 3))
    looking.look(wish)
    assert len(looking.look(wish, after=3 * HOUR)) == 1
    assert caplog.text.count("HORNPIPE_PREDICTIONS_DIR is not set") == 1


def test_a_job_table_that_is_away_is_asked_again_later(looking: Looking, caplog: pytest.LogCaptureFixture) -> None:
    wish = looking.wish(schedule=at(looking, 3))
    looking.look(wish)
    looking.jobs.rename(looking.folder / "kept")
    for rest in ("-wal", "-shm"):
        looking.jobs.with_name(f"jobs.sqlite{rest}").unlink(missing_ok=True)
    looking.jobs.write_text("no database\n" * 100)
    looking.now += 3 * HOUR
    looking.retraining.look([wish])
    looking.retraining.look([wish])
    assert caplog.text.count("the job table cannot be opened") == 1
    (looking.folder / "kept").replace(looking.jobs)
    assert len(looking.look(wish, after=60.0)) == 1


def test_one_model_s_trouble_is_not_another_s(looking: Looking, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    broken = looking.wish(on_labels=1)._replace(manifest=None)  # type: ignore[arg-type]  # a defect of ours
    wish = looking.wish(schedule=at(looking, 3))
    with pytest.raises(AttributeError):
        looking.look(broken)
    looking.look(wish)
    assert len(looking.look(wish, after=3 * HOUR)) == 1


# Who looks


def test_who_hears_of_the_same_at_once_asks_for_one_job(looking: Looking) -> None:
    """As two Alertmanagers deliver to two processes."""
    wish = looking.wish(on_drift=True)
    ring = Evidence("drift", "HornpipeInputDrift rings", "it rings")

    def hear(_: int) -> Outcome:
        asking = Asking(looking.folder / "models", looking.jobs)
        with asking.table() as table:
            return asking.ask(table, wish, ring, "test")

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(hear, range(8)))

    assert len([each for each in outcomes if each.job]) == 1
    assert {each.why for each in outcomes if not each.job} == {"job 1 is queued, though HornpipeInputDrift rings"}
    told = looking.told()
    assert set(told) == {
        ("asked", "drift", "job 1: it rings"),
        ("not_asked", "drift", "job 1 is queued, though HornpipeInputDrift rings"),
    }
    assert len(told) <= 3  # who was refused may have written it before who was faster has


def test_services_of_different_models_share_a_table_and_each_looks_after_its_own(looking: Looking) -> None:
    """As with HORNPIPE_MODELS: the first to come would else look after nothing of the second's."""
    mine, other = looking.wish(schedule="* * * * *"), looking.wish(schedule="* * * * *")
    other = other._replace(manifest=other.manifest.model_copy(update={"name": "other"}))
    first = looking.retraining
    assert first.lead([mine]) == [mine]
    looking.begin()
    assert looking.retraining.lead([mine, other]) == [other]
    assert first.lead([]) == []  # it serves flights no more
    assert looking.retraining.lead([mine, other]) == [mine, other]
    looking.retraining.close()
    assert first.lead([mine, other]) == [mine, other]
    first.close()
