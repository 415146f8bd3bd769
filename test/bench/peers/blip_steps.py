"""Hugging Face's BLIP captioner as a program drives it that has it exported: encoder, keys and values of the image, one step.

Written over the modules of `BlipForConditionalGeneration`, with what a careful user does: keys and values of the image are
computed once, those of the text are kept.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Encoder(nn.Module):
    """`pixels [B, 3, H, W]` -> image tokens `[B, M, D]`."""

    def __init__(self, model):
        super().__init__()
        self.vision = model.vision_model

    def forward(self, pixels):
        return self.vision(pixel_values=pixels).last_hidden_state


class Image(nn.Module):
    """Image tokens -> keys and values `[B, heads, M, d]` of each layer, keys first."""

    def __init__(self, model):
        super().__init__()
        self.layers = nn.ModuleList(layer.crossattention.self for layer in layers_of(model))
        self.heads = model.config.text_config.num_attention_heads

    def forward(self, tokens):
        return tuple(
            split(linear(tokens), self.heads) for layer in self.layers for linear in (layer.key, layer.value)
        )


class Step(nn.Module):
    """`ids [B, 1]`, keys and values of the image and of the ids before -> logits of the next id `[B, V]`, and the grown caches."""

    def __init__(self, model):
        super().__init__()
        self.bert = model.text_decoder.bert
        self.head = model.text_decoder.cls.predictions
        self.heads = model.config.text_config.num_attention_heads

    def forward(self, ids, *caches):
        layers = self.bert.encoder.layer
        image, past = caches[: 2 * len(layers)], caches[2 * len(layers) :]
        begin = past[0].shape[2]
        embeddings = self.bert.embeddings
        places = torch.arange(ids.shape[1], device=ids.device) + begin
        x = embeddings.LayerNorm(embeddings.word_embeddings(ids) + embeddings.position_embeddings(places))
        grown = []
        for at, layer in enumerate(layers):
            own = layer.attention
            keys = torch.cat([past[2 * at], split(own.self.key(x), self.heads)], 2)
            values = torch.cat([past[2 * at + 1], split(own.self.value(x), self.heads)], 2)
            grown += [keys, values]
            x = self.attend(own, x, keys, values)
            x = self.attend(layer.crossattention, x, image[2 * at], image[2 * at + 1])
            x = layer.output.LayerNorm(layer.output.dense(F.gelu(layer.intermediate.dense(x))) + x)
        return (self.head(x[:, -1]), *grown)

    def attend(self, block, x, keys, values):
        query = split(block.self.query(x), self.heads)
        seen = F.scaled_dot_product_attention(query, keys, values)
        joined = seen.transpose(1, 2).reshape(x.shape)
        return block.output.LayerNorm(block.output.dense(joined) + x)


def layers_of(model):
    return model.text_decoder.bert.encoder.layer


def split(x, heads):
    """`[B, N, D]` -> `[B, heads, N, d]`."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def names(model):
    """Names of the image's keys and values, of those before, and of those behind."""
    layers = range(len(layers_of(model)))
    return tuple([f"{what}.{at}.{part}" for at in layers for part in ("key", "value")] for what in ("image", "past", "present"))


def examples(model):
    """Inputs of the three parts, small ones."""
    vision, text = model.config.vision_config, model.config.text_config
    heads = text.num_attention_heads
    tokens = (vision.image_size // vision.patch_size) ** 2 + 1
    count = 2 * text.num_hidden_layers
    width = text.hidden_size // heads
    return (
        (torch.rand(2, 3, vision.image_size, vision.image_size),),
        (torch.rand(2, tokens, vision.hidden_size),),
        (
            torch.ones(2, 1, dtype=torch.long),
            *[torch.rand(2, heads, tokens, width) for _ in range(count)],
            *[torch.rand(2, heads, 3, width) for _ in range(count)],
        ),
    )


def load(folder, **options):
    from transformers import BlipForConditionalGeneration

    return BlipForConditionalGeneration.from_pretrained(folder, **options).eval()


def greedy(start, count, step):
    """`count` ids of each row behind `start [B, 1]`; `step(ids)` gives the next logits `[B, V]` as an array."""
    ids, made = start, []
    for _ in range(count):
        ids = step(ids).argmax(-1).reshape(-1, 1).astype("int64")
        made.append(ids)
    import numpy

    return numpy.concatenate(made, 1).tolist()
