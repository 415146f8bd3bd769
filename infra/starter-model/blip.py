"""The starter model's vocabulary, sizes and Hugging Face folder.  The architecture is BLIP's, unchanged."""
import copy
import pathlib
import tempfile

from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    GenerationConfig,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"


def vocabulary(words):
    """Special tokens, the caption words, then letters, digits and ##pieces as fall-back for any other text."""
    tokens = SPECIAL + words
    tokens += [c for c in CHARACTERS if c not in tokens]
    return tokens + ["##" + c for c in CHARACTERS if c.isalnum()]


def new_model(words, side, patch):
    """A BlipForConditionalGeneration of 6.5 M parameters with Hugging Face's own initial weights."""
    tokens = vocabulary(words)
    width = 192
    text = dict(
        vocab_size=len(tokens), hidden_size=width, encoder_hidden_size=width, intermediate_size=2 * width,
        num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=48, projection_dim=width,
        bos_token_id=tokens.index("[DEC]"), eos_token_id=tokens.index("[SEP]"),
        sep_token_id=tokens.index("[SEP]"), pad_token_id=tokens.index("[PAD]"),
        initializer_range=0.02, is_decoder=True, label_smoothing=0.0,
    )
    vision = dict(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=12, num_attention_heads=3,
        image_size=side, patch_size=patch, projection_dim=width, initializer_range=0.02,
    )
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=width, image_text_hidden_size=width)
    return BlipForConditionalGeneration(config)


def save(model, words, folder):
    """Writes the standard folder: configuration, processor, tokenizer and weights in float16."""
    text = model.config.text_config
    half = copy.deepcopy(model).half()
    half.generation_config = GenerationConfig(
        bos_token_id=text.bos_token_id, eos_token_id=text.sep_token_id, pad_token_id=text.pad_token_id,
        max_new_tokens=40, num_beams=1, do_sample=False,
    )
    half.save_pretrained(folder, safe_serialization=True)
    side = model.config.vision_config.image_size
    with tempfile.TemporaryDirectory() as temporary:
        vocab_file = pathlib.Path(temporary, "vocab.txt")
        vocab_file.write_text("\n".join(vocabulary(words)) + "\n")
        tokenizer = BertTokenizerFast(
            vocab_file=str(vocab_file), do_lower_case=True, bos_token="[DEC]",
            additional_special_tokens=["[ENC]"], model_max_length=40,
        )
        image_processor = BlipImageProcessor(size={"height": side, "width": side})
        BlipProcessor(image_processor=image_processor, tokenizer=tokenizer).save_pretrained(folder)
