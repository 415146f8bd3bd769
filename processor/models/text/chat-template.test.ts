import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest'
import { type ChatMessage, ChatTemplate, readChatTemplate } from './chat-template.ts'

const messages: ChatMessage[] = [
  { role: 'system', content: [{ type: 'text', text: 'Be brief.' }] },
  { role: 'user', content: [{ type: 'image' }, { type: 'text', text: 'What is it?' }] },
]

const chatml = `{% for message in messages %}<|im_start|>{{ message['role'] | capitalize }}
{% for part in message['content'] %}
    {% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}
{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{{ bos_token }}{% endif %}`

describe('ChatTemplate', () => {
  it('renders a conversation as Hugging Face does', async () => {
    const template = new ChatTemplate('f', chatml, { bos_token: '<s>' })
    // `apply_chat_template` of transformers 4.57, which trims blocks and what is before them.
    expect(await template.render(messages)).toBe(
      '<|im_start|>System\nBe brief.<|im_end|>\n<|im_start|>User\n<image>What is it?<|im_end|>\n<|im_start|>assistant<s>',
    )
  })

  it.each([
    ['counts for ever', '{% for i in range(1000000000) %}{{ i }}{% endfor %}', /takes more than 64 MB/],
    [
      'has loops within loops',
      '{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}',
      /takes more than 1000 ms/,
    ],
    [
      'doubles its text',
      '{% set n = namespace(s="aaaaaaaaaaaaaaaa") %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}',
      /fails: Invalid string length/,
    ],
    [
      'writes too much',
      '{% set n = namespace(s="aaaaaaaaaaaaaaaa") %}{% for i in range(20) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}',
      /writes more than 2000000 characters/,
    ],
    [
      'takes much memory',
      '{% set n = namespace(s="aaaaaaaaaaaaaaaa") %}{% for i in range(24) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s | upper | replace("A", "bb") }}',
      /takes more than 64 MB/,
    ],
    [
      'keeps a list of lists',
      '{% set n = namespace(s=[1, 2, 3, 4]) %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}',
      /takes more than (64 MB|1000 ms)/,
    ],
    ['throws', '{{ raise_exception("only\nassistants") }}', /fails: only$/],
    ['looks for code', '{{ messages.constructor.constructor("return process")() }}', /fails: /],
  ])('ends one that %s', async (_, text, message) => {
    const template = new ChatTemplate('folder/tokenizer_config.json', text)
    const error = await template.render(messages).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ name: 'ModelFolderError', message: expect.stringMatching(message) })
    expect(error).toMatchObject({ message: expect.stringMatching(/^folder\/tokenizer_config.json: .*$/) })
    expect(await new ChatTemplate('f', chatml).render(messages)).toContain('Be brief.')
  })

  it.each([
    ['{{ 1', /fails: /],
    ['{% if %}', /fails: /],
    ['x'.repeat(200_001), /more than 200000 characters/],
  ])('refuses one that is none: %s', async (text, message) => {
    const rendered = (async () => new ChatTemplate('f', text).render(messages))()
    await expect(rendered).rejects.toMatchObject({
      name: 'ModelFolderError',
      message: expect.stringMatching(message),
    })
  })

  it('keeps nothing of a conversation for the next', async () => {
    const template = new ChatTemplate('f', '{{ messages[0].role }}{{ seen }}{% set seen = "x" %}')
    expect([await template.render(messages), await template.render(messages)]).toEqual(['system', 'system'])
  })
})

test('renderings of many callers do not mix, nor does one that ends the process end others', async () => {
  const hostile =
    '{% set n = namespace(s="aaaaaaaaaaaaaaaa") %}{% for i in range(24) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s | upper | replace("A", "bb") }}'
  const rendered = await Promise.allSettled(
    Array.from({ length: 9 }, (_, at) =>
      at === 4
        ? new ChatTemplate('f', hostile).render(messages)
        : new ChatTemplate('f', `${at} {{ messages[0].content }}`).render([
            { role: 'user', content: `${at}` },
          ]),
    ),
  )
  expect(rendered.map((each) => (each.status === 'fulfilled' ? each.value : 'failed'))).toEqual(
    Array.from({ length: 9 }, (_, at) => (at === 4 ? 'failed' : `${at} ${at}`)),
  )
})

test('the main thread goes on while a template runs', async () => {
  const { eventLoopUtilization } = performance
  const before = eventLoopUtilization()
  const [begin, end] = ['{% for i in range(1000) %}', '{% endfor %}']
  const endless = new ChatTemplate('f', begin.repeat(4) + end.repeat(4)).render(messages)
  await expect(endless).rejects.toThrow(/1000 ms/)
  expect(eventLoopUtilization(before).utilization).toBeLessThan(0.7)
})

describe('readChatTemplate', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'turbine-template-'))
  })
  afterEach(() => rm(folder, { recursive: true }))
  const write = (name: string, content: unknown) =>
    writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content))
  const rendered = async () => (await readChatTemplate(folder))?.render(messages)

  it('finds none where there is none', async () => {
    await write('tokenizer_config.json', { chat_template: null })
    expect(await readChatTemplate(folder)).toBeUndefined()
  })

  it('reads it where it is, the newest place first', async () => {
    await write('tokenizer_config.json', { chat_template: 'tokenizer {{ eos_token }}', eos_token: '</s>' })
    expect(await rendered()).toBe('tokenizer </s>')
    await write('processor_config.json', { chat_template: 'processor' })
    expect(await rendered()).toBe('processor')
    await write('chat_template.json', { chat_template: 'json' })
    expect(await rendered()).toBe('json')
    await write('chat_template.jinja', 'jinja {{ eos_token }}')
    expect(await rendered()).toBe('jinja </s>')
  })

  it('takes the default of several, and tokens that are objects', async () => {
    await write('tokenizer_config.json', {
      bos_token: { content: '<s>' },
      chat_template: [
        { name: 'tool_use', template: 'tools' },
        { name: 'default', template: 'default {{ bos_token }}' },
      ],
    })
    expect(await rendered()).toBe('default <s>')
  })

  it.each([[5], [[{ name: 'default' }]], [{}]])('refuses what is no template: %j', async (template) => {
    await write('tokenizer_config.json', { chat_template: template })
    await expect(readChatTemplate(folder)).rejects.toMatchObject({ name: 'ModelFolderError' })
  })
})
