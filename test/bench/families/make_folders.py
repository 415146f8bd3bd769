"""Folders of the families in sizes worth timing, with random weights: those of test/fixtures/models, exported larger.

python make_folders.py OUT NAME...      of smolvlm, llava, qwen2-vl, florence2, vit-gpt2, wd-tagger, smolvlm-256m
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "fixtures" / "models"))

import torch  # noqa: E402

# Decoders of SmolVLM-256M's width, a quarter of its depth.
VOCABULARY = 49_280
TEXT = {
    "head_dim": 64,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "num_attention_heads": 9,
    "num_hidden_layers": 8,
    "num_key_value_heads": 3,
    "vocab_size": VOCABULARY,
}
VISION = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "num_hidden_layers": 4}


def smolvlm(folder: Path, vision=VISION, text=TEXT) -> None:
    import make_smolvlm as made

    made.TILE, made.PATCH, made.GRID, made.SEQUENCE = 512, 16, 32, 64
    real = made.Idefics3Config

    def config(vision_config, text_config, **others):
        sizes = {"image_size": made.TILE, "patch_size": made.PATCH, **vision}
        return real(
            vision_config={**vision_config, **sizes},
            text_config={**text_config, **text},
            **{**others, "scale_factor": 4},
        )

    made.Idefics3Config = config
    tokenizer = made.train(made.FIRST, made.LAST, merges=120, digits=True)
    model = made.make_model(tokenizer, 1)
    made.Idefics3Config = real
    # The check against transformers would run an encoder of this size twice more.
    model.model.get_image_features = lambda *_: 0
    silent_export(made, model, folder)
    made.export_embed_tokens(folder, model.model.text_model.embed_tokens, made.OPSET)
    made.export_decoder(folder, model.model.text_model, model.lm_head, model.config.text_config, made.OPSET)
    made.write_configs(model, tokenizer, folder)
    replace(folder / "config.json", '"scale_factor": 2', '"scale_factor": 4')


def silent_export(made, model, folder: Path) -> None:
    try:
        made.export_vision(model, folder)
    except AssertionError:
        pass


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, old
    file.write_text(text.replace(old, new))


def smolvlm_256m(folder: Path) -> None:
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    smolvlm(folder, vision, {**TEXT, "num_hidden_layers": 30})


def llava(folder: Path) -> None:
    import make_llava as made

    made.SIDE, made.PATCH, made.TOKENS = 224, 14, 256
    made.SIZES = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    made.VISION |= {**VISION, "image_size": 224, "patch_size": 14, "projection_dim": 384}
    real = made.LlavaConfig
    made.LlavaConfig = lambda text_config, **others: real(text_config={**text_config, **TEXT}, **others)
    tokenizer = made.train([], made.LAST, merges=120)
    model = made.make_model(tokenizer, 1)
    made.export_vision(model, folder)
    made.export_embed_tokens(folder, model.model.language_model.embed_tokens, made.OPSET)
    made.export_decoder(folder, model.model.language_model, model.lm_head, model.config.text_config, made.OPSET)
    made.write_configs(model, tokenizer, folder)


def qwen2_vl(folder: Path) -> None:
    import make_qwen2_vl as made

    made.PATCH, made.WIDTH, made.HEADS = 14, 384, 6
    made.LIMITS = {"min_pixels": 3136, "max_pixels": 100_352}
    made.VISION |= {"depth": 4, "embed_dim": 384, "hidden_size": 576, "mlp_ratio": 4, "num_heads": 6, "patch_size": 14}
    text_config = made.text_config
    sizes = {**TEXT, "rope_scaling": {"mrope_section": [8, 12, 12], "type": "mrope"}}
    del sizes["head_dim"]
    made.text_config = lambda tokenizer: {**text_config(tokenizer), **sizes}
    tokenizer = made.train([], made.LAST, merges=120)
    model = made.make_model(tokenizer, 1)
    grid = torch.tensor([[1, 4, 6], [1, 8, 4]])
    patches = {"pixel_values": torch.randn(24 + 32, 3 * 2 * 14 * 14), "image_grid_thw": grid}
    made.export_vision(model, patches, folder)
    made.export_embed_tokens(folder, model.model.language_model.embed_tokens, made.OPSET)
    made.export_decoder(folder, model.model.language_model, model.lm_head, model.config.text_config, made.OPSET, mrope=True)
    made.write_configs(tokenizer, folder)


def florence2(folder: Path) -> None:
    import make_florence2 as made

    made.SIDE, made.WIDTH, made.HEADS = 256, 512, 8
    made.VISION |= {
        "depths": [1, 1, 3, 1],
        "embed_dim": [64, 128, 256, 512],
        "max_position_embeddings": 50,
        "num_groups": [2, 4, 8, 16],
        "num_heads": [2, 4, 8, 16],
        "patch_padding": [3, 1, 1, 1],
        "patch_prenorm": [False, True, True, True],
        "patch_size": [7, 3, 3, 3],
        "patch_stride": [4, 2, 2, 2],
        "projection_dim": 512,
        "window_size": 8,
    }
    made.TOKENS = 8 * 8 + 1
    text_config = made.text_config
    sizes = {"decoder_ffn_dim": 2048, "encoder_ffn_dim": 2048, "decoder_layers": 6, "encoder_layers": 6, "vocab_size": VOCABULARY}
    made.text_config = lambda tokenizer: {**text_config(tokenizer), **sizes, "max_position_embeddings": 1024}
    zeros, made.torch.zeros = torch.zeros, torch.zeros
    tokenizer = made.train(made.FIRST, made.LAST, merges=120)
    made.surround(tokenizer, "<s>", "</s>")
    vocabulary = tokenizer.get_vocab_size
    # The output layer of the fixtures has the tokenizer's size.
    made.torch.zeros = lambda *shape, **options: zeros(VOCABULARY, *shape[1:], **options) if shape[:1] == (vocabulary(),) else zeros(*shape, **options)
    model = made.make_model(tokenizer, 1)
    made.torch.zeros = zeros
    made.export_sessions(model, folder)
    made.write_configs(tokenizer, folder)


def vit_gpt2(folder: Path) -> None:
    import make_vit_gpt2 as made

    made.SIDE, made.PATCH = 224, 16
    encoder, decoder = made.ViTConfig, made.GPT2Config
    made.ViTConfig = lambda **config: encoder(**{**config, **VISION, "image_size": 224, "patch_size": 16})
    sizes = {"n_embd": 384, "n_head": 6, "n_inner": 1536, "n_layer": 6, "vocab_size": VOCABULARY}
    made.GPT2Config = lambda **config: decoder(**{**config, **sizes})
    tokenizer = made.train([], [made.END], merges=120)
    model = made.make_model(tokenizer, 1)
    made.export_sessions(model, folder)
    made.write_configs(model, tokenizer, folder)


def wd_tagger(folder: Path) -> None:
    import make_wd_tagger as made

    made.FOLDER, made.SIDE, made.PATCH = folder, 448, 16
    made.TAGS = made.TAGS + [(f"tag_{number}", 0) for number in range(4000)]
    create = made.timm.create_model
    sizes = {"patch_size": 16, "embed_dim": 384, "depth": 4, "num_heads": 6, "mlp_ratio": 4}
    made.timm.create_model = lambda name, **config: create(name, **{**config, **sizes})
    # Random weights tell nothing: any are taken.
    made.tells = lambda _: True
    made.write_reference = lambda *_: None
    made.main()
    replace(folder / "config.json", '"num_features": 48', '"num_features": 384')


MAKERS = {
    "smolvlm": smolvlm,
    "llava": llava,
    "qwen2-vl": qwen2_vl,
    "florence2": florence2,
    "vit-gpt2": vit_gpt2,
    "wd-tagger": wd_tagger,
    "smolvlm-256m": smolvlm_256m,
}


def main() -> None:
    out, *names = sys.argv[1:]
    for name in names:
        part, folder = Path(out) / f"{name}.part", Path(out) / name
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        MAKERS[name](part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        print(name, flush=True)


if __name__ == "__main__":
    main()
