/** BERT's special tokens and the two that BLIP adds, start of caption and start of encoding. */
const specialTokens = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '[DEC]', '[ENC]']

/**
 * BERT's word pieces over a vocabulary, in the form of a `tokenizer.json` as Hugging Face's `BertTokenizerFast`
 * saves it.
 *
 * @param tokens lines of a `vocab.txt`; the line number is the id
 */
export function wordPieceTokenizer(tokens: string[], { lowercase = true } = {}) {
  const ids = new Map(tokens.map((token, id) => [token, id]))
  const special = specialTokens.filter((token) => ids.has(token))
  return {
    version: '1.0',
    added_tokens: special.map((content) => ({
      id: ids.get(content)!,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: null,
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(ids),
    },
  }
}
