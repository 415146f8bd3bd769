import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ModelFolderError } from '../onnx/weights.ts'
import { defaultLevels, levelsFile, readLevels, readLevelTable, writeLevelTable } from './levels.ts'

const encoder = { tokens: 65, layers: 3, width: 32, mlpWidth: 48, heads: 4 }
const none = { r: [0, 0, 0], weight: [0, 0, 0] }

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'levels-'))
})
afterEach(() => rm(folder, { recursive: true }))

const write = (content: unknown) =>
  writeFile(join(folder, levelsFile), typeof content === 'string' ? content : JSON.stringify(content))

describe('readLevels', () => {
  it('reads the table and works out what each level leaves', async () => {
    await write({
      levels: [none, { r: [8, 0, 4], weight: [3, 0, 1.5] }, { r: [30, 9, 9], weight: [150, 150, 150] }],
    })
    const levels = await readLevels(folder, encoder)
    expect(levels).toMatchObject([
      { ...none, tokensOut: 65, pruneRatio: 0, flopShare: 1 },
      { r: [8, 0, 4], weight: [3, 0, 1.5], tokensOut: 53, pruneRatio: 12 / 64 },
      // 35 tokens are below the threshold: later layers merge nothing.
      { r: [30, 9, 9], tokensOut: 35, pruneRatio: 30 / 64 },
    ])
    expect(levels[2]!.flopShare).toBeLessThan(levels[1]!.flopShare)
  })

  it('falls back to the defaults when there is no file', async () => {
    expect(await readLevels(folder, encoder)).toEqual(defaultLevels(encoder))
  })

  it.each<[string, unknown, RegExp]>([
    ['no JSON', '{"levels": [', /turbine\.json is not JSON.*Fix or remove it/],
    ['another shape', { levels: [[0, 0, 0]] }, /turbine\.json: levels\.0: .*Fix or remove it/],
    ['no levels', { levels: [] }, /turbine\.json: levels: /],
    [
      'a negative r',
      { levels: [none, { r: [-1, 0, 0], weight: [0, 0, 0] }] },
      /turbine\.json: levels\.1\.r\.0: /,
    ],
    [
      'half a token',
      { levels: [none, { r: [0.5, 0, 0], weight: [0, 0, 0] }] },
      /turbine\.json: levels\.1\.r\.0: /,
    ],
    ['too few layers', { levels: [{ r: [0, 0], weight: [0, 0] }] }, /r and weight must have 3 entries/],
    [
      'too many weights',
      { levels: [{ r: [0, 0, 0], weight: [0, 0, 0, 0] }] },
      /r and weight must have 3 entries/,
    ],
    [
      'a first level that merges',
      { levels: [{ r: [1, 0, 0], weight: [0, 0, 0] }] },
      /the first level must be/,
    ],
    ['the same level twice', { levels: [none, none] }, /must ascend/],
    [
      'levels out of order',
      { levels: [none, { ...none, r: [9, 0, 0] }, { ...none, r: [5, 0, 0] }] },
      /must ascend/,
    ],
  ])('refuses %s', async (_, content, message) => {
    await write(content)
    const error = await readLevels(folder, encoder).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(ModelFolderError)
    expect((error as Error).message).toMatch(message)
    expect((error as Error).message.startsWith(join(folder, levelsFile))).toBe(true)
  })
})

describe('writeLevelTable', () => {
  const table = {
    levels: [
      { ...none, quality: { exact: 1, cider: 1 } },
      { r: [8, 0, 4], weight: [3, 0, 1.5], quality: { exact: 0.98, cider: 0.99 } },
    ],
    calibration: {
      at: '2026-11-23T12:00:00.000Z',
      search: 1,
      device: 'cpu, float32',
      pictures: { search: 300, held_out: 200 },
      speed: {
        at: '2026-11-23T12:00:00.000Z',
        device: 'cpu, float32',
        batch: 16,
        images_per_second: [92, 101],
      },
    },
  }

  it('writes what is read again, a line for each level', async () => {
    await writeLevelTable(folder, table)
    expect(await readLevelTable(folder)).toEqual(table)
    expect(await readLevels(folder, encoder)).toMatchObject(table.levels)
    const lines = (await readFile(join(folder, levelsFile), 'utf8')).split('\n')
    expect(lines.filter((line) => line.includes('"r"'))).toHaveLength(2)
  })

  it('takes the place of an older one and leaves nothing else', async () => {
    await write({ levels: [none] })
    await writeLevelTable(folder, { levels: table.levels })
    expect(await readLevelTable(folder)).toEqual({ levels: table.levels })
    expect(await readdir(folder)).toEqual([levelsFile])
  })

  it('is undefined where there is none', async () => {
    expect(await readLevelTable(folder)).toBeUndefined()
  })
})

describe('defaultLevels', () => {
  it('merges the same number in every layer, up to 83 % in all', () => {
    const levels = defaultLevels({ tokens: 577, layers: 12, width: 768, mlpWidth: 3072, heads: 12 })
    expect(levels.map(({ r }) => r[0])).toEqual([0, 8, 16, 23, 31, 39])
    expect(levels.at(-1)!.r).toEqual(new Array(12).fill(39))
    expect(levels.at(-1)!.weight).toEqual(new Array(12).fill(150))
    expect(levels.at(-1)!.pruneRatio).toBeCloseTo((12 * 39) / 576)
  })

  it('starts with the unpruned model and ascends in tokens merged, whatever the encoder', () => {
    const sizes = fc.record({
      tokens: fc.integer({ min: 2, max: 1025 }),
      layers: fc.integer({ min: 1, max: 40 }),
    })
    fc.assert(
      fc.property(sizes, (size) => {
        const levels = defaultLevels({ ...encoder, ...size })
        expect(levels[0]!.pruneRatio).toBe(0)
        levels.slice(1).forEach((level, i) => {
          expect(level.tokensOut).toBeLessThan(levels[i]!.tokensOut)
        })
      }),
    )
  })
})
