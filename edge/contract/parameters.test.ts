import { describe, expect, test } from 'vitest'
import { fitAsk } from './ask.ts'
import { chatRequestSchema, readChat } from './chat.ts'
import { TurbineError } from './errors.ts'
import { generationNames, generationParameters } from './generation.ts'
import { blipCapabilities } from './model.ts'
import { chatParameters, ignoredByDefault } from './parameters.ts'

const chat = {
  messages: [
    { role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://example.com/a.jpg' } }] },
  ],
}

/** What becomes of a chat with these parameters. */
function read(parameters: object, ignored?: readonly string[], can = blipCapabilities) {
  try {
    const asked = readChat({ ...chat, ...parameters }, ignored)
    return { read: { ...asked, ...fitAsk(asked, { id: 'blip', can }, { ignored }) } }
  } catch (error) {
    if (!(error instanceof TurbineError)) throw error
    return { code: error.code, param: error.param, message: error.message }
  }
}

/** Values that ask for what is done anyway. */
const harmless: Record<string, unknown[]> = {
  n: [1],
  temperature: [0, 0.0],
  top_p: [1, 1.0],
  seed: [0, 42, -7],
  frequency_penalty: [0],
  presence_penalty: [0],
  logit_bias: [{}],
  logprobs: [false],
  top_logprobs: [0],
  response_format: [{ type: 'text' }],
  modalities: [['text']],
  tools: [[]],
  tool_choice: ['none', 'auto'],
  parallel_tool_calls: [true, false],
  functions: [[]],
  function_call: ['none', 'auto'],
  reasoning_effort: ['none'],
  verbosity: ['medium'],
  store: [false],
  metadata: [{}],
  service_tier: ['auto', 'default'],
  top_k: [-1, 0, 1],
  min_p: [0],
  repetition_penalty: [1],
  no_repeat_ngram_size: [0],
  num_beams: [1],
  length_penalty: [1],
  best_of: [1],
  use_beam_search: [false],
  min_tokens: [0],
  ignore_eos: [false],
  echo: [false],
  skip_special_tokens: [true],
}

/** Values that ask for something else. */
const wanted: Record<string, unknown[]> = {
  n: [2],
  temperature: [0.1, 0.7, 1, 2],
  top_p: [0, 0.9],
  frequency_penalty: [0.5, -2],
  presence_penalty: [1],
  logit_bias: [{ 50256: -100 }],
  logprobs: [true],
  top_logprobs: [5],
  response_format: [{ type: 'json_object' }, { type: 'json_schema', json_schema: { name: 'a', schema: {} } }],
  modalities: [['text', 'audio'], ['audio']],
  audio: [{ voice: 'alloy', format: 'wav' }],
  tools: [[{ type: 'function', function: { name: 'f' } }]],
  tool_choice: ['required', { type: 'function', function: { name: 'f' } }],
  functions: [[{ name: 'f' }]],
  function_call: [{ name: 'f' }],
  web_search_options: [{}],
  reasoning_effort: ['low', 'high', 'minimal'],
  verbosity: ['low'],
  prediction: [{ type: 'content', content: 'a cat' }],
  store: [true],
  metadata: [{ a: 'b' }],
  service_tier: ['flex', 'priority'],
  user: ['user-1'],
  safety_identifier: ['user-1'],
  prompt_cache_key: ['key'],
  prompt_cache_retention: ['24h'],
  prompt_cache_options: [{ mode: 'explicit' }],
  moderation: [{}],
  top_k: [40],
  min_p: [0.1],
  repetition_penalty: [1.1],
  no_repeat_ngram_size: [3],
  num_beams: [4],
  length_penalty: [0.8],
  best_of: [3],
  use_beam_search: [true],
  min_tokens: [5],
  ignore_eos: [true],
  echo: [true],
  skip_special_tokens: [false],
}

const each = (values: Record<string, unknown[]>) =>
  Object.entries(values).flatMap(([name, list]) => list.map((value) => [name, value] as const))
const fixed = Object.keys(chatParameters).filter((name) => chatParameters[name]!.same)

test('every parameter is in the schema, and every one that is not honoured is tried here', () => {
  expect(Object.keys(chatRequestSchema.shape).toSorted()).toEqual(Object.keys(chatParameters).toSorted())
  expect([...new Set([...Object.keys(harmless), ...Object.keys(wanted)])].toSorted()).toEqual(
    fixed.toSorted(),
  )
})

describe('parameters that are not honoured', () => {
  test.each(each(harmless))('%s: %j asks for what is done anyway', (name, value) => {
    expect(read({ [name]: value })).toMatchObject({ read: { ignored: [] } })
  })

  test.each(fixed)('%s: null is left out', (name) => {
    expect(read({ [name]: null })).toMatchObject({ read: { ignored: [] } })
  })

  test.each(each(wanted))('%s: %j is refused by its name, or ignored and told', (name, value) => {
    const refused = read({ [name]: value })
    expect(refused).toMatchObject({ code: 'unsupported_parameter', param: name })
    expect(refused.message).toContain(`TURBINE_IGNORE_PARAMETERS=${name}`)
    for (const ignored of [[name], ['*']])
      expect(read({ [name]: value }, ignored)).toMatchObject({ read: { ignored: [name] } })
    expect(read({ [name]: value }, ['another'])).toMatchObject({ code: 'unsupported_parameter' })
  })

  test('by default those are ignored that usual clients send unasked', () => {
    expect(ignoredByDefault).toEqual([
      'temperature',
      'top_p',
      'user',
      'safety_identifier',
      'prompt_cache_key',
    ])
    expect(read({ temperature: 0.7, top_p: 0.9, user: 'me', n: 1 }, ignoredByDefault)).toMatchObject({
      read: { ignored: ['user', 'temperature', 'top_p'] },
    })
  })

  test.each([
    ['temperature', 'hot'],
    ['temperature', -1],
    ['temperature', 3],
    ['top_p', 2],
    ['user', 5],
    ['user', 'x'.repeat(2000)],
  ])('%s: %j is malformed, whatever is ignored', (name, value) => {
    expect(read({ [name]: value }, ignoredByDefault)).toMatchObject({
      code: expect.stringMatching(/^invalid_/),
      param: name,
    })
  })
})

describe('parameters that some models honour', () => {
  const can = { ...blipCapabilities, parameters: generationNames }

  test.each(generationNames.filter((name) => name !== 'n'))(
    '%s is honoured by a model that names it',
    (name) => {
      const value = wanted[name]?.[0] ?? 7
      const { setting } = generationParameters[name]
      expect(read({ [name]: value }, [], can)).toMatchObject({
        read: { settings: { [setting]: value }, ignored: [] },
      })
      expect(read({ [name]: null }, [], can).read).not.toHaveProperty('settings')
      // What the model has by default need not be what others do.
      const [harmlessly] = harmless[name]!
      if (name !== 'top_k')
        expect(read({ [name]: harmlessly }, [], can)).toMatchObject({
          read: { settings: { [setting]: harmlessly } },
        })
    },
  )

  test('several captions are no setting of one', () => {
    expect(read({ n: 3 }, [], can).read).toMatchObject({ n: 3 })
    expect(read({ n: 1 }, [], can).read).not.toHaveProperty('n')
  })

  test.each([0, -1])('top_k %d is no limit', (top_k) => {
    expect(read({ top_k }, [], can).read).toMatchObject({ settings: { topK: 0 } })
  })

  test('the error names the parameter, the model, and what it honours', () => {
    const some = { ...can, family: 'tiny', parameters: ['temperature', 'seed'] }
    expect(read({ num_beams: 4 }, [], some)).toMatchObject({
      code: 'unsupported_parameter',
      param: 'num_beams',
      message: expect.stringContaining(
        'the model "blip" (tiny) honours max_tokens, stop, temperature, seed;',
      ),
    })
  })

  test.each([
    [{ num_beams: 4, temperature: 0.5 }, 'temperature'],
    [{ num_beams: 4, n: 2 }, '"n"'],
  ])('%j go not together', (parameters, other) => {
    expect(read(parameters, [], can)).toMatchObject({
      code: 'invalid_value',
      param: 'num_beams',
      message: expect.stringContaining(other),
    })
  })

  test.each([
    ['n', 0],
    ['n', 9],
    ['n', 1.5],
    ['top_k', -2],
    ['seed', 0.5],
    ['seed', '1'],
    ['frequency_penalty', 3],
    ['presence_penalty', -2.5],
    ['repetition_penalty', 0],
    ['no_repeat_ngram_size', -1],
    ['min_tokens', 1e9],
    ['num_beams', 100],
  ])('%s: %j is malformed, whatever is ignored', (name, value) => {
    expect(read({ [name]: value }, ['*'], can)).toMatchObject({ param: name })
  })
})

describe('parameters that do not exist', () => {
  test.each([
    ['max_token', ' Did you mean "max_tokens"?'],
    ['temprature', ' Did you mean "temperature"?'],
    ['streaming', ' Did you mean "stream"?'],
    ['chat_template_kwargs', ''],
    ['__proto__', ''],
    ['constructor', ''],
  ])('%s is refused in the words of OpenAI, or ignored and told', (name, guess) => {
    const parameters = JSON.parse(`{${JSON.stringify(name)}: 1}`)
    const body = JSON.parse(`{"messages": ${JSON.stringify(chat.messages)}, ${JSON.stringify(name)}: 1}`)
    expect(parameters).toBeDefined()
    expect(() => readChat(body)).toThrow(
      expect.objectContaining({
        code: 'unknown_parameter',
        param: name,
        message: `Unrecognized request argument supplied: ${name}.${guess}`,
      }),
    )
    expect(readChat(body, ['*']).ignored).toEqual([name])
    expect(readChat(body, [name]).ignored).toEqual([name])
  })

  test('of many only some are told', () => {
    const many = Object.fromEntries(
      Array.from({ length: 90 }, (_, index) => [`${'x'.repeat(90)}${index}`, 1]),
    )
    const { ignored } = readChat({ ...chat, ...many }, ['*'])
    expect(ignored).toHaveLength(20)
    expect(ignored.every((name) => name.length <= 60)).toBe(true)
  })
})

describe('parameters that are honoured', () => {
  test.each([
    [{ max_tokens: 5 }, { maxTokens: 5 }],
    [{ max_completion_tokens: 5 }, { maxTokens: 5 }],
    [{ max_tokens: 9, max_completion_tokens: 5 }, { maxTokens: 5 }],
    [{ max_tokens: null, max_completion_tokens: null, stop: null }, {}],
    [{ stop: '.' }, { stop: ['.'] }],
    [{ stop: ['a', 'b', 'c', 'd'] }, { stop: ['a', 'b', 'c', 'd'] }],
    [{ stop: [] }, {}],
    [
      { stream: true, stream_options: { include_usage: true } },
      { stream: true, includeUsage: true },
    ],
    [{ stream: true, stream_options: { include_obfuscation: false } }, { stream: true }],
    [{ stream: false, stream_options: null }, { stream: false }],
    [{ model: 'blip' }, { model: 'blip' }],
    [{ model: null, turbine: null }, {}],
    [{ turbine: { max_prune: 0.5, deadline_ms: 9 } }, { maxPrune: 0.5, deadlineMs: 9 }],
  ])('%j', (parameters, expected) => {
    const got = read(parameters).read
    expect(got).toMatchObject(expected)
    for (const name of ['maxTokens', 'stop'] as const)
      if (!(name in expected)) expect(got).not.toHaveProperty(name)
  })

  test.each([
    [{ max_tokens: 0 }, 'max_tokens', '"max_tokens" must be an integer of at least 1, got 0.'],
    [{ max_tokens: -1 }, 'max_tokens', 'got -1'],
    [
      { max_tokens: 2 ** 53 },
      'max_tokens',
      '"max_tokens" must be an integer from 1 to 9007199254740991, got 9007199254740992.',
    ],
    [{ max_completion_tokens: 1e300 }, 'max_completion_tokens', 'from 1 to 9007199254740991, got 1e+300.'],
    [{ max_tokens: 1.5 }, 'max_tokens', 'an integer'],
    [{ max_completion_tokens: '5' }, 'max_completion_tokens', 'an integer'],
    [{ stop: '' }, 'stop', 'a non-empty string'],
    [{ stop: 5 }, 'stop', 'a non-empty string of at most 200 characters or an array of at most 4 items'],
    [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop', 'at most 4 items'],
    [{ stop: ['a', 5] }, 'stop.1', 'got 5'],
    [{ stop: 'x'.repeat(201) }, 'stop', 'at most 200 characters'],
    [{ stream: 'yes' }, 'stream', 'true or false'],
    [{ stream_options: { include_usage: true } }, 'stream_options', 'only be sent with "stream": true'],
    [{ stream: true, stream_options: { usage: true } }, 'stream_options.usage', 'Allowed: include_usage'],
    [
      { stream: true, stream_options: { include_obfuscation: true } },
      'stream_options.include_obfuscation',
      'false',
    ],
    [{ turbine: { max_prune: 2 } }, 'turbine.max_prune', 'from 0 to 1'],
    [{ turbine: { max_prun: 1 } }, 'turbine.max_prun', 'Did you mean "max_prune"?'],
    [{ model: 5 }, 'model', 'a non-empty string'],
  ])('%j is refused', (parameters, param, message) => {
    const refused = read(parameters, ['*'])
    expect(refused).toMatchObject({ param, message: expect.stringContaining(message) })
  })
})
