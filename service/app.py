"""The architecture on one page: what there is, in which order it is put together, and what answers which path."""

from functools import partial
from typing import TYPE_CHECKING

from service.access.guard import Guard
from service.application import Application
from service.canary.watch import CanaryWatch
from service.counting.gpu import Gpus
from service.counting.store import OwnMemory, Store
from service.drift.windows import Windows
from service.errors import RequestIds
from service.http.cors import Cors, WithoutPreflights
from service.http.dispatch import Table
from service.http.endpoint import Endpoint, Front, Handle, Refuse
from service.http.protocol import HotEndpoint
from service.inference.inference import Inference
from service.logs.journal import Journal
from service.logs.logs import AccessLog
from service.metrics import Metrics
from service.quality.watch import QualityWatch
from service.registry import Registry
from service.routes import containers, health, openinference, predict, tfserving
from service.routes.containers import Containers
from service.routes.health import Health
from service.routes.openinference import OpenInference
from service.routes.predict import Predict
from service.routes.tfserving import TensorFlowServing
from service.server import limits
from service.settings import Settings
from service.state import ServiceState
from service.versions.readiness import Readiness

if TYPE_CHECKING:
    from service.counting.jobs import JobWatch
    from service.predictions.kept import Kept
    from service.retraining.watch import Retraining


def create_app(
    settings: Settings, journal: Journal | None = None, store: Store | None = None, gpus: Gpus | None = None
) -> Application:
    """Every part is made here and handed to those that need it. Nothing is loaded before the lifespan begins.

    The hot paths are not the app's: server.py hands their table to the protocol below it, and puts the gate before the
    app. Without a journal nothing is written down. Raises KeysError, and
    SettingsError where the prediction log's folder cannot be written to.
    """
    registry = Registry(settings)
    store = store or OwnMemory()
    metrics = Metrics(registry.monitors, registry.loaded, store, gpus or Gpus())
    windows = Windows(store, metrics.watches, settings.state_dir or store.folder)
    metrics.declare(predict.PATH, always=True)
    registry.attach(metrics)
    inference = Inference(registry, metrics, settings.threads, settings.max_rows)
    kept = keep(settings, inference, metrics)
    quality = QualityWatch(registry, windows, kept.labelled if kept else None, settings, store.folder)
    metrics.show(quality.board.fill)
    jobs = watch_jobs(settings, registry, metrics, store)
    canaries = CanaryWatch(registry, metrics, settings.models_dir, kept.labelled if kept else None)
    metrics.show(canaries.fill)
    journal = journal or Journal(AccessLog(None, 0.0))
    inference.traces = journal.traces
    cors = Cors(settings.cors_origins) if settings.cors_origins else None
    front = Front(metrics, RequestIds(), settings.timeout_ms / 1000, Guard(settings), cors, journal, inference.refusal)
    readiness = Readiness(registry)
    table = hot_paths(inference, readiness, settings, front)
    dispatch = WithoutPreflights(table) if cors is not None else table
    parts = settings, registry, readiness, inference, metrics, front, dispatch, limits(settings), windows, quality
    return Application(ServiceState(*parts, canaries, kept, jobs, watch_retraining(settings, registry, kept)))


def watch_jobs(settings: Settings, registry: Registry, metrics: Metrics, store: Store) -> "JobWatch | None":
    """What /metrics says of retraining jobs, where there is a table of them. Imported only then, as a database is."""
    if settings.jobs_file is None:
        return None
    from service.counting.jobs import JobWatch

    jobs = JobWatch(settings.jobs_file, registry, store.folder)
    metrics.show(jobs.board.fill)
    return jobs


def watch_retraining(settings: Settings, registry: Registry, kept: "Kept | None") -> "Retraining | None":
    """What asks for jobs by itself, where there is a table of them. Imported only then, as above."""
    if settings.jobs_file is None:
        return None
    from service.retraining.watch import Retraining

    return Retraining(registry, kept.labelled if kept else None, settings, settings.jobs_file)


def keep(settings: Settings, inference: Inference, metrics: Metrics) -> "Kept | None":
    """The prediction log and its labels, where there shall be any. Imported only then: it brings a database."""
    if settings.predictions_dir is None:
        return None
    from service.predictions.kept import Kept

    kept = Kept(settings.predictions_dir, settings)
    inference.log = kept.log
    metrics.attach(partial(kept.count, metrics))
    return kept


def hot_paths(inference: Inference, readiness: Readiness, settings: Settings, front: Front) -> Table:
    """What is answered below ASGI: every protocol's inference, and what orchestrators and Prometheus look at."""
    registry = readiness.registry
    own = Predict(inference, front.metrics, settings.max_rows, settings.max_body_bytes, warn=settings.warnings)

    def endpoint(route: str, handle: Handle, refuse: Refuse) -> Endpoint:
        return Endpoint(route, handle, refuse, front)

    exact: dict[bytes, HotEndpoint] = {predict.PATH.encode(): endpoint(predict.PATH, own.handle, predict.refuse)}
    tensorflow = TensorFlowServing(inference, registry, settings.max_body_bytes)
    open_inference = OpenInference(inference, registry, front.metrics, settings.max_body_bytes)
    containing = Containers(tensorflow, inference, readiness.ready, settings.max_body_bytes, settings.max_rows)
    exact |= containers.paths(containing, settings, front)
    exact |= health.paths(Health(readiness, front.metrics), front)
    return Table(exact, [*tfserving.paths(tensorflow, front), *openinference.paths(open_inference, front)])
