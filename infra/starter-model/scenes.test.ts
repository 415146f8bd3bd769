import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Scene } from './scene.ts'
import {
  caption,
  captionWords,
  heldOutScenes,
  isHeldOut,
  patchLabels,
  renderScene,
  SIDE,
  sampleScene,
  sceneSequence,
  sceneSvg,
  seededRandom,
} from './scenes.ts'

const MENTION =
  '(?:a (?:small|large) (?:red|orange|yellow|green|blue|purple|pink|white) ' +
  '(?:circle|square|triangle|star|heart|moon|cloud|tree|house|fish|boat|car))'
const WHERE = '(?:in a meadow|in the desert|at sea|in the snow|on a road) (?:by day|at sunset|at night)'
const GRAMMAR = new RegExp(
  `^${MENTION}(?: to the left of ${MENTION}| above ${MENTION}(?: and ${MENTION})?` +
    `| and ${MENTION} above ${MENTION}| between ${MENTION} and ${MENTION})? ${WHERE}$`,
)

const seeds = fc.integer({ min: 0, max: 2 ** 31 })

describe('caption', () => {
  it('follows the grammar and uses only the vocabulary', () => {
    const words = new Set(captionWords())
    fc.assert(
      fc.property(seeds, (seed) => {
        const text = caption(sampleScene(seededRandom(seed)))
        expect(text).toMatch(GRAMMAR)
        expect(text.split(' ').filter((word) => !words.has(word))).toEqual([])
      }),
    )
  })

  it('names the objects in the order of the relation', () => {
    const scene: Scene = { ...sampleScene(seededRandom(1), { objects: 3 }), place: 'sea', time: 'at night' }
    const [x, y, z] = scene.objects.map((object) => `a ${object.size} ${object.color} ${object.kind}`)
    expect(caption({ ...scene, relation: 'between' })).toBe(`${x} between ${y} and ${z} at sea at night`)
    expect(caption({ ...scene, relation: 'two-above' })).toBe(`${x} and ${y} above ${z} at sea at night`)
  })
})

describe('the split', () => {
  it('holds out about one caption in fifty, by its text alone', () => {
    const random = seededRandom(3)
    const texts = Array.from({ length: 5000 }, () => caption(sampleScene(random)))
    const share = texts.filter(isHeldOut).length / texts.length
    expect(share).toBeGreaterThan(0.013)
    expect(share).toBeLessThan(0.027)
  })

  it('never mixes: training scenes are not held out, held-out scenes all are', () => {
    const training = sceneSequence(1, 'training')
    for (let i = 0; i < 500; i++) expect(isHeldOut(caption(training.next().value))).toBe(false)
    for (const scene of heldOutScenes(1, 100)) expect(isHeldOut(caption(scene))).toBe(true)
  })
})

describe('sampleScene', () => {
  it('keeps the promised number of objects inside the picture and apart', () => {
    fc.assert(
      fc.property(seeds, fc.constantFrom(1, 2, 3), (seed, count) => {
        const { objects } = sampleScene(seededRandom(seed), { objects: count as 1 | 2 | 3 })
        expect(objects).toHaveLength(count)
        for (const [i, a] of objects.entries()) {
          expect(Math.min(a.x, a.y, SIDE - a.x, SIDE - a.y)).toBeGreaterThan(0.6 * a.radius)
          for (const b of objects.slice(i + 1)) {
            expect(Math.max(Math.abs(a.x - b.x), Math.abs(a.y - b.y))).toBeGreaterThan(
              0.6 * (a.radius + b.radius),
            )
          }
        }
      }),
    )
  })
})

describe('renderScene', () => {
  it('gives the same pixels for the same seed, and others for another seed', async () => {
    const draw = async (seed: number) => Buffer.from(await renderScene(heldOutScenes(seed, 1)[0]!))
    const first = await draw(5)
    expect(first).toHaveLength(SIDE * SIDE * 3)
    expect((await draw(5)).equals(first)).toBe(true)
    expect((await draw(6)).equals(first)).toBe(false)
  })

  it('needs nothing but the plain data of the scene', async () => {
    const scene = heldOutScenes(8, 1)[0]!
    const copy: Scene = JSON.parse(JSON.stringify(scene))
    expect(sceneSvg(copy)).toBe(sceneSvg(scene))
    expect(Buffer.from(await renderScene(copy)).equals(await renderScene(scene))).toBe(true)
  })
})

describe('patchLabels', () => {
  it('labels exactly the patches that an object covers', async () => {
    for (const scene of heldOutScenes(11, 20)) {
      const labels = patchLabels(scene)
      for (const [i, object] of scene.objects.entries()) {
        const cover = await coverOf({ ...scene, objects: [object] })
        for (const [patch, share] of cover.entries()) {
          if (share > 0.45) expect(labels[patch]).toBeGreaterThan(0)
          if (labels[patch] === i + 1) expect(share).toBeGreaterThan(0.05)
        }
      }
      expect(new Set(labels.filter((label) => label > 0)).size).toBe(scene.objects.length)
    }
  })
})

/** Share of each patch's pixels that change when the objects are taken out of the picture. */
async function coverOf(scene: Scene): Promise<number[]> {
  const full = await renderScene(scene)
  const empty = await renderScene({ ...scene, objects: [] })
  const changed = new Array<number>(196).fill(0)
  for (let pixel = 0; pixel < SIDE * SIDE; pixel++) {
    const patch = Math.floor(Math.floor(pixel / SIDE) / 16) * 14 + Math.floor((pixel % SIDE) / 16)
    if ([0, 1, 2].some((c) => full[3 * pixel + c] !== empty[3 * pixel + c])) changed[patch]! += 1 / 256
  }
  return changed
}
