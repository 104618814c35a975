"""Which method of gRPC is answered by what, and its server put together from the parts of the service."""

from typing import Final

from service.endpoint import Endpoint, Handle
from service.grpc import oip, rpc, tfs
from service.grpc.health import Health
from service.grpc.oip import OpenInference
from service.grpc.rpc import Rpc
from service.grpc.server import GrpcServer
from service.grpc.tfs import TensorFlowServing
from service.settings import Settings
from service.state import ServiceState

# What metrics, journal and guard call a method: whose package it is in, its clients know.
PREFIX: Final = "grpc"


def assemble(settings: Settings, state: ServiceState) -> GrpcServer:
    """A server that does not listen yet."""
    health = Health(lambda: state.registry.ready() and not state.draining, (oip.SERVICE, tfs.PREDICTION, tfs.MODELS))
    methods = _open_inference(state) | _tensorflow_serving(settings, state)
    return GrpcServer(settings, {path: _rpc(path, handle, settings, state) for path, handle in methods.items()}, health)


def _open_inference(state: ServiceState) -> dict[str, Handle]:
    service = OpenInference(state.inference, state.registry, state.metrics)
    return {
        f"/{oip.SERVICE}/ServerLive": service.server_live,
        f"/{oip.SERVICE}/ServerReady": service.server_ready,
        f"/{oip.SERVICE}/ServerMetadata": service.server_metadata,
        f"/{oip.SERVICE}/ModelReady": service.model_ready,
        f"/{oip.SERVICE}/ModelMetadata": service.model_metadata,
        f"/{oip.SERVICE}/ModelInfer": service.model_infer,
        f"/{oip.SERVICE}/RepositoryIndex": service.repository_index,
    }


def _tensorflow_serving(settings: Settings, state: ServiceState) -> dict[str, Handle]:
    service = TensorFlowServing(
        state.inference, state.registry, state.metrics, settings.max_body_bytes, settings.max_rows
    )
    return {
        f"/{tfs.PREDICTION}/Predict": service.predict,
        f"/{tfs.PREDICTION}/Classify": service.classify,
        f"/{tfs.PREDICTION}/Regress": service.regress,
        f"/{tfs.PREDICTION}/GetModelMetadata": service.get_model_metadata,
        f"/{tfs.MODELS}/GetModelStatus": service.get_model_status,
    }


def _rpc(path: str, handle: Handle, settings: Settings, state: ServiceState) -> Rpc:
    name = path.rpartition("/")[2]
    endpoint = Endpoint(f"{PREFIX}/{name}", handle, rpc.refuse, state.front)
    return Rpc(endpoint, state.limits.crowd, settings.receive_seconds)
