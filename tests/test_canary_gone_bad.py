"""What becomes wrong or slow between the gate and the traffic: the canary is taken back by itself, and nobody fails."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contract import introduction, routing
from contract.bundle import Bundle
from contract.evidence import Verdict
from contract.promotion import Promotion
from contract.routing import Event
from service.canary.measures import ALPHA, LEAST_RUNS, NAMES
from service.canary.sequential import share_bounds
from tests.circle import altered, shards
from tests.circle.processes import Places, serving
from tests.circle.stages import Stages, logs_shown
from tests.circle.traffic import Traffic
from tests.conftest import NAME, Trained, add_version
from tests.test_server import Process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

# More than the test lasts: it is not to go on before it has gone back.
POLICY = Promotion(policy="canary", steps=[5.0, 25.0, 100.0], min_requests=1_000_000, min_minutes=0.0)
# Ten seconds of its share: a machine that stands still delays the answers as it delays who looks at them.
MOST_AFTERWARDS = 50


class Bad(NamedTuple):
    """What is done to a network, by which of the measures it may be found, and after how many answers at the latest."""

    change: Callable[[Any], Any]
    measures: tuple[str, ...]
    enough: int


def sure_of(margin: float) -> int:
    """So many requests, on nine in ten of which the two disagree, are the fewest that show more than the margin."""
    alpha = ALPHA / len(NAMES) / len(POLICY.steps)
    return next(n for n in range(1, 1000) if share_bounds(0.9 * n, n, alpha)[0] > margin)


BAD = {
    "wrong": Bad(altered.wrong, ("distribution: ", "disagreement: "), sure_of(POLICY.margins.disagreement)),
    "slow": Bad(altered.slow, ("latency: ",), LEAST_RUNS),
}


@pytest.fixture
def passed(models: Path, trained: Trained) -> Verdict:
    """The gate's, of a sound version against production."""
    verdict = replace(trained.judge, models=models)(add_version(models))
    assert verdict.passed
    assert verdict.against == 1
    return verdict


@pytest.fixture(params=BAD)
def bad(request: pytest.FixtureRequest) -> Bad:
    return BAD[request.param]


@pytest.fixture
def made(bad: Bad, passed: Verdict, trained: Trained, models: Path) -> Bundle:
    return altered.published(bad.change(trained.logits), passed, trained, POLICY, models)


@pytest.fixture
def service(made: Bundle, tmp_path: Path) -> Iterator[Process]:
    with logs_shown(tmp_path), serving(Places(tmp_path)) as process:
        yield process


def test_what_goes_bad_after_the_gate_is_taken_back(
    service: Process, bad: Bad, made: Bundle, models: Path, flights: Path
) -> None:
    stages, version = Stages(), made.manifest.version
    bodies = shards.requests(shards.paths(flights, [9]), [each.name for each in made.manifest.features])
    with Traffic(service.port, bodies) as traffic:
        stages.wait(lambda: traffic.versions()[1] > 200, "version 1 answers", 60)
        introduced = introduction.introduce(models, NAME, version, by="job 1")
        assert introduced.did == "canary"
        stages.wait(lambda: routing.read(models, NAME).canary is None, "it has been taken back", 180)
        stages.wait(lambda: traffic.versions(traffic.came(version)[-1])[1] >= 300, "version 1 goes on alone", 60)
    back = routing.history(models, NAME)[-1]

    assert traffic.failures() == []
    it_is_written_down(back, version, bad)
    answers, moment = traffic.came(version), back.at.timestamp()
    evident = answers[min(bad.enough, len(answers)) - 1]
    print(f"first answer {moment - answers[0]:.1f} s, evidence {moment - evident:.1f} s before: {back.why}")
    assert len([each for each in answers if each > evident]) < MOST_AFTERWARDS
    assert routing.read(models, NAME) == routing.Routing(production=1)


def it_is_written_down(back: Event, version: int, bad: Bad) -> None:
    assert (back.action, back.from_version, back.to_version) == ("canary_off", 1, version)
    assert back.by == "canary watch"
    assert back.why.startswith(bad.measures)
