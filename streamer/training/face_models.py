"""Converts MediaPipe's face networks from TensorFlow Lite to ONNX, which all engines here can read.

    wheel of mediapipe ─▶ .tflite ─▶ operators, one by one ─▶ streamer/weights/mediapipe/*.onnx

    pip download --no-deps mediapipe==0.10.14
    python -m streamer.training.face_models mediapipe-0.10.14-*.whl

Needs the packages `onnx` and `tflite` (extra `[train]`), and only the five model files of the wheel, which are the same
on all platforms. The converter knows the operators of these files and rejects others.

TensorFlow Lite keeps channels last, ONNX first. Four-dimensional tensors are transposed on input; inputs and outputs
keep MediaPipe's documented layout, and the batch size becomes dynamic.
"""

import argparse
import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamer.base import resources

WEIGHTS = resources.WEIGHTS / "mediapipe"

PACKAGE = "mediapipe 0.10.14"

_OPSET = 17  # HardSwish needs 14; both engines read all up to it

_LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class Source:
    """A model file in the wheel: its path, its hash, and the names of its tensors here."""

    member: str
    sha256: str
    outputs: tuple[str, ...]


SOURCES = {
    "face_detection_short_range": Source(
        "mediapipe/modules/face_detection/face_detection_short_range.tflite",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
        ("boxes", "scores"),
    ),
    "face_detection_full_range": Source(
        "mediapipe/modules/face_detection/face_detection_full_range_sparse.tflite",
        "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
        ("boxes", "scores"),
    ),
    "face_mesh": Source(
        "mediapipe/modules/face_landmark/face_landmark.tflite",
        "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
        ("points", "score"),
    ),
    "iris": Source(
        "mediapipe/modules/iris_landmark/iris_landmark.tflite",
        "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
        ("eye", "iris"),
    ),
    "selfie_segmentation": Source(
        "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
        "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
        ("person",),
    ),
}
"""Name of the file in `WEIGHTS`, without its suffix, to its source."""


class Unknown(ValueError):
    """A file contains something that this converter does not know; the message says what."""


# Constants --------------------------------------------------------------------------------------------------------


def _densified(values: np.ndarray, sparsity: Any, shape: list[int]) -> np.ndarray:
    """Expands the values [V] of a sparse tensor to its full shape: each dimension is dense or lists its indices."""
    import tflite

    rank = len(shape)
    if sparsity.BlockMapLength() or [sparsity.TraversalOrder(i) for i in range(rank)] != list(range(rank)):
        raise Unknown("a sparse tensor is stored in blocks or not in row-major order")
    kinds = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}

    def numbers(table: Any, kind: int) -> np.ndarray:
        vector = kinds[kind]()
        vector.Init(table.Bytes, table.Pos)
        return np.asarray([vector.Values(i) for i in range(vector.ValuesLength())], np.int64)

    places = np.zeros((1, 0), np.int64)  # [rows so far, dimensions so far]
    for dimension in range(rank):
        metadata = sparsity.DimMetadata(dimension)
        if metadata.Format() == tflite.DimensionType.DENSE:
            counts = np.full(len(places), metadata.DenseSize())
            indices = np.tile(np.arange(metadata.DenseSize()), len(places))
        else:
            counts = np.diff(numbers(metadata.ArraySegments(), metadata.ArraySegmentsType()))
            indices = numbers(metadata.ArrayIndices(), metadata.ArrayIndicesType())
        places = np.column_stack([np.repeat(places, counts, axis=0), indices])
    dense = np.zeros(shape, values.dtype)
    dense[tuple(places.T)] = values[: len(places)]
    return dense


def _stored(tensor: Any, model: Any) -> np.ndarray | None:
    """A tensor's constant value, or None if it has none."""
    import tflite

    kinds = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.FLOAT16: np.float16,
             tflite.TensorType.INT32: np.int32}  # fmt: skip
    buffer = model.Buffers(tensor.Buffer())
    if not buffer.DataLength():
        return None
    values = np.frombuffer(buffer.DataAsNumpy().tobytes(), kinds[tensor.Type()])
    shape = [int(v) for v in tensor.ShapeAsNumpy()] if tensor.ShapeLength() else []
    if tensor.Sparsity() is not None:
        return _densified(values, tensor.Sparsity(), shape)
    return values.reshape(shape)


# Operators --------------------------------------------------------------------------------------------------------


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding before and after: an odd pixel goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class _Converter:
    """Converts one graph, from the first operator to the last."""

    def __init__(self, content: bytes, outputs: tuple[str, ...]) -> None:
        import tflite

        self._model = tflite.Model.GetRootAsModel(content, 0)
        self._graph = self._model.Subgraphs(0)
        self._codes = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
        self._constants: dict[int, np.ndarray] = {}
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._outputs = outputs

    def shape(self, index: int) -> list[int]:
        tensor = self._graph.Tensors(index)
        return [int(v) for v in tensor.ShapeAsNumpy()] if tensor.ShapeLength() else []

    def constant(self, index: int) -> np.ndarray:
        if index in self._constants:
            return self._constants[index]
        values = _stored(self._graph.Tensors(index), self._model)
        if values is None:
            raise Unknown(f"tensor {index} should be constant but is computed")
        return values

    def is_constant(self, index: int) -> bool:
        return index in self._constants or _stored(self._graph.Tensors(index), self._model) is not None

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weights(self, name: str, values: np.ndarray) -> str:
        """Stored in half precision if the loss is negligible; computed in single precision."""
        from onnx import TensorProto, numpy_helper

        half = values.astype(np.float16)
        if not np.isfinite(half).all():
            raise Unknown(f"{name} has values up to {np.abs(values).max():.3g}, beyond the range of half precision")
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(half), f"{name}.half"))
        return self.add("Cast", [f"{name}.half"], name, to=TensorProto.FLOAT)

    def integers(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        self._initializers.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
        return name

    def plain(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        self._initializers.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def convert(self) -> Any:
        """The whole model."""
        import onnx
        from onnx import TensorProto, helper

        taken = int(self._graph.Inputs(0))
        given = [int(self._graph.Outputs(i)) for i in range(self._graph.OutputsLength())]
        self.add("Transpose", ["picture"], f"t{taken}", perm=[0, 3, 1, 2])
        for i in range(self._graph.OperatorsLength()):
            self._operator(self._graph.Operators(i))
        declared = []
        for name, index in zip(self._outputs, given, strict=True):
            shape = self.shape(index)
            if len(shape) == 4:
                self.add("Transpose", [f"t{index}"], f"{name}.last", perm=[0, 2, 3, 1])
                # A 1×1 picture is a vector.
                if shape[1:3] == [1, 1]:
                    shape = [shape[0], shape[3]]
                    self.add("Reshape", [f"{name}.last", self.integers(f"{name}.shape", [-1, shape[1]])], name)
                else:
                    self.add("Identity", [f"{name}.last"], name)
            else:
                self.add("Identity", [f"t{index}"], name)
            declared.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape[1:]]))
        picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", *self.shape(taken)[1:]])
        graph = helper.make_graph(self._nodes, "face", [picture], declared, self._initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="lipstream")
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        return model

    def _operator(self, operator: Any) -> None:
        code = self._model.OperatorCodes(operator.OpcodeIndex())
        name = self._codes[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        if name == "CUSTOM":
            name = code.CustomCode().decode()
        known: dict[str, Callable[[Any, list[int], int], None]] = {
            "DEQUANTIZE": self._folded, "DENSIFY": self._folded, "CONV_2D": self._convolution,
            "DEPTHWISE_CONV_2D": self._convolution, "Convolution2DTransposeBias": self._transposed,
            "PRELU": self._prelu, "PAD": self._pad, "MAX_POOL_2D": self._pool, "AVERAGE_POOL_2D": self._pool,
            "RESIZE_BILINEAR": self._resize, "RESHAPE": self._reshape, "CONCATENATION": self._concatenation,
            "DEPTH_TO_SPACE": self._depth_to_space, "ADD": self._both, "MUL": self._both, "RELU": self._alone,
            "HARD_SWISH": self._alone, "LOGISTIC": self._alone,
        }  # fmt: skip
        if name not in known:
            raise Unknown(f"unknown operator {name}: known are {', '.join(sorted(known))}")
        self._kind = name
        inputs = [int(operator.Inputs(i)) for i in range(operator.InputsLength())]
        known[name](operator, inputs, int(operator.Outputs(0)))

    def _options(self, operator: Any, kind: type) -> Any:
        options = kind()
        table = operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        return options

    def _activated(self, activation: int, output: int) -> tuple[str, Callable[[], None]]:
        """The name of the operator's own output, and a function that adds the activation after it."""
        import tflite

        kinds = tflite.ActivationFunctionType
        if activation == kinds.NONE:
            return f"t{output}", lambda: None
        if activation == kinds.RELU:

            def rectify() -> None:
                self.add("Relu", [f"t{output}.raw"], f"t{output}")

            return f"t{output}.raw", rectify
        raise Unknown(f"unknown activation {activation} of {self._kind}")

    def _folded(self, operator: Any, inputs: list[int], output: int) -> None:
        self._constants[output] = self.constant(inputs[0])

    def _pads(self, same: bool, size: list[int], kernel: list[int], stride: list[int]) -> list[int]:
        (top, bottom), (left, right) = (
            _same(*one) if same else (0, 0) for one in zip(size, kernel, stride, strict=True)
        )
        return [top, left, bottom, right]

    def _convolution(self, operator: Any, inputs: list[int], output: int) -> None:
        import tflite

        deep = self._kind == "DEPTHWISE_CONV_2D"
        options = self._options(operator, tflite.DepthwiseConv2DOptions if deep else tflite.Conv2DOptions)
        if (options.DilationWFactor(), options.DilationHFactor()) != (1, 1):
            raise Unknown("a convolution is dilated")
        values = self.constant(inputs[1])  # [outputs, h, w, inputs]; depthwise [1, h, w, outputs]
        values = values.transpose(3, 0, 1, 2) if deep else values.transpose(0, 3, 1, 2)
        kernel, stride = list(values.shape[2:]), [options.StrideH(), options.StrideW()]
        size = self.shape(inputs[0])
        raw, then = self._activated(options.FusedActivationFunction(), output)
        names = [f"t{inputs[0]}", self.weights(f"w{output}", values)]
        if len(inputs) > 2 and inputs[2] >= 0:
            names.append(self.weights(f"b{output}", self.constant(inputs[2])))
        pads = self._pads(options.Padding() == tflite.Padding.SAME, size[1:3], kernel, stride)
        group = size[3] if deep else 1
        self.add("Conv", names, raw, kernel_shape=kernel, strides=stride, pads=pads, group=group)
        then()

    def _transposed(self, operator: Any, inputs: list[int], output: int) -> None:
        """MediaPipe's custom operator: a transposed convolution with a bias; its options are three integers."""
        same, width, height = np.frombuffer(operator.CustomOptionsAsNumpy().tobytes(), np.int32)
        values = self.constant(inputs[1]).transpose(3, 0, 1, 2)  # [outputs, h, w, inputs] -> [inputs, outputs, h, w]
        if not same or list(values.shape[2:]) != [height, width]:
            raise Unknown("a transposed convolution overlaps itself")
        names = [f"t{inputs[0]}", self.weights(f"w{output}", values),
                 self.weights(f"b{output}", self.constant(inputs[2]))]  # fmt: skip
        stride = [int(height), int(width)]
        self.add("ConvTranspose", names, f"t{output}", kernel_shape=stride, strides=stride)

    def _prelu(self, operator: Any, inputs: list[int], output: int) -> None:
        slope = self.constant(inputs[1]).reshape(-1, 1, 1)
        self.add("PRelu", [f"t{inputs[0]}", self.weights(f"w{output}", slope)], f"t{output}")

    def _pad(self, operator: Any, inputs: list[int], output: int) -> None:
        pads = self.constant(inputs[1])[[0, 3, 1, 2]].T.ravel()
        self.add("Pad", [f"t{inputs[0]}", self.integers(f"p{output}", pads)], f"t{output}")

    def _pool(self, operator: Any, inputs: list[int], output: int) -> None:
        import tflite

        options = self._options(operator, tflite.Pool2DOptions)
        kernel, stride = [options.FilterHeight(), options.FilterWidth()], [options.StrideH(), options.StrideW()]
        pads = self._pads(options.Padding() == tflite.Padding.SAME, self.shape(inputs[0])[1:3], kernel, stride)
        raw, then = self._activated(options.FusedActivationFunction(), output)
        kind = "MaxPool" if self._kind == "MAX_POOL_2D" else "AveragePool"
        self.add(kind, [f"t{inputs[0]}"], raw, kernel_shape=kernel, strides=stride, pads=pads)
        then()

    def _resize(self, operator: Any, inputs: list[int], output: int) -> None:
        import tflite

        options = self._options(operator, tflite.ResizeBilinearOptions)
        mode = ("align_corners" if options.AlignCorners() else "half_pixel" if options.HalfPixelCenters()
                else "asymmetric")  # fmt: skip
        before, after = self.shape(inputs[0])[1:3], self.shape(output)[1:3]
        scales = [1, 1, *(b / a for a, b in zip(before, after, strict=True))]
        names = [f"t{inputs[0]}", "", self.plain(f"s{output}", scales)]
        self.add("Resize", names, f"t{output}", mode="linear", coordinate_transformation_mode=mode)

    def _reshape(self, operator: Any, inputs: list[int], output: int) -> None:
        """Reshape to a list of positions with their values, in channels-last order."""
        name = f"t{inputs[0]}"
        if len(self.shape(inputs[0])) == 4:
            name = self.add("Transpose", [name], f"t{output}.last", perm=[0, 2, 3, 1])
        if len(self.shape(output)) == 4:
            raise Unknown("a tensor is reshaped to a picture")
        self.add("Reshape", [name, self.integers(f"p{output}", [-1, *self.shape(output)[1:]])], f"t{output}")

    def _concatenation(self, operator: Any, inputs: list[int], output: int) -> None:
        import tflite

        axis = self._options(operator, tflite.ConcatenationOptions).Axis()
        if len(self.shape(output)) == 4:
            axis = {0: 0, 3: 1, 1: 2, 2: 3}[axis % 4]
        self.add("Concat", [f"t{i}" for i in inputs], f"t{output}", axis=axis)

    def _depth_to_space(self, operator: Any, inputs: list[int], output: int) -> None:
        import tflite

        size = self._options(operator, tflite.DepthToSpaceOptions).BlockSize()
        self.add("DepthToSpace", [f"t{inputs[0]}"], f"t{output}", blocksize=size, mode="DCR")

    def _both(self, operator: Any, inputs: list[int], output: int) -> None:
        import tflite

        kind, options = ("Add", tflite.AddOptions) if self._kind == "ADD" else ("Mul", tflite.MulOptions)
        raw, then = self._activated(self._options(operator, options).FusedActivationFunction(), output)
        names = []
        for index in inputs:
            if self.is_constant(index):
                values = self.constant(index)
                values = values.reshape(-1, 1, 1) if values.ndim else values
                names.append(self.weights(f"w{output}", values))
            else:
                names.append(f"t{index}")
        self.add(kind, names, raw)
        then()

    def _alone(self, operator: Any, inputs: list[int], output: int) -> None:
        kind = {"RELU": "Relu", "HARD_SWISH": "HardSwish", "LOGISTIC": "Sigmoid"}[self._kind]
        self.add(kind, [f"t{inputs[0]}"], f"t{output}")


# Files ------------------------------------------------------------------------------------------------------------


def convert(wheel: Path, folder: Path) -> list[Path]:
    """Writes the five networks of `SOURCES`. Raises ValueError if the wheel's files differ from those expected."""
    from onnx import helper

    written = []
    with zipfile.ZipFile(wheel) as archive:
        for name, source in SOURCES.items():
            content = archive.read(source.member)
            digest = hashlib.sha256(content).hexdigest()
            if digest != source.sha256:
                raise ValueError(f"{source.member} in {wheel.name} has the hash {digest}, not {source.sha256}")
            model = _Converter(content, source.outputs).convert()
            helper.set_model_props(
                model, {"source": f"{PACKAGE}, {source.member}", "sha256": digest, "licence": _LICENCE}
            )
            path = folder / f"{name}.onnx"
            path.write_bytes(model.SerializeToString())
            written.append(path)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help=f"the wheel of {PACKAGE}, for any platform")
    parser.add_argument("--folder", type=Path, default=WEIGHTS, help="where to write (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for path in convert(arguments.wheel, arguments.folder):
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
