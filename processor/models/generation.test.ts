import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ModelFolderError } from '../onnx/weights.ts'
import { knownFields } from './generation/unhonoured.ts'
import { type GenerationOptions, readGenerationDefaults } from './generation.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-generation-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function files(generation: unknown, config: unknown = {}): Promise<string> {
  if (generation !== undefined)
    await writeFile(join(folder, 'generation_config.json'), JSON.stringify(generation))
  await writeFile(join(folder, 'config.json'), JSON.stringify(config))
  return folder
}

const greedy = {
  maxTokens: 256,
  temperature: 0,
  topP: 1,
  repetitionPenalty: 1,
  noRepeatNgram: 0,
  beams: 1,
  lengthPenalty: 1,
  earlyStopping: false,
}

describe('readGenerationDefaults', () => {
  it('is greedy when nothing else is said', async () => {
    expect(await readGenerationDefaults(await files({ eos_token_id: 7 }))).toEqual({
      settings: greedy,
      endIds: [7],
      padId: 7,
      startIds: [],
      unhonoured: [],
    })
  })

  it('reads what generate knows', async () => {
    const json = {
      eos_token_id: [7, 8],
      pad_token_id: 1,
      bos_token_id: 0,
      max_new_tokens: 40,
      min_new_tokens: 3,
      do_sample: true,
      temperature: 0.7,
      top_p: 0.9,
      top_k: 20,
      repetition_penalty: 1.1,
      no_repeat_ngram_size: 3,
      num_beams: 4,
      length_penalty: 0.5,
      early_stopping: true,
      transformers_version: '4.57.1',
    }
    expect(await readGenerationDefaults(await files(json))).toEqual({
      settings: {
        maxTokens: 40,
        minTokens: 3,
        temperature: 0.7,
        topP: 0.9,
        topK: 20,
        repetitionPenalty: 1.1,
        noRepeatNgram: 3,
        beams: 4,
        lengthPenalty: 0.5,
        earlyStopping: true,
      },
      endIds: [7, 8],
      padId: 1,
      startIds: [],
      unhonoured: ['do_sample true'],
    })
  })

  it('draws only when do_sample says so', async () => {
    const { settings } = await readGenerationDefaults(
      await files({ eos_token_id: 7, temperature: 0.7, top_p: 0.9, top_k: 20 }),
    )
    expect(settings).toEqual(greedy)
  })

  it('is greedy where there is one candidate, so that a request with a temperature is not', async () => {
    const { settings } = await readGenerationDefaults(
      await files({ eos_token_id: 7, do_sample: true, temperature: 0.01, top_p: 0.001, top_k: 1 }),
    )
    expect(settings).toEqual(greedy)
  })

  it('takes null for what is not set, and negative ids for none', async () => {
    const json = {
      eos_token_id: 7,
      pad_token_id: -1,
      forced_bos_token_id: null,
      max_new_tokens: null,
      temperature: null,
    }
    expect(await readGenerationDefaults(await files(json))).toMatchObject({
      settings: greedy,
      padId: 7,
      startIds: [],
    })
  })

  it('takes ids that are missing from config.json, of the text before those of the whole', async () => {
    const config = { pad_token_id: 2, text_config: { eos_token_id: 9, pad_token_id: 3, num_beams: 5 } }
    expect(await readGenerationDefaults(await files({ max_new_tokens: 9 }, config))).toMatchObject({
      settings: { ...greedy, maxTokens: 9 },
      endIds: [9],
      padId: 2,
    })
    expect(await readGenerationDefaults(await files({ eos_token_id: 4 }, config))).toMatchObject({
      endIds: [4],
    })
  })

  it('takes the settings of config.json too when there is no generation_config.json', async () => {
    const text_config = { eos_token_id: 2, num_beams: 3, no_repeat_ngram_size: 3 }
    expect(await readGenerationDefaults(await files(undefined, { text_config }))).toMatchObject({
      settings: { ...greedy, beams: 3, noRepeatNgram: 3 },
      endIds: [2],
    })
  })

  it('counts the start id of an encoder-decoder in max_length, and no prompt of a decoder', async () => {
    const json = {
      eos_token_id: 2,
      decoder_start_token_id: 2,
      forced_bos_token_id: 0,
      forced_eos_token_id: 2,
      max_length: 16,
    }
    const read = await files(json)
    expect(await readGenerationDefaults(read, { encoderDecoder: true })).toMatchObject({
      settings: { maxTokens: 15 },
      startIds: [2, 0],
      forcedEndId: 2,
    })
    expect((await readGenerationDefaults(read, { maxTokens: 99 })).settings).toMatchObject({
      maxTokens: 99,
      maxLength: 16,
    })
  })

  it('knows every field that transformers knows', () => {
    // `GenerationConfig()` of transformers 4.57.1.
    const fields =
      'max_length max_new_tokens min_length min_new_tokens early_stopping max_time stop_strings do_sample num_beams use_cache cache_implementation cache_config return_legacy_cache prefill_chunk_size temperature top_k top_p min_p typical_p epsilon_cutoff eta_cutoff repetition_penalty encoder_repetition_penalty length_penalty no_repeat_ngram_size bad_words_ids renormalize_logits forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens sequence_bias token_healing guidance_scale watermarking_config num_return_sequences output_attentions output_hidden_states output_scores output_logits return_dict_in_generate pad_token_id bos_token_id eos_token_id encoder_no_repeat_ngram_size decoder_start_token_id is_assistant num_assistant_tokens num_assistant_tokens_schedule assistant_confidence_threshold prompt_lookup_num_tokens max_matching_ngram_size assistant_early_exit assistant_lookbehind target_lookbehind compile_config disable_compile low_memory penalty_alpha dola_layers diversity_penalty num_beam_groups constraints force_words_ids _from_model_config _commit_hash transformers_version'
    expect(fields.split(' ').filter((field) => !knownFields.includes(field))).toEqual([])
  })

  const noBeams = { beams: false }
  const noSampling = { sampling: false }
  it.each<[Record<string, unknown>, string[], GenerationOptions?]>([
    [{ num_beams: 4 }, [], {}],
    [{ num_beams: 4 }, ['num_beams 4'], noBeams],
    [{ num_beams: 1 }, [], noBeams],
    [{ do_sample: true }, [], {}],
    [{ do_sample: true }, ['do_sample true'], noSampling],
    [{ do_sample: true, top_k: 1 }, [], noSampling],
    [{ do_sample: true, num_beams: 2 }, ['do_sample true'], {}],
    [{ min_p: 0.1, typical_p: 0.2, epsilon_cutoff: 0.1, eta_cutoff: 0.1 }, [], {}],
    [
      { do_sample: true, min_p: 0.1, typical_p: 0.2, epsilon_cutoff: 0.1, eta_cutoff: 0.2 },
      ['min_p 0.1', 'typical_p 0.2', 'epsilon_cutoff 0.1', 'eta_cutoff 0.2'],
    ],
    [{ forced_eos_token_id: 7 }, ['forced_eos_token_id 7'], { forcedEnd: false }],
    [{ forced_eos_token_id: 7 }, [], {}],
    [{ encoder_no_repeat_ngram_size: 3 }, ['encoder_no_repeat_ngram_size 3']],
    [
      { encoder_repetition_penalty: 1.5, guidance_scale: 2 },
      ['encoder_repetition_penalty 1.5', 'guidance_scale 2'],
    ],
    [{ stop_strings: ['.'], max_time: 3 }, ['stop_strings ["."]', 'max_time 3']],
    [{ penalty_alpha: 0.6, top_k: 4 }, ['penalty_alpha 0.6']],
    [
      { num_beams: 4, num_beam_groups: 2, diversity_penalty: 1 },
      ['num_beam_groups 2', 'diversity_penalty 1'],
    ],
    [{ renormalize_logits: true }, []],
    [{ renormalize_logits: true, num_beams: 2 }, ['renormalize_logits true']],
    [
      { sequence_bias: [[[1], 2]], force_words_ids: [[1]], constraints: [] },
      ['sequence_bias [[[1],2]]', 'force_words_ids [[1]]'],
    ],
    [{ exponential_decay_length_penalty: [5, 1.2] }, ['exponential_decay_length_penalty [5,1.2]']],
    [
      { use_cache: false, output_scores: true, token_healing: false, max_time: null, of_another_program: 1 },
      [],
    ],
  ])('tells what it does not honour of %j', async (json, expected, options) => {
    const read = await readGenerationDefaults(await files({ eos_token_id: 7, ...json }), options)
    expect(read.unhonoured.toSorted()).toEqual(expected.toSorted())
  })

  it('has no beams where the model has none, also where it draws', async () => {
    const json = { eos_token_id: 7, num_beams: 4, do_sample: true, temperature: 0.5 }
    const { settings } = await readGenerationDefaults(await files(json), noBeams)
    expect(settings).toMatchObject({ beams: 1, temperature: 0.5 })
  })

  it('reads ids that never come, and from when on an end may', async () => {
    const json = {
      eos_token_id: 7,
      suppress_tokens: [3, 4],
      begin_suppress_tokens: [5],
      bad_words_ids: [[4], [6], [7], [7, 8], [1, 2, 3]],
      min_length: 9,
    }
    const { settings } = await readGenerationDefaults(await files(json))
    expect(settings).toMatchObject({
      bans: {
        always: [3, 4, 6],
        first: [5],
        words: [
          [7, 8],
          [1, 2, 3],
        ],
      },
      minLength: 9,
    })
    const later = await readGenerationDefaults(await files({ ...json, min_new_tokens: 2 }))
    expect(later.settings).not.toHaveProperty('minLength')
    const none = await readGenerationDefaults(
      await files({ eos_token_id: 7, bad_words_ids: [[7]], suppress_tokens: [] }),
    )
    expect(none.settings).not.toHaveProperty('bans')
  })

  it.each<[string, unknown, unknown, RegExp]>([
    ['a banned id below 0', { eos_token_id: 1, suppress_tokens: [-1] }, {}, /suppress_tokens/],
    ['a bad word without ids', { eos_token_id: 1, bad_words_ids: [[]] }, {}, /bad_words_ids/],
    [
      'more bans than can be',
      { eos_token_id: 1, suppress_tokens: Array(20_000).fill(1) },
      {},
      /suppress_tokens/,
    ],
    ['no end id', {}, {}, /generation_config\.json: eos_token_id is missing/],
    ['an end id that is a word', { eos_token_id: '</s>' }, {}, /generation_config\.json: eos_token_id: /],
    ['no end ids', { eos_token_id: [] }, {}, /eos_token_id/],
    ['a fraction', { eos_token_id: 1.5 }, {}, /eos_token_id/],
    ['a temperature below 0', { eos_token_id: 1, temperature: -1 }, {}, /temperature/],
    ['a penalty of 0', { eos_token_id: 1, repetition_penalty: 0 }, {}, /repetition_penalty/],
    ['more beams than any device holds', { eos_token_id: 1, num_beams: 1e6 }, {}, /num_beams/],
    ['a list', [], {}, /generation_config\.json: the file/],
    ['null', null, {}, /generation_config\.json: the file/],
    ['a text that is no object', { max_new_tokens: 1 }, { text_config: 5 }, /config\.json: text_config/],
  ])('refuses %s in one line', async (_, generation, config, message) => {
    const read = readGenerationDefaults(await files(generation, config))
    await expect(read).rejects.toThrow(ModelFolderError)
    await expect(readGenerationDefaults(folder)).rejects.toThrow(message)
    const error = await readGenerationDefaults(folder).catch((thrown: Error) => thrown)
    expect((error as Error).message).not.toContain('\n')
  })

  it('refuses what is no JSON', async () => {
    await files({}, {})
    await writeFile(join(folder, 'generation_config.json'), '{"eos_token_id": 2,')
    await expect(readGenerationDefaults(folder)).rejects.toThrow(/is not JSON/)
  })
})
