import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import type { PictureShape } from './pictures.ts'

const models = new URL('../../test/fixtures/models/', import.meta.url)

/** A picture under one setting of the image processor. */
export interface ReferenceView {
  picture: string
  size: [width: number, height: number]
  /** What differs from `preprocessor_config.json`. */
  options: Record<string, unknown>
  shape: PictureShape
  tokens: number
  resampled: boolean
  pixels: string
  pixelsShape: number[]
}

interface Part {
  type: 'image' | 'text'
  text?: string
}

export interface ReferenceCase {
  name: string
  messages: { role: string; content: Part[] }[]
  beginning?: string
  views: string[]
  inputIds: number[]
  /** Of time, height and width, `[3][ids]`. */
  positionIds?: number[][]
  [key: string]: unknown
}

/** What Hugging Face's `transformers` answers for a tiny model (`test/fixtures/models/README.md`). */
export interface Reference {
  folder: string
  ids: { image: number; end: number[]; pad: number }
  views: Record<string, ReferenceView>
  cases: ReferenceCase[]
  pixels(view: ReferenceView): Uint8Array
  picture(view: ReferenceView): Uint8Array
}

export const hasReference = (family: string) => existsSync(new URL(`${family}/reference.json`, models))

export function referenceOf(family: string): Reference {
  const folder = new URL(`${family}/`, models)
  const reference = JSON.parse(readFileSync(new URL('reference.json', folder), 'utf8'))
  return {
    ...reference,
    folder: fileURLToPath(folder).replace(/\/$/, ''),
    pixels: (view) => gunzipSync(readFileSync(new URL(view.pixels, folder))),
    picture: (view) => readFileSync(new URL(view.picture, models)),
  }
}
