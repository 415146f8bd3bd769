"""Converts a BLIP folder for a peer, once: python convert.py {onnx|openvino|openvino-int8} FOLDER OUT PICTURES"""

import sys
from pathlib import Path

import blip_steps as steps
import numpy
import torch

PARTS = ("encoder", "image", "step")


def parts_of(model):
    return dict(zip(PARTS, zip((steps.Encoder(model), steps.Image(model), steps.Step(model)), steps.examples(model))))


def to_onnx(model, out):
    image, past, present = steps.names(model)
    ports = {
        "encoder": (["pixels"], ["tokens"]),
        "image": (["tokens"], image),
        "step": (["ids", *image, *past], ["logits", *present]),
    }
    for name, (module, example) in parts_of(model).items():
        reads, writes = ports[name]
        axes = {each: {0: "batch"} for each in reads + writes}
        axes |= {each: {0: "batch", 2: each.split(".")[0]} for each in past + present if each in axes}
        torch.onnx.export(
            module,
            example,
            out / f"{name}.onnx",
            input_names=reads,
            output_names=writes,
            dynamic_axes=axes,
            opset_version=18,
            dynamo=False,
        )


def to_openvino(model, out):
    import openvino

    for name, (module, example) in parts_of(model).items():
        given = example if name == "step" else example[0]
        converted = openvino.convert_model(module, example_input=given)
        shapes = [(-1, *each.shape[1:]) for each in example]
        past = len(example) - len(steps.names(model)[1])
        if name == "step":
            shapes = [shape if at < past else (-1, shape[1], -1, shape[3]) for at, shape in enumerate(shapes)]
        converted.reshape(dict(zip(converted.inputs, [openvino.PartialShape(shape) for shape in shapes])))
        openvino.save_model(converted, out / f"{name}.xml", compress_to_fp16=False)


def to_int8(model, out, pictures):
    """Weights and activations in 8 bits, by NNCF's quantisation after training, calibrated on the pictures."""
    import nncf
    import openvino

    core = openvino.Core()
    plain = out.parent / "openvino"
    run = {name: core.compile_model(plain / f"{name}.xml", "CPU") for name in PARTS}
    side = model.config.vision_config.image_size
    raw = numpy.fromfile(pictures, "uint8").reshape(-1, side, side, 3)[:4]
    from pixels import normalised

    feeds = {name: [] for name in PARTS}
    for picture in raw:
        pixels = normalised(picture[None])
        tokens = run["encoder"](pixels)[0]
        image = list(run["image"](tokens).values())
        heads, width = image[0].shape[1], image[0].shape[3]
        past = [numpy.zeros((1, heads, 0, width), "float32") for _ in image]
        ids = numpy.array([[model.config.text_config.bos_token_id]])
        feeds["encoder"].append(pixels)
        feeds["image"].append(tokens)
        for _ in range(3):
            feeds["step"].append([ids, *image, *past])
            logits, *past = run["step"]([ids, *image, *past]).values()
            ids = logits.argmax(-1).reshape(1, 1)
    for name in PARTS:
        quantised = nncf.quantize(
            core.read_model(plain / f"{name}.xml"),
            nncf.Dataset(feeds[name]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(feeds[name]),
        )
        openvino.save_model(quantised, out / f"{name}.xml", compress_to_fp16=False)


if __name__ == "__main__":
    kind, folder, target, pictures = sys.argv[1:]
    out = Path(target)
    out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        model = steps.load(folder)
        if kind == "onnx":
            to_onnx(model, out)
        elif kind == "openvino":
            to_openvino(model, out)
        else:
            to_int8(model, out, pictures)
    # Whoever finds it knows that all files are whole.
    (out / "done").touch()
