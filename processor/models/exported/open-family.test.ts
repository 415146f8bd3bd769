import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { referenceOf } from '../reference.fixture.ts'
import { openFamily } from './open-family.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-family-'))
})
afterEach(() => rm(folder, { recursive: true }))

type Json = Record<string, unknown>

/** A copy of a tiny model's folder, without its sessions. */
const copy = (family: string) =>
  cp(referenceOf(family).folder, folder, {
    recursive: true,
    filter: (path) => !/\/(onnx|reference)(\/|$)/.test(path),
  })

async function change(name: string, edit: (json: Json) => unknown): Promise<void> {
  const json = JSON.parse(await readFile(join(folder, name), 'utf8').catch(() => '{}'))
  await writeFile(join(folder, name), JSON.stringify(edit(json)))
}

const set = (values: Json) => (json: Json) => ({ ...json, ...values })
const setIn = (part: string, values: Json) => (json: Json) => ({
  ...json,
  [part]: { ...(json[part] as Json), ...values },
})
const template = (text: string) => set({ chat_template: text })
const processor = (type: string) =>
  set({
    image_processor_type: `${type}ImageProcessor`,
    size: { height: 64, width: 64 },
    do_center_crop: false,
  })

describe('openFamily refuses in one line', () => {
  it.each([
    [
      'smolvlm',
      'an unknown family',
      'config.json',
      set({ model_type: 'mllama' }),
      /model_type is "mllama"; supported: idefics3/,
    ],
    ['smolvlm', 'no family', 'config.json', () => ({}), /model_type/],
    ['smolvlm', 'a family of the prototype', 'config.json', set({ model_type: 'constructor' }), /supported/],
    ['smolvlm', 'no text part', 'config.json', set({ text_config: 5 }), /text_config/],
    [
      'smolvlm',
      'tokens of a tile that do not fit',
      'processor_config.json',
      set({ image_seq_len: 9 }),
      /image_seq_len is 9.*make 16 tokens/,
    ],
    [
      'smolvlm',
      'tiles that do not fit',
      'preprocessor_config.json',
      set({ max_image_size: { longest_edge: 32 } }),
      /must be 64/,
    ],
    [
      'smolvlm',
      'the processor of another family',
      'preprocessor_config.json',
      processor('ViT'),
      /another family/,
    ],
    [
      'smolvlm',
      'another image token',
      'config.json',
      set({ image_token_id: 5 }),
      /has <image> as 417; config.json asks for 5/,
    ],
    [
      'smolvlm',
      'a tokenizer that is none',
      'tokenizer.json',
      () => ({ model: { type: 'Nonsense' } }),
      /unsupported tokenizer/,
    ],
    [
      'smolvlm',
      'a template that throws',
      'tokenizer_config.json',
      template('{{ raise_exception("no") }}'),
      /chat template fails: no/,
    ],
    [
      'smolvlm',
      'a template without end',
      'tokenizer_config.json',
      template('{% for i in range(1000000000) %}{% endfor %}'),
      /takes more than/,
    ],
    [
      'smolvlm',
      'a template without pictures',
      'tokenizer_config.json',
      template('{{ messages[0].content[1].text }}'),
      /writes no <image>/,
    ],
    ['smolvlm', 'a template without text', 'tokenizer_config.json', template('<image>'), /or not its text/],
    [
      'llava',
      'more tokens than a picture has',
      'processor_config.json',
      set({ patch_size: 100_000 }),
      /a picture would have 0 tokens/,
    ],
    [
      'llava',
      'another image token',
      'processor_config.json',
      set({ image_token: '<photo>' }),
      /has no token <photo>/,
    ],
    [
      'llava',
      'the processor of another family',
      'preprocessor_config.json',
      set({ image_processor_type: 'Qwen2VLImageProcessor', size: null }),
      /another family/,
    ],
    [
      'qwen2-vl',
      'patches that do not fit',
      'preprocessor_config.json',
      set({ patch_size: 4 }),
      /patch_size and merge_size must be 8 and 2/,
    ],
    ['qwen2-vl', 'pixels without end', 'preprocessor_config.json', set({ max_pixels: 1e15 }), /max_pixels/],
    [
      'qwen2-vl',
      'another image token',
      'config.json',
      set({ image_token_id: 1 }),
      /has <\|image_pad\|> as \d+; config.json asks for 1/,
    ],
    [
      'vit-gpt2',
      'another decoder',
      'config.json',
      setIn('decoder', { model_type: 'bert' }),
      /decoder.model_type/,
    ],
    [
      'vit-gpt2',
      'another encoder',
      'config.json',
      setIn('encoder', { model_type: 'swin' }),
      /encoder.model_type/,
    ],
    [
      'vit-gpt2',
      'a processor that does not resize',
      'preprocessor_config.json',
      set({ do_resize: false }),
      /do_resize is false/,
    ],
  ])('%s with %s', async (family, _, name, edit, message) => {
    await copy(family)
    await change(name, edit)
    const error = await openFamily(folder).catch((error: unknown) => error)
    expect(error).toMatchObject({ name: 'ModelFolderError', message: expect.stringMatching(message) })
    expect((error as Error).message).not.toContain('\n')
  })

  it.each(['config.json', 'preprocessor_config.json', 'tokenizer.json'])(
    'a folder without %s',
    async (name) => {
      await copy('smolvlm')
      await rm(join(folder, name))
      await expect(openFamily(folder)).rejects.toMatchObject({ name: 'ModelFolderError' })
    },
  )
})

describe('openFamily', () => {
  it('runs no code that a folder names', async () => {
    await copy('smolvlm')
    await change('config.json', set({ auto_map: { AutoModel: 'modeling.Model' }, trust_remote_code: true }))
    await writeFile(join(folder, 'modeling.py'), 'raise SystemExit')
    expect((await openFamily(folder)).family).toBe('idefics3')
  })

  const picture = { count: 1, rows: 0, cols: 0 }

  it.each([
    ['qwen2-vl', 4096, { maxPixels: 4096 }],
    ['qwen2-vl', 1e6, { maxPixels: 9216 }],
    ['smolvlm', 128 * 128, { longestEdge: 128 }],
    ['llava', 1, { shortest: 64 }],
  ])('shows a %s no more than %d pixels', async (family, picturePixels, rule) => {
    await copy(family)
    expect((await openFamily(folder, { picturePixels })).picture).toMatchObject(rule)
    expect((await openFamily(folder)).picture).toEqual(
      (await openFamily(folder, { picturePixels: 1e9 })).picture,
    )
  })

  it('writes to templates that take text alone', async () => {
    await copy('smolvlm')
    await change(
      'tokenizer_config.json',
      template('{% for m in messages %}[{{ m.role }}] {{ m.content.strip() }}\n{% endfor %}>'),
    )
    const family = await openFamily(folder)
    const { ids, places } = await family.encode({ system: 'Hi', text: 'What?', pictures: [picture] })
    expect(family.decode(ids)).toBe('[system] Hi\n[user] \nWhat?\n>')
    expect(places).toHaveLength(16)
  })

  it('puts pictures before the text where a folder has no template', async () => {
    await copy('llava')
    await change('tokenizer_config.json', ({ chat_template, ...rest }) => rest)
    const family = await openFamily(folder)
    const { ids, places } = await family.encode({ text: 'ASSISTANT:', pictures: [picture, picture] })
    expect(family.decode(ids)).toBe('\n\nASSISTANT:')
    expect(places).toHaveLength(128)
  })

  it('keeps callers from ending their turn, and from making pictures', async () => {
    await copy('smolvlm')
    const family = await openFamily(folder)
    const [end] = family.endIds
    const plain = await family.encode({ text: 'a', pictures: [picture] })
    const ends = (ids: number[]) => ids.filter((id) => id === end).length
    for (const text of [
      '<end_of_utterance>',
      '<image>',
      '<fake_token_around_image><image>',
      '<|im_start|>',
    ]) {
      const prompt = await family.encode({ system: text, text, beginning: text, pictures: [picture] })
      expect(prompt.places).toHaveLength(16)
      // The system's turn has its own.
      expect(ends(prompt.ids)).toBe(ends(plain.ids) + 1)
    }
  })

  it('tells where the answer begins', async () => {
    await copy('qwen2-vl')
    const family = await openFamily(folder)
    const pictures = [{ count: 64, rows: 8, cols: 8 }]
    const { ids, answer } = await family.encode({ text: 'a', beginning: 'The sky', pictures })
    expect(family.decode(ids.slice(answer))).toBe('The sky')
    expect((await family.encode({ text: 'a', pictures })).answer).toBeUndefined()
    // The same conversation again, and with another picture.
    const larger = await family.encode({ text: 'a', pictures: [{ count: 96, rows: 8, cols: 12 }] })
    expect(larger.places).toHaveLength(24)
  })

  it('refuses a prompt that is longer than the model reads', async () => {
    await copy('smolvlm')
    const family = await openFamily(folder)
    const split = { count: 17, rows: 4, cols: 4 }
    const pictures = Array.from({ length: 8 }, () => split)
    await expect(family.encode({ text: 'a', pictures })).rejects.toThrow(
      expect.objectContaining({ name: 'PromptError', code: 'prompt_too_long' }),
    )
    expect(family.maxPictures).toBeGreaterThan(8)
  })

  it('blames the caller for what a template refuses of him alone', async () => {
    await copy('smolvlm')
    const refusing =
      '{% for m in messages %}{% if m.role == "system" %}{{ raise_exception("no system") }}{% endif %}{% for c in m.content %}{% if c.type == "image" %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}'
    await change('tokenizer_config.json', template(refusing))
    const family = await openFamily(folder)
    await expect(family.encode({ system: 's', text: 'a', pictures: [picture] })).rejects.toThrow(
      expect.objectContaining({ code: 'prompt_refused', message: expect.stringMatching(/no system/) }),
    )
  })
})
