"""A captioner of the Python world as a process: loads once, then answers one JSON line for each that it reads.

python peer.py '{"engine": "torch", "folder": ..., "pictures": ..., "threads": 2, "ids": 20, ...}'

Request {"batch": 8} captions the first pictures; "part": "encoder" runs the encoder alone; "photos": FOLDER captions files.
"""

import importlib.metadata
import json
import os
import resource
import sys
import time

given = json.loads(sys.argv[1])
os.environ["OMP_NUM_THREADS"] = str(given["threads"])
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
# Answers go to the real output; whatever else a library prints goes to the errors.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import numpy  # noqa: E402
from pixels import MEAN, STD, normalised  # noqa: E402

config = json.load(open(os.path.join(given["folder"], "config.json")))
SIDE = config["vision_config"]["image_size"]
START = config["text_config"]["bos_token_id"]
COUNT = given["ids"]


def open_torch():
    import blip_steps
    import torch
    import transformers

    device = given.get("device", "cpu")
    dtype = getattr(torch, given["precision"])
    torch.set_num_threads(given["threads"])
    attention = "sdpa"
    try:
        model = blip_steps.load(given["folder"], dtype=dtype, attn_implementation=attention)
    except ValueError:
        attention = "eager"
        model = blip_steps.load(given["folder"], dtype=dtype, attn_implementation=attention)
    model = model.to(device)
    if given.get("compile"):
        model.vision_model = torch.compile(model.vision_model)
        model.text_decoder.forward = torch.compile(model.text_decoder.forward, dynamic=True)
    scale = torch.tensor(255 * STD, device=device)
    shift = torch.tensor(MEAN / STD, device=device)

    def prepare(pictures):
        # Bytes go to the device, and are normalised there.
        values = torch.from_numpy(pictures).to(device).float() / scale - shift
        return values.permute(0, 3, 1, 2).contiguous().to(dtype)

    def caption(pixels):
        with torch.inference_mode():
            made = model.generate(pixels, max_new_tokens=COUNT, min_new_tokens=COUNT, do_sample=False, num_beams=1)
            return made[:, -COUNT:].tolist()

    def encode(pixels):
        with torch.inference_mode():
            model.vision_model(pixel_values=pixels).last_hidden_state[0, 0, 0].item()

    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "attention": attention}
    return prepare, caption, encode, versions


def open_openvino():
    import openvino
    from openvino import Type
    from openvino.preprocess import PrePostProcessor

    core = openvino.Core()
    half = given["precision"] == "bfloat16"
    settings = {
        "INFERENCE_NUM_THREADS": given["threads"],
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
    }

    def compile(name):
        model = core.read_model(os.path.join(given["converted"], f"{name}.xml"))
        if half:
            # Keys and values stay in the type that they are computed in: nothing is converted between runs.
            border = PrePostProcessor(model)
            for at, port in enumerate(model.inputs):
                if port.element_type == Type.f32 and name != "encoder":
                    border.input(at).tensor().set_element_type(Type.bf16)
            for at in range(len(model.outputs)):
                if not (name == "step" and at == 0):
                    border.output(at).tensor().set_element_type(Type.bf16)
            model = border.build()
        return core.compile_model(model, "CPU", settings)

    encoder, image, step = (compile(name) for name in ("encoder", "image", "step"))
    encode_request, image_request = encoder.create_infer_request(), image.create_infer_request()
    # Two in turn: what one gives is what the other reads, without a copy.
    steps = [step.create_infer_request() for _ in range(2)]
    layers = len(image.outputs)
    heads, width = image.outputs[0].partial_shape[1].get_length(), image.outputs[0].partial_shape[3].get_length()

    def encode(pixels):
        encode_request.set_input_tensor(0, openvino.Tensor(pixels))
        encode_request.infer()
        return encode_request.get_output_tensor(0)

    def caption(pixels):
        batch = len(pixels)
        image_request.set_input_tensor(0, encode(pixels))
        image_request.infer()
        seen = [image_request.get_output_tensor(at) for at in range(layers)]
        element = Type.bf16 if half else Type.f32
        past = [openvino.Tensor(element, openvino.Shape([batch, heads, 0, width])) for _ in range(layers)]
        ids = numpy.full((batch, 1), START, "int64")
        made = []
        for at in range(COUNT):
            request = steps[at % 2]
            for port, tensor in enumerate([openvino.Tensor(ids), *seen, *past]):
                request.set_input_tensor(port, tensor)
            request.infer()
            ids = request.get_output_tensor(0).data.argmax(-1).reshape(-1, 1).astype("int64")
            past = [request.get_output_tensor(1 + port) for port in range(layers)]
            made.append(ids)
        return numpy.concatenate(made, 1).tolist()

    versions = {"openvino": openvino.__version__.split("-")[0]}
    if given["precision"] == "int8":
        versions["nncf"] = importlib.metadata.version("nncf")
    return normalised, caption, encode, versions


def open_onnxruntime():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = given["threads"]

    def session(name):
        path = os.path.join(given["converted"], f"{name}.onnx")
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    encoder, image, step = (session(name) for name in ("encoder", "image", "step"))
    reads = [each.name for each in step.get_inputs()]
    shape = step.get_inputs()[-1].shape

    def encode(pixels):
        return encoder.run(None, {"pixels": pixels})[0]

    def caption(pixels):
        batch = len(pixels)
        seen = image.run(None, {"tokens": encode(pixels)})
        past = [numpy.zeros((batch, shape[1], 0, shape[3]), "float32") for _ in seen]
        ids = numpy.full((batch, 1), START, "int64")
        made = []
        for _ in range(COUNT):
            logits, *past = step.run(None, dict(zip(reads, [ids, *seen, *past])))
            ids = logits.argmax(-1).reshape(-1, 1)
            made.append(ids)
        return numpy.concatenate(made, 1).tolist()

    return normalised, caption, encode, {"onnxruntime": onnxruntime.__version__}


def photos_of(folder, batch):
    """Files of a folder, decoded and resized by a thread for each core, a few batches ahead."""
    from collections import deque
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image

    def read(path):
        picture = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return numpy.asarray(picture)[None]

    paths = sorted(entry.path for entry in os.scandir(folder) if entry.is_file())
    with ThreadPoolExecutor(given["threads"]) as pool:
        waiting, at = deque(), 0
        while at < len(paths) or waiting:
            while at < len(paths) and len(waiting) < 4 * batch:
                waiting.append(pool.submit(read, paths[at]))
                at += 1
            yield numpy.concatenate([waiting.popleft().result() for _ in range(min(batch, len(waiting)))])


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def answer(fields):
    answers.write(json.dumps(fields) + "\n")
    answers.flush()


prepare, caption, encode, versions = {"torch": open_torch, "openvino": open_openvino, "onnxruntime": open_onnxruntime}[given["engine"]]()
pictures = prepare(numpy.fromfile(given["pictures"], "uint8").reshape(-1, SIDE, SIDE, 3))
answer({"versions": {"python": sys.version.split()[0], **versions}})

for line in sys.stdin:
    request = json.loads(line)
    begin, cpu = time.perf_counter(), time.process_time()
    ids = []
    if "photos" in request:
        for batch in photos_of(request["photos"], request["batch"]):
            ids += caption(prepare(batch))
    elif request.get("part") == "encoder":
        encode(pictures[: request["batch"]])
    else:
        ids = caption(pictures[: request["batch"]])
    spent = {"ms": 1000 * (time.perf_counter() - begin), "cpu_ms": 1000 * (time.process_time() - cpu)}
    answer({**spent, "peak_rss_mb": peak_mb(), "ids": ids})
