"""BLIP as it is trained: a plain, fast forward pass over the model's own weights, with auxiliary heads."""
import math

import torch
from torch import nn
from torch.nn import functional as F

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])
IGNORE = -100
# Layers (counted from 1) whose CLS token must describe the whole picture, too, so that its attention says early
# which patches matter.
CLS_LAYERS = (4, 8)


def initialise(blip):
    """Starting weights that let a small model learn fast at a high learning rate."""
    for name, module in blip.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=min(0.05, 0.7 / math.sqrt(module.in_features)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.1 if "position" in name else 0.5)
    embeddings = blip.vision_model.embeddings
    layers = blip.vision_model.encoder.layers
    weight = embeddings.patch_embedding.weight
    nn.init.normal_(weight, std=1 / math.sqrt(weight[0].numel()))
    nn.init.zeros_(embeddings.patch_embedding.bias)
    nn.init.normal_(embeddings.class_embedding, std=0.3)
    with torch.no_grad():
        grid = math.isqrt(embeddings.num_patches)
        embeddings.position_embedding[0, 0] = 0
        embeddings.position_embedding[0, 1:] = 0.5 * sine_positions(embeddings.embed_dim, grid)
        for layer in layers:
            layer.self_attn.projection.weight *= 1.5 / math.sqrt(2 * len(layers))
            layer.mlp.fc2.weight *= 1.5 / math.sqrt(2 * len(layers))


def sine_positions(width, grid):
    """Two-dimensional sine and cosine positions `[grid * grid, width]`, half for columns and half for rows."""
    frequency = 1 / 100 ** (torch.arange(width // 4) / (width // 4))
    waves = torch.outer(torch.arange(grid).float(), frequency)
    line = torch.cat([waves.sin(), waves.cos()], 1)
    columns = line[None].expand(grid, -1, -1)
    rows = line[:, None].expand(-1, grid, -1)
    return torch.cat([columns, rows], 2).reshape(grid * grid, width)


class Network(nn.Module):
    """BLIP with heads that are dropped after training.

    Every patch token says which mention covers it, and that object's kind, colour and size; the CLS token, after the
    last and after some earlier layers, says place, time, relation, and which kinds and colours are present.
    """

    def __init__(self, blip, lists):
        super().__init__()
        self.blip = blip
        width = blip.config.vision_config.hidden_size
        self.patch_sizes = [4, len(lists["kinds"]), len(lists["colors"]), len(lists["sizes"])]
        self.global_sizes = [len(lists[name]) for name in ("places", "times", "relations", "kinds", "colors")]
        self.patch_head = nn.Linear(width, sum(self.patch_sizes))
        self.global_head = nn.Linear(width, sum(self.global_sizes))
        early = [nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(self.global_sizes))) for _ in CLS_LAYERS]
        self.early_heads = nn.ModuleList(early)

    def embed(self, pixels, kept=None):
        """uint8 pixels `[B, S, S, 3]` and the indexes of the kept patches `[B, K]` -> `[B, 1 + K, D]`."""
        embeddings = self.blip.vision_model.embeddings
        batch, side, patch = len(pixels), pixels.shape[1], embeddings.patch_size
        grid = side // patch
        x = pixels.view(batch, grid, patch, grid, patch, 3).transpose(2, 3).reshape(batch, grid * grid, -1)
        positions = embeddings.position_embedding[0]
        patch_positions = positions[1:]
        if kept is not None:
            x = x.gather(1, kept[..., None].expand(-1, -1, x.shape[2]))
            patch_positions = patch_positions[kept]
        x = ((x.float().view(batch, -1, 3) / 255 - MEAN) / STD).view(batch, x.shape[1], -1)
        weight = embeddings.patch_embedding.weight.permute(0, 2, 3, 1).flatten(1)
        x = F.linear(x, weight, embeddings.patch_embedding.bias) + patch_positions
        cls = (embeddings.class_embedding[0] + positions[:1]).expand(batch, 1, -1)
        return torch.cat([cls.to(x.dtype), x], 1)

    def encode(self, x):
        """Hidden state after the last layer norm, and the CLS token after each of CLS_LAYERS."""
        early = []
        for index, layer in enumerate(self.blip.vision_model.encoder.layers, 1):
            attention = layer.self_attn
            batch, count, width = x.shape
            heads = attention.qkv(layer.layer_norm1(x)).view(batch, count, 3, attention.num_heads, -1)
            query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
            mixed = torch.softmax((query * attention.scale) @ key.transpose(-1, -2), -1) @ value
            x = x + attention.projection(mixed.transpose(1, 2).reshape(batch, count, width))
            x = x + layer.mlp.fc2(F.gelu(layer.mlp.fc1(layer.layer_norm2(x))))
            if index in CLS_LAYERS:
                early.append(x[:, 0])
        return self.blip.vision_model.post_layernorm(x), early

    def caption_logits(self, x, ids):
        """Next-token logits under teacher forcing `[B, T - 1, V]`, and the tokens they should name."""
        padding = self.blip.config.text_config.pad_token_id
        mask = (ids != padding).long()
        output = self.blip.text_decoder(input_ids=ids, attention_mask=mask, encoder_hidden_states=x)
        targets = ids[:, 1:]
        return output.logits[:, :-1].float(), targets.masked_fill(targets == padding, IGNORE)

    def patch_loss(self, x, labels, attributes):
        """attributes `[B, 4, 3]`: kind, colour, size of mention i in row i, IGNORE in row 0."""
        mention, kind, color, size = self.patch_head(x[:, 1:]).float().split(self.patch_sizes, -1)
        wanted = attributes.gather(1, labels[..., None].expand(-1, -1, 3))
        return (
            cross_entropy(mention, labels)
            + 2 * cross_entropy(kind, wanted[..., 0])
            + cross_entropy(color, wanted[..., 1])
            + cross_entropy(size, wanted[..., 2])
        )

    def global_loss(self, logits, surroundings, attributes):
        *named, kinds, colors = logits.float().split(self.global_sizes, -1)
        loss = sum(cross_entropy(scores, surroundings[:, i]) for i, scores in enumerate(named))
        for scores, column in ((kinds, 0), (colors, 1)):
            loss = loss + F.binary_cross_entropy_with_logits(scores, present(attributes[..., column], scores.shape[1]))
        return loss


def cross_entropy(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), ignore_index=IGNORE)


def present(values, count):
    """1 for each of `count` classes that is among the values of a row (IGNORE is none)."""
    spare = values.masked_fill(values == IGNORE, count)
    return torch.zeros(len(values), count + 1).scatter_(1, spare, 1.0)[:, :count]


def exact(logits, targets):
    """Per caption: whether every argmax is right, which is the case exactly when greedy decoding gives the caption."""
    return ((logits.argmax(-1) == targets) | (targets == IGNORE)).all(1)
