"""Which method of gRPC is answered by what, and its server put together from the parts of the service."""

from dataclasses import replace

from service.grpc import oip, tfs
from service.grpc.health import Health
from service.grpc.oip import OpenInferenceMessages
from service.grpc.rpc import Rpc, refuse
from service.grpc.server import GrpcServer
from service.grpc.stream import InferStream
from service.grpc.tfs import TensorFlowServingMessages
from service.http.endpoint import Endpoint, Handle
from service.routes.openinference import OpenInference
from service.routes.tfserving import TensorFlowServing
from service.settings import Settings
from service.state import ServiceState


def assemble(settings: Settings, state: ServiceState) -> GrpcServer:
    """A server that does not listen yet."""
    health = Health(state.readiness.ready, (oip.SERVICE, tfs.PREDICTION, tfs.MODELS))
    methods = _open_inference(settings, state) | _tensorflow_serving(settings, state)
    # Web pages have no part in gRPC.
    front = replace(state.front, cors=None)
    rpcs = {
        path: Rpc(Endpoint(route(path), handle, refuse, front), state.limits.crowd, settings.receive_seconds)
        for path, handle in methods.items()
    }
    streams = {oip.STREAM: InferStream(rpcs.pop(oip.STREAM))}
    return GrpcServer(settings, rpcs, streams, health, state.registry.ready)


def route(path: str) -> str:
    """What metrics, journal and guard call a method: in whose package it is, its clients know."""
    return f"grpc/{path.rpartition('/')[2]}"


def _open_inference(settings: Settings, state: ServiceState) -> dict[str, Handle]:
    protocol = OpenInference(state.inference, state.registry, state.metrics, settings.max_body_bytes)
    service = OpenInferenceMessages(protocol, state.registry, state.metrics)
    return {
        f"/{oip.SERVICE}/ServerLive": service.server_live,
        f"/{oip.SERVICE}/ServerReady": service.server_ready,
        f"/{oip.SERVICE}/ServerMetadata": service.server_metadata,
        f"/{oip.SERVICE}/ModelReady": service.model_ready,
        f"/{oip.SERVICE}/ModelMetadata": service.model_metadata,
        f"/{oip.SERVICE}/ModelInfer": service.model_infer,
        oip.STREAM: service.model_infer,
        f"/{oip.SERVICE}/ModelStatistics": service.model_statistics,
        f"/{oip.SERVICE}/RepositoryIndex": service.repository_index,
        f"/{oip.SERVICE}/RepositoryModelLoad": service.repository_model_load,
        f"/{oip.SERVICE}/RepositoryModelUnload": service.repository_model_unload,
    }


def _tensorflow_serving(settings: Settings, state: ServiceState) -> dict[str, Handle]:
    most_bytes = settings.max_body_bytes
    protocol = TensorFlowServing(state.inference, state.registry, most_bytes)
    service = TensorFlowServingMessages(protocol, state.inference, state.metrics, most_bytes, settings.max_rows)
    return {
        f"/{tfs.PREDICTION}/Predict": service.predict,
        f"/{tfs.PREDICTION}/Classify": service.classify,
        f"/{tfs.PREDICTION}/Regress": service.regress,
        f"/{tfs.PREDICTION}/GetModelMetadata": service.get_model_metadata,
        f"/{tfs.MODELS}/GetModelStatus": service.get_model_status,
    }
