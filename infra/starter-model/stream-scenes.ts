/**
 * Writes drawn scenes to stdout, without end, for the training and evaluation scripts.
 *
 *     node infra/starter-model/stream-scenes.ts --seed 1 --split training
 *
 * First one line of JSON: `{ side, patch, kinds, colors, sizes, places, times, relations, words, captionBytes,
 * recordBytes }`. Then records of `recordBytes` bytes each:
 *
 * | bytes | content |
 * | --- | --- |
 * | side x side x 3 | pixels, RGB, row by row |
 * | (side / patch) ^ 2 | label of each patch: 0 background, i the i-th mentioned object |
 * | 3 | place, time, relation: indexes into the lists of the first line |
 * | 9 | kind, colour, size of the first, second and third object; 255 where there is none |
 * | captionBytes | the caption, ASCII, padded with zero bytes |
 */
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import sharp from 'sharp'
import type { Scene } from './scene.ts'
import * as scenes from './scenes.ts'

const CAPTION_BYTES = 144
const ABSENT = 255

function header() {
  const pixels = scenes.SIDE ** 2 * 3
  const patches = (scenes.SIDE / scenes.PATCH) ** 2
  return {
    side: scenes.SIDE,
    patch: scenes.PATCH,
    kinds: scenes.KINDS,
    colors: scenes.COLORS,
    sizes: scenes.SIZES,
    places: scenes.PLACES,
    times: scenes.TIMES,
    relations: scenes.RELATIONS,
    words: scenes.captionWords(),
    captionBytes: CAPTION_BYTES,
    recordBytes: pixels + patches + 3 + 9 + CAPTION_BYTES,
  }
}

async function record(scene: Scene): Promise<Buffer> {
  const text = Buffer.alloc(CAPTION_BYTES)
  text.write(scenes.caption(scene), 'ascii')
  const objects = [0, 1, 2].flatMap((i) => {
    const object = scene.objects[i]
    if (!object) return [ABSENT, ABSENT, ABSENT]
    return [
      scenes.KINDS.indexOf(object.kind),
      scenes.COLORS.indexOf(object.color),
      scenes.SIZES.indexOf(object.size),
    ]
  })
  const surroundings = [
    scenes.PLACES.indexOf(scene.place),
    scenes.TIMES.indexOf(scene.time),
    scenes.RELATIONS.indexOf(scene.relation),
  ]
  return Buffer.concat([
    await scenes.renderScene(scene),
    scenes.patchLabels(scene),
    Uint8Array.from([...surroundings, ...objects]),
    text,
  ])
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { seed: { type: 'string', default: '1' }, split: { type: 'string', default: 'training' } },
  })
  const { seed, split } = values
  if (split !== 'training' && split !== 'held-out') throw new Error('--split must be training or held-out')
  sharp.concurrency(1)
  process.stdout.on('error', () => process.exit(0))
  process.stdout.write(`${JSON.stringify(header())}\n`)
  for (const scene of scenes.sceneSequence(Number(seed), split)) {
    if (!process.stdout.write(await record(scene))) await once(process.stdout, 'drain')
  }
}

await main()
