"""Running works together: encode, join, run. One request's mistakes never become another's."""

from time import perf_counter

import numpy as np

from contract.features import Encoded
from service.errors import misfit
from service.inference.lane import Lane
from service.inference.work import Batch, Work


def execute(works: list[Work], lane: Lane) -> Batch:
    """Run works of one model on the calling thread; raises nothing that is one request's fault."""
    began = perf_counter()
    sound, parts, failed = _encode(works)
    if not sound:
        return Batch([], failed, None, {}, began, began, perf_counter())
    encoded = parts[0] if len(parts) == 1 else Encoded.join(parts)
    running = perf_counter()
    try:
        outputs = lane.run(encoded)
    except Exception as error:  # a runtime's own; which request is to blame shows when each runs alone
        if len(sound) > 1:
            return _one_by_one(works, lane)
        return Batch([], [*failed, (sound[0], error)], None, {}, began, running, perf_counter())
    return Batch(sound, failed, encoded, outputs, began, running, perf_counter())


def _one_by_one(works: list[Work], lane: Lane) -> Batch:
    batches = [execute([work], lane) for work in works]
    ran = [batch for batch in batches if batch.encoded is not None]
    encoded = Encoded.join([batch.encoded for batch in ran if batch.encoded is not None]) if ran else None
    outputs = {name: np.concatenate([each.outputs[name] for each in ran]) for name in ran[0].outputs} if ran else {}
    return Batch(
        [work for batch in ran for work in batch.works],
        [failure for batch in batches for failure in batch.failed],
        encoded,
        outputs,
        batches[0].began,
        batches[0].started,
        batches[-1].ended,
    )


def _encode(works: list[Work]) -> tuple[list[Work], list[Encoded], list[tuple[Work, Exception]]]:
    """All rows at once, which is much cheaper; one by one where that fails."""
    encoder = works[0].model.encoder
    if len(works) > 1 and all(work.rows is not None for work in works):
        together = encoder.encode([row for work in works for row in work.rows or ()])
        if not isinstance(together, list):
            return works, [together], []
    sound: list[Work] = []
    parts: list[Encoded] = []
    failed: list[tuple[Work, Exception]] = []
    for work in works:
        encoded = work.encoded if work.rows is None else encoder.encode(work.rows)
        if callable(encoded):
            try:
                encoded = encoded()
            except Exception as error:  # a defect of ours in reading this one
                failed.append((work, error))
                continue
        if isinstance(encoded, Encoded):
            sound.append(work)
            parts.append(encoded)
        else:
            failed.append((work, misfit(work.model.name, work.model.version, encoded or [])))
    return sound, parts, failed
