"""Writes the model folder in the Hugging Face layout, float16, from a training run.

    python export.py run/average-01234.pt [more averages] --out turbine-starter

Of several averages the mean of the weights is taken.
"""
import argparse
import pathlib

import torch

import blip
from network import Network
from scene_stream import SceneStream


def mean_weights(paths):
    states = [torch.load(path, map_location="cpu") for path in paths]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("averages", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--node", default="node", help="the node program that draws the scenes")
    options = parser.parse_args()
    with SceneStream(1, "training", options.node) as stream:
        header = stream.header
    model = blip.new_model(header["words"], header["side"], header["patch"])
    network = Network(model, header)
    network.load_state_dict({**network.state_dict(), **mean_weights(options.averages)})
    blip.save(model, header["words"], options.out)


if __name__ == "__main__":
    main()
