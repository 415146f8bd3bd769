"""Share of exactly right greedy captions on held-out scenes, with Hugging Face's own processor and generate().

    python evaluate.py turbine-starter --count 2000
"""
import argparse
import collections
import time

import torch
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

from scene_stream import SceneStream


def generate(model, processor, records):
    images = [Image.fromarray(pixels) for pixels in records["pixels"]]
    pixel_values = processor(images=images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        ids = model.generate(pixel_values=pixel_values, num_beams=1, do_sample=False)
    return processor.batch_decode(ids, skip_special_tokens=True)


def wrong_words(wanted, got):
    """The pairs of words that differ; one pair of None when the captions are not of equal length."""
    wanted, got = wanted.split(), got.split()
    if len(wanted) != len(got):
        return [(None, None)]
    return [pair for pair in zip(wanted, got) if pair[0] != pair[1]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--node", default="node", help="the node program that draws the scenes")
    options = parser.parse_args()
    processor = BlipProcessor.from_pretrained(options.folder, use_fast=False)
    model = BlipForConditionalGeneration.from_pretrained(options.folder).float().eval()
    seen, failed, confusions = collections.Counter(), collections.Counter(), collections.Counter()
    start = time.monotonic()
    with SceneStream(options.seed, "held-out", options.node) as stream:
        for done in range(0, options.count, 50):
            records = stream.read(min(50, options.count - done))
            for record, got in zip(records, generate(model, processor, records)):
                objects = int((record["objects"][:, 0] != 255).sum())
                wanted = record["caption"].decode()
                seen[objects] += 1
                if got != wanted:
                    failed[objects] += 1
                    confusions.update(wrong_words(wanted, got))
    right = seen.total() - failed.total()
    print(f"exact {right} of {seen.total()} = {right / seen.total():.4f} in {time.monotonic() - start:.0f} s")
    for objects in sorted(seen):
        print(f"  {objects} objects: {seen[objects] - failed[objects]} of {seen[objects]}")
    print("  wanted and got:", confusions.most_common(12))


if __name__ == "__main__":
    main()
