import { crc32 } from 'node:zlib'
import { SHAPES } from './shapes.ts'

const PLACE_WORDS = {
  meadow: 'in a meadow',
  desert: 'in the desert',
  sea: 'at sea',
  snow: 'in the snow',
  road: 'on a road',
} as const

export type Kind = keyof typeof SHAPES
export const KINDS = Object.keys(SHAPES) as Kind[]

export const COLORS = ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'white'] as const
export type Color = (typeof COLORS)[number]

export const SIZES = ['small', 'large'] as const
export type ObjectSize = (typeof SIZES)[number]

export type Ground = keyof typeof PLACE_WORDS
export const PLACES = Object.keys(PLACE_WORDS) as Ground[]

export const TIMES = ['by day', 'at sunset', 'at night'] as const
export type Time = (typeof TIMES)[number]

/**
 * Spatial relations of the objects, in the order of mention: `X`, `X to the left of Y`, `X above Y`,
 * `X above Y and Z` (Y left of Z), `X and Y above Z` (X left of Y), `X between Y and Z` (Y left, Z right of X).
 */
export const RELATIONS = ['alone', 'left', 'above', 'above-two', 'two-above', 'between'] as const
export type Relation = (typeof RELATIONS)[number]

/** Object in the caption. */
export type Mention = { kind: Kind; color: Color; size: ObjectSize }

/** Content of a caption; objects are in the order of mention. */
export type Story = { objects: Mention[]; relation: Relation; place: Ground; time: Time }

/** True for captions that are held out of training: one in fifty, by a hash of the text. */
export function isHeldOut(text: string): boolean {
  return crc32(text) % 50 === 0
}

/** The only correct caption of a scene. */
export function caption({ objects, relation, place, time }: Story): string {
  const [x, y, z] = objects.map(({ size, color, kind }) => `a ${size} ${color} ${kind}`)
  const sentence = {
    alone: `${x}`,
    left: `${x} to the left of ${y}`,
    above: `${x} above ${y}`,
    'above-two': `${x} above ${y} and ${z}`,
    'two-above': `${x} and ${y} above ${z}`,
    between: `${x} between ${y} and ${z}`,
  }[relation]
  return `${sentence} ${PLACE_WORDS[place]} ${time}`
}

/** Every word of the captions, in a fixed order: the model's vocabulary. */
export function captionWords(): string[] {
  const grammar = ['a', 'to', 'the', 'left', 'of', 'above', 'and', 'between', 'picture', 'photo']
  const phrases = [...SIZES, ...COLORS, ...KINDS, ...Object.values(PLACE_WORDS), ...TIMES]
  return [...new Set([...grammar, ...phrases.flatMap((phrase) => phrase.split(' '))])]
}
