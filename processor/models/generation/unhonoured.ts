/** What a generation_config.json has, and what of it a model's own loop cannot do. */
export interface Unable {
  json: Readonly<Record<string, unknown>>
  /** Without beams; without words that are drawn; without an id that is forced at the end. */
  beams: boolean
  sampling: boolean
  forcedEnd: boolean
}

type Matters = (value: unknown, unable: Unable) => boolean

const isNot =
  (...harmless: unknown[]): Matters =>
  (value) =>
    !harmless.includes(value)
const isSampled = ({ json: { do_sample, top_k } }: Unable) => do_sample === true && top_k !== 1
const hasBeams = ({ json: { num_beams } }: Unable) => Number(num_beams ?? 1) > 1
const whereSampled =
  (...harmless: unknown[]): Matters =>
  (value, unable) =>
    unable.sampling && isSampled(unable) && !harmless.includes(value)
const isList: Matters = (value) => !Array.isArray(value) || value.length > 0

/**
 * Fields of transformers' GenerationConfig (4.57) that change captions and are not honoured, or not by every model, with when they
 * matter.
 */
const matter: Readonly<Record<string, Matters>> = {
  num_beams: (value, { beams }) => !beams && value !== 1,
  do_sample: (_, unable) => isSampled(unable) && (!unable.sampling || (unable.beams && hasBeams(unable))),
  forced_eos_token_id: (_, { forcedEnd }) => !forcedEnd,
  num_beam_groups: isNot(1),
  diversity_penalty: isNot(0),
  num_return_sequences: isNot(1),
  min_p: whereSampled(0),
  typical_p: whereSampled(1),
  epsilon_cutoff: whereSampled(0),
  eta_cutoff: whereSampled(0),
  renormalize_logits: (value, unable) => value === true && unable.beams && hasBeams(unable),
  encoder_repetition_penalty: isNot(1),
  encoder_no_repeat_ngram_size: isNot(0),
  exponential_decay_length_penalty: () => true,
  sequence_bias: isList,
  guidance_scale: isNot(1),
  watermarking_config: () => true,
  stop_strings: isList,
  max_time: () => true,
  penalty_alpha: (value, { json: { top_k } }) => Number(value) > 0 && Number(top_k ?? 50) > 1,
  dola_layers: () => true,
  constraints: isList,
  force_words_ids: isList,
  forced_decoder_ids: isList,
  token_healing: isNot(false),
}

export const unhonouredFields: readonly string[] = Object.keys(matter)

/** Those that are honoured where the folder has them. */
const honouredFields = [
  ...['eos_token_id', 'pad_token_id', 'decoder_start_token_id', 'forced_bos_token_id'],
  ...['max_length', 'max_new_tokens', 'min_length', 'min_new_tokens', 'temperature', 'top_k', 'top_p'],
  ...['repetition_penalty', 'no_repeat_ngram_size', 'length_penalty', 'early_stopping'],
  ...['suppress_tokens', 'begin_suppress_tokens', 'bad_words_ids'],
]

/** Those that change no caption: what is given out beside, how it is computed, who helps, where the file is from. */
const harmlessFields = [
  ...['bos_token_id', 'remove_invalid_values', 'use_cache', 'cache_implementation', 'cache_config'],
  ...['return_legacy_cache', 'prefill_chunk_size', 'compile_config', 'disable_compile', 'low_memory'],
  ...['output_attentions', 'output_hidden_states', 'output_scores', 'output_logits'],
  ...['return_dict_in_generate', 'is_assistant', 'num_assistant_tokens', 'num_assistant_tokens_schedule'],
  ...['assistant_confidence_threshold', 'assistant_early_exit', 'assistant_lookbehind'],
  ...['target_lookbehind', 'prompt_lookup_num_tokens', 'max_matching_ngram_size'],
  ...['generation_kwargs', '_from_model_config', '_commit_hash', 'transformers_version'],
]

/** Every field of transformers' GenerationConfig. */
export const knownFields: readonly string[] = [...unhonouredFields, ...honouredFields, ...harmlessFields]

/** One line of what is not honoured. */
export const unhonouredText = (fields: readonly string[]) =>
  `generation_config.json asks for ${fields.join(', ')}, which is not done for this model: its captions are made without`

/** Fields of a folder that would change its captions and are not honoured, with what they say. */
export function unhonoured(unable: Unable): string[] {
  return Object.entries(matter).flatMap(([name, matters]) => {
    const value = unable.json[name]
    if (value === undefined || value === null || !matters(value, unable)) return []
    return [`${name} ${JSON.stringify(value).slice(0, 40)}`]
  })
}
