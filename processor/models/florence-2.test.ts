import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ExportedFamily } from './exported/family.ts'
import { openFlorence2 } from './florence-2.ts'
import { referenceOf } from './reference.fixture.ts'

let folder: string
let florence: ExportedFamily

/** Of another tiny model the tokenizer. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-florence-'))
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    await cp(join(referenceOf('vit-gpt2').folder, name), join(folder, name))
  const text = { vocab_size: 377, max_position_embeddings: 64 }
  await writeFile(join(folder, 'config.json'), JSON.stringify({ model_type: 'florence2', text_config: text }))
  await write({})
  florence = await openFlorence2(folder)
})
afterAll(() => rm(folder, { recursive: true }))

const write = (more: object) =>
  writeFile(
    join(folder, 'preprocessor_config.json'),
    JSON.stringify({
      image_processor_type: 'CLIPImageProcessor',
      size: { height: 96, width: 96 },
      crop_size: { height: 96, width: 96 },
      do_center_crop: false,
      ...more,
    }),
  )

const pictures = [{ count: 1, rows: 1, cols: 1 }]
const asked = async (request: object) => {
  const { ids } = await florence.encode({ text: '', pictures, ...request })
  return florence.decode(ids.slice(11, -1))
}

describe('openFlorence2', () => {
  it('puts the rows of a picture before the text', async () => {
    const { ids, places, start } = await florence.encode({ text: 'Hi', pictures })
    // 3 x 3 places, and their mean.
    expect(places).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    expect(ids.slice(0, 11)).toEqual([...Array(10).fill(1), 0])
    expect(ids.at(-1)).toBe(2)
    expect(start).toEqual([2, 0])
    expect(florence.imageRows(pictures[0]!)).toBe(10)
    const begun = await florence.encode({ text: 'Hi', beginning: 'a', pictures })
    expect(begun.ids).toEqual(ids)
    expect(begun.start!.slice(0, 2)).toEqual([2, 0])
    expect(florence.decode(begun.start!.slice(2))).toBe('a')
  })

  const detailed = 'Describe in detail what is shown in the image.'
  it.each([
    [{}, 'What does the image describe?'],
    [{ text: '<DETAILED_CAPTION>' }, detailed],
    [{ text: ' <DETAILED_CAPTION>\n' }, detailed],
    [{ task: '<DETAILED_CAPTION>' }, detailed],
    [{ task: 'detailed_caption' }, detailed],
    [{ text: '<MORE_DETAILED_CAPTION>' }, 'Describe with a paragraph what is shown in the image.'],
    [{ text: '<CAPTION_TO_PHRASE_GROUNDING> a $& cat' }, 'Locate the phrases in the caption: a $& cat'],
    [{ task: 'OPEN_VOCABULARY_DETECTION', text: 'a cat' }, 'Locate a cat in the image.'],
    [{ text: 'What is it?' }, 'What is it?'],
  ])('asks %j', async (request, question) => {
    expect(await asked(request)).toBe(question)
  })

  it.each([
    [{ task: 'SING' }, 'task_unknown', /"SING" is unknown; this model has <OCR>/],
    [{ text: '<CAPTION> of a cat' }, 'task_unknown', /<CAPTION> reads no text beside it/],
    [{ task: 'REGION_TO_OCR' }, 'task_unknown', /reads a text beside it/],
    [{ text: 'word '.repeat(60) }, 'prompt_too_long', /at most 52 behind a picture/],
  ])('refuses %j', async (request, code, message) => {
    await expect(asked(request)).rejects.toThrow(
      expect.objectContaining({ name: 'PromptError', code, message: expect.stringMatching(message) }),
    )
  })

  it('knows the tokens of tasks that a folder was trained for', async () => {
    const tokenizer = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8'))
    const template = tokenizer.added_tokens[0]
    const at = Math.max(...Object.values<number>(tokenizer.model.vocab)) + 10
    const contents = ['<DocVQA>', '<GENERATE_TAGS>', '<sep_here>', '<loc_7>', '<CAPTION>']
    const added_tokens = [
      ...tokenizer.added_tokens,
      ...contents.map((content, index) => ({ ...template, id: at + index, content })),
    ]
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify({ ...tokenizer, added_tokens }))
    const own = await openFlorence2(folder)
    expect(own.textTasks!.slice(-2)).toEqual(['<DocVQA>', '<GENERATE_TAGS>'])
    const ids = async (request: object) =>
      (await own.encode({ text: '', pictures, ...request })).ids.slice(own.imageRows(pictures[0]!) + 1, -1)
    expect(await ids({ task: 'generate_tags' })).toEqual([at + 1])
    const asked = await ids({ text: '<DocVQA>What is it?' })
    expect(asked[0]).toBe(at)
    expect(own.decode(asked.slice(1))).toBe('What is it?')
  })

  it("knows a folder's own tasks", async () => {
    const tasks = { '<GENERATE_TAGS>': 'List the tags.' }
    await write({ task_prompts_without_inputs: tasks, image_seq_length: 7 })
    const own = await openFlorence2(folder)
    expect(own.tasks).toEqual(['<GENERATE_TAGS>'])
    expect(own.imageRows(pictures[0]!)).toBe(7)
    const { ids } = await own.encode({ task: 'generate_tags', text: '', pictures })
    expect(own.decode(ids.slice(8, -1))).toBe('List the tags.')
    // Without its own there are those that all have.
    expect(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))).not.toHaveProperty('tasks')
  })
})
