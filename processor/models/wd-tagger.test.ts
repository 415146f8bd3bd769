import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { isTagger } from './exported/open-family.ts'
import { referenceOf } from './reference.fixture.ts'
import { openWdTagger } from './wd-tagger.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-tagger-'))
  await write('config.json', {
    architecture: 'vit_base_patch16_224',
    num_classes: 8,
    pretrained_cfg: { input_size: [3, 64, 64] },
  })
  await write('selected_tags.csv', tags)
})
afterEach(() => rm(folder, { recursive: true }))
const write = (name: string, content: unknown) =>
  writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content))

const tags = `tag_id,name,category,count
9999999,general,9,807858
9999998,sensitive,9,3771700
470575,1girl,0,4225150
212816,long_hair,0,2982517
13197,>_<,0,100
13198,"hakurei_reimu_(a,b)",4,100
13199,hidden_thing,7,100
13200,o_o,0,100
`

interface TaggerCase {
  name: string
  scores: number[]
  rating: string
  general: string[]
  characters: string[]
}

describe('a tagger', () => {
  const { folder, cases } = referenceOf('wd-tagger')
  const tagger = openWdTagger(folder)

  it.each((cases as unknown as TaggerCase[]).map((given) => [given.name, given] as const))(
    'describes %s as its reference does',
    async (_, { scores, rating, general, characters }) => {
      const described = (await tagger).describe(Float32Array.from(scores))
      const of = (wanted: string) =>
        described.tags.flatMap(({ name, category }) => (category === wanted ? [name] : []))
      expect(of('general')).toEqual(general)
      expect(of('character')).toEqual(characters)
      expect(described.rating?.name).toBe(rating)
      expect(described.caption).toBe([...characters, ...general].join(', '))
    },
  )
})

describe('openWdTagger', () => {
  it('describes a picture by its tags', async () => {
    const tagger = await openWdTagger(folder)
    expect(tagger.picture).toEqual({
      kind: 'pad',
      side: 64,
      resample: 'bicubic',
      background: [255, 255, 255],
    })
    expect(tagger.normalise).toMatchObject({ channels: 'bgr', rescale: 1 })
    const scores = Float32Array.of(0.2, 0.7, 0.9, 0.36, 0.5, 0.86, 1, 0.3)
    const described = tagger.describe(scores)
    expect(described.caption).toBe('hakurei_reimu_(a,b), 1girl, >_<, long_hair')
    expect(described.tags[1]).toEqual({ name: '1girl', category: 'general', score: Math.fround(0.9) })
    expect(described.rating).toMatchObject({ name: 'sensitive', score: Math.fround(0.7) })
    expect(tagger.describe(scores, { general: 0.6, character: 0.9 }).caption).toBe('1girl')
    expect(tagger.describe(new Float32Array(8)).caption).toBe('')
    expect(() => tagger.describe(new Float32Array(7))).toThrow(RangeError)
  })

  it('is known by its files', async () => {
    expect(await isTagger(folder)).toBe(false)
    await write('model.onnx', '')
    expect(await isTagger(folder)).toBe(true)
  })

  it('takes the usual size where a folder says none', async () => {
    await write('config.json', {})
    expect((await openWdTagger(folder)).picture.side).toBe(448)
  })

  it.each([
    ['other tags than classes', 'config.json', { num_classes: 9 }, /has 8 tags; config.json asks for 9/],
    ['a picture that is no square', 'config.json', { pretrained_cfg: { input_size: [3, 4, 5] } }, /square/],
    ['no tags', 'selected_tags.csv', 'tag_id,name,category\n', /1 to 200000 tags/],
    ['columns of something else', 'selected_tags.csv', 'a,b\n1,2\n', /line 2 needs a name/],
    ['broken quotes', 'selected_tags.csv', 'name,category\n"a,0\n', /is not CSV/],
    ['lines of other lengths', 'selected_tags.csv', 'name,category\na,0,1\n', /is not CSV/],
  ])('refuses %s in one line', async (_, name, content, message) => {
    await write(name, content)
    await expect(openWdTagger(folder)).rejects.toMatchObject({
      name: 'ModelFolderError',
      message: expect.stringMatching(message),
    })
  })
})
