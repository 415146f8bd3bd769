import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openFamily } from '../models/exported/open-family.ts'
import { type PictureRule, pictureBytes, readPictureConfig } from '../models/pictures.ts'
import type { PromptRequest } from '../models/prompts.ts'
import {
  type Reference,
  type ReferenceCase,
  type ReferenceView,
  referenceOf,
} from '../models/reference.fixture.ts'
import { openWdTagger } from '../models/wd-tagger.ts'
import { preprocess } from './preprocess.ts'

const kinds = ['squash', 'crop', 'pad', 'tiles', 'patches'] as const
const families = ['smolvlm', 'llava', 'qwen2-vl', 'florence2', 'vit-gpt2']

let scratch: string
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'turbine-families-'))
})
afterAll(() => rm(scratch, { recursive: true }))

/** The rule of a folder whose configuration has other options. */
async function ruleOf({ folder }: Reference, { options }: ReferenceView): Promise<PictureRule> {
  const config = JSON.parse(await readFile(join(folder, 'preprocessor_config.json'), 'utf8'))
  await writeFile(join(scratch, 'preprocessor_config.json'), JSON.stringify({ ...config, ...options }))
  return (await readPictureConfig(scratch, kinds)).rule
}

function requestOf({ views }: Reference, given: ReferenceCase): PromptRequest {
  const textOf = (role: string) =>
    given.messages
      .filter((message) => message.role === role)
      .flatMap(({ content }) => content.flatMap(({ text }) => (text === undefined ? [] : [text])))
      .join('')
  const pictures = given.views.map((name) => views[name]!.shape)
  return { system: textOf('system'), text: textOf('user'), beginning: given.beginning, pictures }
}

describe('wd-tagger', () => {
  const reference = referenceOf('wd-tagger')

  it.each(Object.entries(reference.views))("makes the pixels of its authors' script: %s", async (_, view) => {
    const { picture } = await openWdTagger(reference.folder)
    const pixels = new Uint8Array(pictureBytes(picture, view.shape))
    await preprocess(reference.picture(view), picture, pixels)
    expect(Buffer.compare(pixels, reference.pixels(view))).toBe(0)
  })
})

describe.each(families)('%s', (name) => {
  const reference = referenceOf(name)
  const family = openFamily(reference.folder)

  it.each(Object.entries(reference.views))('makes the pixels of Hugging Face: %s', async (_, view) => {
    const rule = await ruleOf(reference, view)
    let pixels = new Uint8Array(0)
    const { shape } = await preprocess(reference.picture(view), rule, (shape) => {
      pixels = new Uint8Array(pictureBytes(rule, shape))
      return pixels
    })
    const { rows, cols } = rule.kind === 'tiles' || rule.kind === 'patches' ? view.shape : shape
    expect(shape).toEqual({ count: view.shape.count, rows, cols })
    expect((await family).imageRows(shape)).toBe(view.tokens)
    const expected = reference.pixels(view)
    expect(pixels.length).toBe(expected.length)
    const differences = pixels.reduce((sum, value, at) => sum + Math.abs(value - expected[at]!), 0)
    // These pictures are small, so that they are resampled exactly.
    expect(differences / pixels.length).toBeLessThan(0.001)
  })

  it.each(reference.cases.map((given) => [given.name, given] as const))(
    'makes the ids of Hugging Face: %s',
    async (_, given) => {
      const { encode, positions } = await family
      const request = requestOf(reference, given)
      const prompt = await encode(request)
      expect(prompt.ids.length > 0 ? prompt.ids : prompt.start).toEqual(given.inputIds)
      const { image } = reference.ids
      if (image !== undefined)
        expect(prompt.places).toEqual(given.inputIds.flatMap((id, at) => (id === image ? [at] : [])))
      if (given.beginning && prompt.answer !== undefined)
        expect(given.beginning.trim()).toBe((await family).decode(prompt.ids.slice(prompt.answer)).trim())
      expect(positions !== undefined).toBe(given.positionIds !== undefined)
      if (positions) {
        const { positions: axes, next } = positions(prompt, request.pictures)
        expect(axes).toEqual(given.positionIds)
        expect(next).toBe(prompt.ids.length + Number(given.ropeDelta))
      }
    },
  )
})
