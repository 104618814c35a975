"""A .tflite file in the LiteRT interpreter, on the CPU."""

from pathlib import Path
from typing import Any

from contract import memory
from contract.encoded import Encoded
from contract.errors import RunFailed, RuntimeUnavailable
from contract.runtime import SIGNATURE, Outputs, in_parts, values

# A network on pictures holds megabytes of intermediate values a row, and an interpreter keeps those of its largest run.
# So many values go in at once; more at a time are not faster (28 x 28: measured from 8 pictures on, 224 x 224: from 1).
VALUES_AT_ONCE = 2**15

Details = dict[str, dict[str, Any]]
Shapes = list[tuple[int, ...]]


class LiteRT:
    """One interpreter with buffers of its own, for one thread at a time; `threads` is how many it runs on.

    It takes any number of rows; another number than the last one's costs 10 to 150 microseconds.
    """

    thread_safe = False
    replicas = 1

    def __init__(self, path: Path, threads: int = 1, signature: str = SIGNATURE) -> None:
        self._path, self._threads, self._signature = path, threads, signature
        self._begin()

    def _begin(self) -> None:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(self._path), num_threads=self._threads)
        inputs, outputs = _details(self._path, interpreter, self._signature)
        self._inputs = [(name, each["index"]) for name, each in inputs.items()]
        self._outputs = [(name, each["index"]) for name, each in outputs.items()]
        # Looked up once: at two microseconds a run it shows.
        self._set, self._invoke, self._get = interpreter.set_tensor, interpreter.invoke, interpreter.get_tensor
        self._interpreter: Any = interpreter
        self._shapes: Shapes | None = None
        self._most_rows = 0
        self._packed = False

    def run(self, encoded: Encoded) -> Outputs:
        if encoded.rows > 1 and values(encoded) > VALUES_AT_ONCE:
            return in_parts(self.run, encoded, VALUES_AT_ONCE)
        named = encoded.named()
        try:
            shapes = [named[name].shape for name, _ in self._inputs]
            if shapes != self._shapes:
                self._resize(shapes)
            for name, index in self._inputs:
                self._set(index, named[name])
            self._invoke()
        except (KeyError, RuntimeError, ValueError) as error:
            raise RunFailed(f"{self._path.name}: {error}") from error
        if not self._packed:
            self._forget_file()
        return {name: self._get(index) for name, index in self._outputs}

    def shrink(self) -> None:
        """Begin anew where several rows have run together: an interpreter keeps the memory of its largest run."""
        if self._most_rows > 1:
            self._begin()

    def close(self) -> None:
        self._interpreter = self._set = self._invoke = self._get = self._shapes = None
        memory.give_back()

    def _resize(self, shapes: Shapes) -> None:
        if self._interpreter is None:
            raise RunFailed(f"{self._path.name}: is closed")
        self._shapes = None  # until the new size stands
        for (_, index), shape in zip(self._inputs, shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes
        self._most_rows = max([self._most_rows, *(shape[0] for shape in shapes if shape)])

    def _forget_file(self) -> None:
        """The first run has packed the weights as the kernels want them: the file's own are not read again."""
        self._packed = True
        memory.forget(self._path)


def _details(path: Path, interpreter: Any, signature: str) -> tuple[Details, Details]:  # noqa: ANN401  # has no types
    """Inputs and outputs by name, in the signature's order. Raises RuntimeUnavailable."""
    found = interpreter.get_signature_list()
    if signature not in found:
        raise RuntimeUnavailable(f"{path} has no signature {signature!r}; it has: {', '.join(found) or 'none'}")
    runner = interpreter.get_signature_runner(signature)
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    names = found[signature]
    return {name: inputs[name] for name in names["inputs"]}, {name: outputs[name] for name in names["outputs"]}
