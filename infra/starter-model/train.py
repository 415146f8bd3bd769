"""Trains the starter model from scratch on drawn scenes, on the CPU, within a budget of wall time.

    OMP_WAIT_POLICY=PASSIVE python train.py --out run --minutes 80

Writes run/checkpoint.pt every few minutes (the same command resumes from it), run/average-*.pt (averaged weights of
the last third, for export.py) and run/log.txt.
"""
import argparse
import math
import pathlib
import time

import numpy as np
import torch
from torch import nn

import blip
from network import IGNORE, Network, cross_entropy, exact, initialise
from scene_stream import SceneStream

BATCH = 32
LEARNING_RATE = 1e-3
WARM_UP_STEPS = 200
FIRST_PHASE = 0.55
KEPT_PATCHES = 80
PATCH_WEIGHT, GLOBAL_WEIGHT, EARLY_WEIGHT = 0.5, 0.2, 0.1
EVALUATION_SEED = 900
EVALUATION_SCENES = 192


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--checkpoint-minutes", type=float, default=5)
    parser.add_argument("--node", default="node", help="the node program that draws the scenes")
    return parser.parse_args()


class Batch:
    """One batch of the stream as tensors."""

    def __init__(self, records, token_ids):
        captions = [record.decode().split() for record in records["caption"]]
        rows = [[token_ids["[DEC]"], *(token_ids[word] for word in words), token_ids["[SEP]"]] for words in captions]
        longest = max(map(len, rows))
        self.ids = torch.tensor([row + [token_ids["[PAD]"]] * (longest - len(row)) for row in rows])
        self.pixels = torch.from_numpy(records["pixels"].copy())
        self.labels = torch.from_numpy(records["labels"].astype(np.int64))
        self.surroundings = torch.from_numpy(records["surroundings"].astype(np.int64))
        objects = torch.from_numpy(records["objects"].astype(np.int64))
        self.attributes = nn.functional.pad(objects.masked_fill(objects == 255, IGNORE), (0, 0, 1, 0), value=IGNORE)


def kept_patches(labels, count):
    """Indexes of `count` patches of each picture: those of the objects first, then background at random."""
    order = torch.rand(labels.shape) + (labels > 0)
    return order.topk(count, 1).indices.sort(1).values


def losses(network, encode, batch, kept):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x, early = encode(network.embed(batch.pixels, kept))
        logits, targets = network.caption_logits(x, batch.ids)
        labels = batch.labels if kept is None else batch.labels.gather(1, kept)
        patches = network.patch_loss(x, labels, batch.attributes)
        whole = network.global_loss(network.global_head(x[:, 0]), batch.surroundings, batch.attributes)
        middle = sum(
            network.global_loss(head(cls), batch.surroundings, batch.attributes)
            for head, cls in zip(network.early_heads, early)
        )
    caption = cross_entropy(logits, targets)
    total = caption + PATCH_WEIGHT * patches + GLOBAL_WEIGHT * whole + EARLY_WEIGHT * middle
    parts = dict(caption=caption, exact=exact(logits, targets).float().mean(), patches=patches, whole=whole, middle=middle)
    return total, {name: value.item() for name, value in parts.items()}


@torch.no_grad()
def exact_share(network, batches):
    """Share of scenes whose greedy caption is right, with all patches."""
    right = []
    for batch in batches:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x, _ = network.encode(network.embed(batch.pixels))
            right.append(exact(*network.caption_logits(x, batch.ids)))
    return torch.cat(right).float().mean().item()


def optimizer_for(network):
    matrices, others = [], []
    for name, parameter in network.named_parameters():
        plain = parameter.ndim < 2 or "position" in name or "class" in name
        (others if plain else matrices).append(parameter)
    groups = [dict(params=matrices, weight_decay=0.05), dict(params=others, weight_decay=0.0)]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), fused=True)


def learning_rate(step, progress):
    """Warm-up, then one cosine over the whole budget of time."""
    return LEARNING_RATE * min(1, (step + 1) / WARM_UP_STEPS) * (0.02 + 0.49 * (1 + math.cos(math.pi * progress)))


def averaging(step, progress):
    """Decay of the moving average of the weights: short at first, longest in the last third."""
    return min(0.998 if progress < 2 / 3 else 0.999, (step + 1) / (step + 10))


class Training:
    def __init__(self, options):
        self.options = options
        self.step, self.images, self.elapsed = 0, 0, 0.0
        with SceneStream(EVALUATION_SEED, "held-out", options.node) as stream:
            self.header = stream.header
            self.token_ids = {token: i for i, token in enumerate(blip.vocabulary(self.header["words"]))}
            self.evaluation = [Batch(stream.read(64), self.token_ids) for _ in range(EVALUATION_SCENES // 64)]
        model = blip.new_model(self.header["words"], self.header["side"], self.header["patch"])
        initialise(model)
        self.network = Network(model, self.header)
        self.encode_few = torch.compile(self.network.encode)
        self.optimizer = optimizer_for(self.network)
        self.average = {k: v.detach().clone() for k, v in self.weights().items()}
        self.log_file = open(options.out / "log.txt", "a")
        if self.checkpoint_path.exists():
            self.restore()

    @property
    def checkpoint_path(self):
        return self.options.out / "checkpoint.pt"

    @property
    def progress(self):
        return min(1.0, self.elapsed / 60 / self.options.minutes)

    def weights(self):
        return {k: v for k, v in self.network.state_dict().items() if v.is_floating_point()}

    def log(self, text):
        line = f"{self.elapsed / 60:6.2f} min  step {self.step}  images {self.images}  {text}"
        print(line, flush=True)
        print(line, file=self.log_file, flush=True)

    def save(self):
        state = dict(
            network=self.network.state_dict(), average=self.average, optimizer=self.optimizer.state_dict(),
            step=self.step, images=self.images, elapsed=self.elapsed,
        )
        temporary = self.checkpoint_path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.checkpoint_path)
        if self.progress > 2 / 3:
            torch.save(self.average, self.options.out / f"average-{self.step:05d}.pt")

    def restore(self):
        state = torch.load(self.checkpoint_path, map_location="cpu")
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        self.step, self.images, self.elapsed = state["step"], state["images"], state["elapsed"]
        self.log("resuming from the checkpoint")

    def train_step(self, batch):
        first_phase = self.progress < FIRST_PHASE
        kept = kept_patches(batch.labels, KEPT_PATCHES) if first_phase else None
        encode = self.encode_few if first_phase else self.network.encode
        rate = learning_rate(self.step, self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total, parts = losses(self.network, encode, batch, kept)
        total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        weights = self.weights()
        with torch.no_grad():
            share = 1 - averaging(self.step, self.progress)
            torch._foreach_lerp_([self.average[k] for k in weights], list(weights.values()), share)
        self.step += 1
        self.images += len(batch.ids)
        return parts

    def evaluate(self):
        """Exact share of the averaged weights on held-out scenes."""
        current = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.network.load_state_dict({**current, **self.average})
        share = exact_share(self.network, self.evaluation)
        self.network.load_state_dict(current)
        return share

    def run(self):
        every = self.options.checkpoint_minutes * 60
        saved, logged, waited, history = self.elapsed, self.elapsed, 0.0, []
        with SceneStream(self.options.seed + self.step, "training", self.options.node) as stream:
            batches = stream.batches(BATCH)
            while self.progress < 1:
                start = time.monotonic()
                records = next(batches)
                waited += time.monotonic() - start
                history.append(self.train_step(Batch(records, self.token_ids)))
                self.elapsed += time.monotonic() - start
                if len(history) == 50:
                    mean = "  ".join(f"{name} {np.mean([h[name] for h in history]):.3f}" for name in history[0])
                    speed = 50 * BATCH / (self.elapsed - logged)
                    self.log(f"{mean}  {speed:.1f} images/s  waited {waited:.1f} s")
                    logged, waited, history = self.elapsed, 0.0, []
                if self.elapsed - saved > every:
                    start = time.monotonic()
                    self.save()
                    self.log(f"exact on held-out scenes {self.evaluate():.4f}")
                    self.elapsed += time.monotonic() - start
                    saved = self.elapsed
        self.save()
        self.log(f"finished; exact on held-out scenes {self.evaluate():.4f}")


def main():
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    Training(options).run()


if __name__ == "__main__":
    main()
