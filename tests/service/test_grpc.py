"""The port of gRPC: health, keys, TLS, deadlines, cancelling, limits, starting and stopping; and hostile messages."""

import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc._cython import cygrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2, service_pb2_grpc

from contract import routing
from service.access import keys
from service.app import create_app
from service.grpc import secure
from service.server import server as make_server
from service.settings import Settings, SettingsError
from tests import kinds
from tests.ports import free_port
from tests.service import grpc_models
from tests.service.access import test_guard
from tests.service.gate import HOUR_MS, Gate, gated
from tests.service.grpc_models import HELD
from tests.service.grpc_serving import Serving, serving
from tests.waiting import PATIENCE_SECONDS, wait_until

INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
GRPC_LOG = "grpc._cython.cygrpc"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grpc")
    kinds.put(kinds.made(tmp_path_factory, "digits")["digits"], folder)
    return folder


@pytest.fixture(scope="module")
def served(models: Path) -> Iterator[Serving]:
    with serving(models, max_body_bytes=100_000) as running:
        yield running


@contextmanager
def closing_server(given: Settings, models: Path) -> Iterator[str]:
    """Its gRPC alone is asked: of HTTP nothing can be known without a client's certificate."""
    settings = given.model_copy(update={"models_dir": models, "port": 0, "grpc_port": 0})
    server = make_server(create_app(settings), settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server listens")
    assert server.grpc is not None
    try:
        yield f"127.0.0.1:{server.grpc.port}"
    finally:
        server.should_exit = True
        thread.join()


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def picture(rows: int = 1, **spec: Any) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name="digits", **spec)
    request.inputs.add(name="picture", datatype="UINT8", shape=[rows, 8, 8, 1])
    request.raw_input_contents.append(bytes(range(64)) * rows)
    return request


def infer(channel: grpc.Channel, request: Any, **options: Any) -> service_pb2.ModelInferResponse:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, **options)


def refusal(ask: Any, *args: Any, **kwargs: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        ask(*args, **kwargs)
    return caught.value


class TestHealth:
    def test_it_is_as_ready_as_the_service(self, served: Serving) -> None:
        with served.channel() as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for service in ("", "inference.GRPCInferenceService", "tensorflow.serving.PredictionService"):
                answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            error = refusal(stub.Check, health_pb2.HealthCheckRequest(service="absent"))
            assert error.code() == grpc.StatusCode.NOT_FOUND

    def test_a_watch_says_when_it_changes(self, served: Serving, models: Path) -> None:
        with served.channel() as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            routing.unload(models, "digits", by="test", why="watched")
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            routing.load(models, "digits", by="test", why="watched")
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            watch.cancel()
            unknown = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="absent"))
            assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            unknown.cancel()


class TestLimits:
    def test_what_is_too_large_is_refused_and_the_connection_goes_on(self, served: Serving) -> None:
        with served.channel() as channel:
            assert refusal(infer, channel, picture(2000)).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert infer(channel, picture()).outputs

    def test_a_bomb_does_not_unfold(self, served: Serving) -> None:
        """A few kilobytes that gzip makes a hundred megabytes of."""
        with served.channel() as channel:
            request = service_pb2.ModelInferRequest(model_name="digits", raw_input_contents=[bytes(100_000_000)])
            before = resident()
            error = refusal(infer, channel, request, compression=grpc.Compression.Gzip)
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert resident() - before < 250_000_000  # the client's own copies are in this process, too
            assert infer(channel, picture(), compression=grpc.Compression.Gzip).outputs

    def test_a_request_that_does_not_arrive_is_given_up(self, models: Path) -> None:
        """By a service of its own: to all others, the machine may be slower than that."""
        with serving(models, receive_seconds=0.5) as impatient, impatient.channel() as channel:
            never = threading.Event()

            def nothing() -> Iterator[bytes]:
                never.wait()
                yield b""

            try:
                error = refusal(channel.stream_unary(INFER), nothing(), timeout=PATIENCE_SECONDS)
            finally:
                never.set()
            assert (error.code(), error.details()) == (grpc.StatusCode.CANCELLED, "the request did not arrive")

    def test_errors_fit_into_a_clients_headers(self, served: Serving) -> None:
        """Whatever they name: a name of ten thousand characters, in any script."""
        with served.channel() as channel:
            for name in ("x" * 10_000, "é" * 10_000, "🐎" * 10_000, "\n" * 10_000):
                request = picture()
                request.inputs[0].name = name
                assert refusal(infer, channel, request).code() == grpc.StatusCode.INVALID_ARGUMENT


class TestMessages:
    @given(st.binary(max_size=300))
    @settings(max_examples=300)
    def test_no_bytes_are_an_internal_error(self, served: Serving, body: bytes) -> None:
        with served.channel() as channel:
            for method in (INFER, PREDICT):
                error = refusal(channel.unary_unary(method), body)
                assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)

    @given(st.data())
    @settings(max_examples=300)
    def test_no_change_to_a_message_is_an_internal_error(self, served: Serving, data: st.DataObject) -> None:
        body = bytearray(picture(2).SerializeToString())
        for _ in range(data.draw(st.integers(1, 4))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        with served.channel() as channel:
            call = channel.unary_unary(INFER)
            try:
                call(bytes(body))
            except grpc.RpcError as error:
                code = error.code()
            else:
                code = grpc.StatusCode.OK
            assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)

    def test_an_unknown_method_is_unimplemented(self, served: Serving) -> None:
        with served.channel() as channel:
            for method in ("/inference.GRPCInferenceService/Nothing", "/no.Service/Method"):
                assert refusal(channel.unary_unary(method), b"").code() == grpc.StatusCode.UNIMPLEMENTED

    def test_clients_that_leave_are_no_news(self, served: Serving, caplog: pytest.LogCaptureFixture) -> None:
        """gRPC has a traceback in the log for those that leave while they are being answered."""
        assert served.server.grpc is not None
        log = logging.getLogger(GRPC_LOG)
        for error in (cygrpc.ExecuteBatchError("it failed"), ValueError("something else")):
            try:
                raise error
            except (cygrpc.ExecuteBatchError, ValueError):
                log.exception("unexpected")
        assert [each.exc_info[0] for each in caplog.records if each.name == GRPC_LOG and each.exc_info] == [ValueError]


class TestMetadata:
    def test_ids_come_back_and_headers_are_read(self, served: Serving) -> None:
        with served.channel() as channel:
            method = channel.unary_unary(INFER)
            body = picture().SerializeToString()
            _, call = method.with_call(body, metadata=(("x-request-id", "mine-1"), ("x-request-priority", "batch")))
            assert dict(call.trailing_metadata())["x-request-id"] == "mine-1"
            error = refusal(method, body, metadata=(("x-request-priority", "soon"),))
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "header x-request-priority" in error.details()
            assert dict(error.trailing_metadata())["x-request-id"]

    def test_keys_are_asked_for(self, models: Path, tmp_path: Path) -> None:
        file = tmp_path / "keys.json"
        predict, admin = (keys.add(file, scope, (scope,)) for scope in ("predict", "admin"))
        with serving(models, keys_file=file, open_metrics=True) as running, running.channel() as channel:
            assert refusal(infer, channel, picture()).code() == grpc.StatusCode.UNAUTHENTICATED
            wrong = (("authorization", "Bearer nonsense"),)
            assert refusal(infer, channel, picture(), metadata=wrong).code() == grpc.StatusCode.UNAUTHENTICATED
            assert infer(channel, picture(), metadata=(("authorization", f"Bearer {predict}"),)).outputs
            assert infer(channel, picture(), metadata=(("x-api-key", predict),)).outputs

            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            unload = service_pb2.RepositoryModelUnloadRequest(model_name="absent")
            error = refusal(stub.RepositoryModelUnload, unload, metadata=(("x-api-key", predict),))
            assert error.code() == grpc.StatusCode.PERMISSION_DENIED
            error = refusal(stub.RepositoryModelUnload, unload, metadata=(("x-api-key", admin),))
            assert error.code() == grpc.StatusCode.NOT_FOUND
            assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
            assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()).status == 1

    def test_a_key_that_is_used_up_says_when_to_come_back(self, models: Path, tmp_path: Path) -> None:
        file = tmp_path / "keys.json"
        key = keys.add(file, "slow", ("predict",), requests_per_second=0.001, burst=2)
        with serving(models, keys_file=file) as running, running.channel() as channel:
            metadata = (("x-api-key", key),)
            assert all(infer(channel, picture(), metadata=metadata).outputs for _ in range(2))
            error = refusal(infer, channel, picture(), metadata=metadata)
            trailing = dict(error.trailing_metadata())
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert int(trailing["retry-after"]) * 1000 == int(trailing["grpc-retry-pushback-ms"]) > 1000

    def test_a_stream_needs_a_key_and_each_of_its_requests_uses_it_up(self, models: Path, tmp_path: Path) -> None:
        file = tmp_path / "keys.json"
        key = keys.add(file, "slow", ("predict",), requests_per_second=0.001, burst=2)
        with serving(models, keys_file=file) as running, running.channel() as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            error = refusal(lambda: list(stub.ModelStreamInfer(iter([picture()] * 3))))
            assert error.code() == grpc.StatusCode.UNAUTHENTICATED
            answers = list(stub.ModelStreamInfer(iter([picture()] * 3), metadata=(("x-api-key", key),)))

        assert [bool(each.infer_response.outputs) for each in answers] == [True, True, False]
        assert "asks more often than it may" in answers[2].error_message


certify = test_guard.certify  # the fixture


class TestTls:
    def test_the_certificate_is_that_of_https_and_as_soon_renewed(
        self, models: Path, certify: test_guard.Certify, tmp_path: Path
    ) -> None:
        pair = certify("first")
        with serving(models, tls_cert=pair.cert, tls_key=pair.key) as running:
            first = pair.cert.read_bytes()
            with grpc.secure_channel(running.address, grpc.ssl_channel_credentials(first)) as channel:
                assert infer(channel, picture()).outputs
            with running.channel() as channel:
                error = refusal(infer, channel, picture(), timeout=PATIENCE_SECONDS)
                assert error.code() == grpc.StatusCode.UNAVAILABLE
            second = certify("second")
            pair.key.write_bytes(second.key.read_bytes())
            pair.cert.write_bytes(second.cert.read_bytes())
            renewed = grpc.ssl_channel_credentials(second.cert.read_bytes())
            with grpc.secure_channel(running.address, renewed) as channel:
                assert infer(channel, picture(), timeout=PATIENCE_SECONDS).outputs

    def test_clients_may_have_to_show_one(self, models: Path, certify: test_guard.Certify) -> None:
        authority = certify("authority")
        pair, mine = certify("server"), certify("client", by=authority)
        given = Settings(tls_cert=pair.cert, tls_key=pair.key, tls_client_ca=authority.cert)
        with closing_server(given, models) as address:
            root = pair.cert.read_bytes()
            shown = grpc.ssl_channel_credentials(root, mine.key.read_bytes(), mine.cert.read_bytes())
            with grpc.secure_channel(address, shown) as channel:
                asked = health_pb2.HealthCheckRequest()
                assert health_pb2_grpc.HealthStub(channel).Check(asked, timeout=PATIENCE_SECONDS).status
            with grpc.secure_channel(address, grpc.ssl_channel_credentials(root)) as channel:
                error = refusal(health_pb2_grpc.HealthStub(channel).Check, asked, timeout=PATIENCE_SECONDS)
                assert error.code() == grpc.StatusCode.UNAVAILABLE

    def test_a_locked_key_is_said_to_be_of_no_use(self, certify: test_guard.Certify) -> None:
        pair = certify("locked", password=b"sesame")
        with pytest.raises(SettingsError, match="HORNPIPE_TLS_KEY_PASSWORD: gRPC reads private keys only as they are"):
            secure.credentials(Settings(tls_cert=pair.cert, tls_key=pair.key, tls_key_password="sesame"))


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    with gated() as each:
        yield each


@pytest.fixture(scope="module")
def slow(gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One thread, which the gate holds."""
    folder = tmp_path_factory.mktemp("slow")
    grpc_models.held(folder)
    with serving(folder, threads=1, timeout_ms=HOUR_MS) as running:
        yield running


def number(value: int) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=HELD)
    request.inputs.add(name="n", datatype="INT64", shape=[1])
    request.raw_input_contents.append(np.int64(value).tobytes())
    return request


class TestTime:
    def outcomes(self, slow: Serving) -> dict[str, float]:
        return {
            outcome: slow.metric(
                "hornpipe_request_duration_seconds_count", model=HELD, route="grpc/ModelInfer", outcome=outcome
            )
            for outcome in ("ok", "rejected", "gone")
        }

    def rows(self, slow: Serving) -> float:
        """That wait or run."""
        return slow.metric("hornpipe_queue_rows", model=HELD)

    @contextmanager
    def busy(self, slow: Serving, gate: Gate, channel: grpc.Channel) -> Iterator[None]:
        """While the only thread is held."""
        gate.open.clear()
        try:
            running = channel.unary_unary(INFER).future(number(1).SerializeToString())
            wait_until(lambda: self.rows(slow) == 1, "it runs")
            yield
            assert not running.done()
        finally:
            gate.open.set()
        assert running.result(timeout=PATIENCE_SECONDS)
        wait_until(lambda: self.rows(slow) == 0, "nothing waits")

    def test_a_deadline_that_is_over_drops_the_rows(self, slow: Serving, gate: Gate) -> None:
        deadlines = (0.1 * 2**i for i in itertools.count())

        def too_late() -> bool:
            """It may be over before the service has heard of the call, so the next one has more time."""
            error = refusal(infer, channel, number(1), timeout=next(deadlines))
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            wait_until(lambda: self.rows(slow) == 1, "its row waits no more")
            after = self.outcomes(slow)
            return after["rejected"] + after["gone"] > before["rejected"] + before["gone"]

        with slow.channel() as channel:
            infer(channel, number(1))
            before, rows = self.outcomes(slow), slow.metric("hornpipe_batch_rows_sum", model=HELD)
            with self.busy(slow, gate, channel):
                wait_until(too_late, "the service has heard of one")
            assert self.outcomes(slow)["ok"] == before["ok"] + 1
            assert slow.metric("hornpipe_batch_rows_sum", model=HELD) == rows + 1

    def test_the_headers_time_holds_as_well(self, slow: Serving, gate: Gate) -> None:
        with slow.channel() as channel, self.busy(slow, gate, channel):
            headers = (("x-request-timeout-ms", "100"),)
            error = refusal(infer, channel, number(1), timeout=PATIENCE_SECONDS, metadata=headers)
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert "could not be run within the request's time" in error.details()

    def test_a_call_that_is_cancelled_drops_its_rows(self, slow: Serving, gate: Gate) -> None:
        with slow.channel() as channel:
            infer(channel, number(1))
            before, rows = self.outcomes(slow), slow.metric("hornpipe_batch_rows_sum", model=HELD)
            with self.busy(slow, gate, channel):
                waiting = channel.unary_unary(INFER).future(number(1).SerializeToString())
                wait_until(lambda: self.rows(slow) == 2, "it waits")
                waiting.cancel()
                wait_until(lambda: self.rows(slow) == 1, "it waits no more")
            wait_until(lambda: self.outcomes(slow)["gone"] == before["gone"] + 1, "it is counted as gone")
            assert slow.metric("hornpipe_batch_rows_sum", model=HELD) == rows + 1

    def test_stopping_lets_calls_end(self, gate: Gate, tmp_path: Path) -> None:
        grpc_models.held(tmp_path)
        with serving(tmp_path, threads=1, timeout_ms=HOUR_MS) as running, running.channel() as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            gate.open.clear()
            try:
                call = channel.unary_unary(INFER).future(number(1).SerializeToString())
                wait_until(lambda: self.rows(running) == 1, "it runs")
                running.server.should_exit = True
                assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
                assert not call.done()
            finally:
                gate.open.set()
            assert call.result(timeout=PATIENCE_SECONDS)
            running.thread.join(PATIENCE_SECONDS)
            assert not running.thread.is_alive()
            error = refusal(infer, channel, number(1), timeout=PATIENCE_SECONDS)
            assert error.code() == grpc.StatusCode.UNAVAILABLE


class TestStart:
    def test_a_port_in_use_ends_the_start(self, models: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            ended = serve_here(models, HORNPIPE_GRPC_PORT=str(port))
        assert ended.returncode == 3
        assert f"HORNPIPE_GRPC_PORT: cannot listen on 127.0.0.1:{port}: is it in use?" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_without_the_port_grpc_is_not_even_imported(self, models: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from service.app import create_app; from service.server import *; "
            "given = Settings(models_dir=Path('models')); server(create_app(given), given); "
            "sys.exit('grpc' in sys.modules or 'google.protobuf' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_SECONDS).returncode == 0

    def test_a_missing_extra_is_named(self) -> None:
        code = (
            "import sys; sys.modules['grpc'] = None; import importlib.util as u; found = u.find_spec; "
            "u.find_spec = lambda name: None if name == 'grpc' else found(name); "
            "from service.__main__ import main; sys.exit(main())"
        )
        environment = os.environ | {"HORNPIPE_GRPC_PORT": "0", "HORNPIPE_PORT": "0"}
        ended = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        assert ended.returncode == 2
        assert "pip install 'hornpipe[grpc]'" in ended.stderr


class TestWorkers:
    def test_several_answer_at_one_port_and_are_counted_together(self, models: Path) -> None:
        port, http = str(free_port()), str(free_port())
        with spawned(models, HORNPIPE_WORKERS="2", HORNPIPE_GRPC_PORT=port, HORNPIPE_PORT=http) as process:
            answered = set()

            def both() -> bool:
                with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
                    body = picture().SerializeToString()
                    _, call = channel.unary_unary(INFER).with_call(body, timeout=PATIENCE_SECONDS, wait_for_ready=True)
                answered.add(dict(call.trailing_metadata())["x-request-id"].partition("-")[0])
                calls.append(None)
                return len(answered) == 2

            calls: list[None] = []
            wait_until(both, "both workers answer")
            counted = f'route="grpc/ModelInfer",outcome="ok",le="+Inf"}} {len(calls)}'
            with httpx.Client(base_url=f"http://127.0.0.1:{http}", timeout=PATIENCE_SECONDS) as client:
                wait_until(lambda: listens(client), "the other port, which the supervisor opens, is open as well")
                counts = lambda: client.get("/metrics").text  # noqa: E731
                wait_until(lambda: counted in counts(), "all are counted, which is once they are answered")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 0

    def test_a_port_of_its_own_for_each_is_refused(self, models: Path) -> None:
        ended = serve_here(models, HORNPIPE_GRPC_PORT="0", HORNPIPE_WORKERS="2")
        assert ended.returncode == 2
        assert "HORNPIPE_GRPC_PORT: with 0, every worker would have a port of its own" in ended.stderr


@contextmanager
def spawned(models: Path, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    settings = {"HORNPIPE_MODELS_DIR": str(models), **environment}
    with subprocess.Popen([sys.executable, "-m", "service"], env=os.environ | settings) as process:
        try:
            yield process
        finally:
            process.kill()


def listens(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def serve_here(models: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    settings = {"HORNPIPE_MODELS_DIR": str(models), "HORNPIPE_PORT": "0", **environment}
    command = [sys.executable, "-m", "service"]
    return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
