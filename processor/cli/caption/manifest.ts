import { hash } from 'node:crypto'
import { isAbsolute, join } from 'node:path'
import { TurbineError } from '../../../edge/contract/errors.ts'
import type { Line } from './lines.ts'

/** An image to caption, or the reason why an entry names none. */
export interface Source {
  /** What names the image in the output: its path or address as given, or `sha256:...` for a `data:` URL. */
  image: string
  customId?: string
  /** A path, an address or a `data:` URL; absent when there is an `error`. */
  location?: string
  error?: TurbineError
}

const remedy = 'A line is {"image": "path, https address or data: URL", "custom_id": "..."}, or a bare path.'

export const isAddress = (text: string) => /^(data:|[a-z][a-z0-9+.-]*:\/\/)/i.test(text)

/**
 * Reads one line of a manifest: `{"image": ...}` or `{"image_url": ...}`, with an optional `custom_id`, or a bare
 * path or address. Relative paths start at `folder`. Undefined for an empty line. A line that names no image
 * becomes a source with an `error`, called `<manifest>:<line>` in the output.
 */
export function parseManifestLine(
  line: Line,
  { manifest, folder }: { manifest: string; folder: string },
): Source | undefined {
  const text = line.text.trim()
  if (text === '') return undefined
  const wrong = (code: string, problem: string): Source => ({
    image: `${manifest}:${line.number}`,
    error: new TurbineError(`Line ${line.number} of ${manifest} ${problem} ${remedy}`, { status: 400, code }),
  })
  if (!/^[{["]/.test(text)) return locate(text, folder)

  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return wrong('invalid_json_line', 'is not valid JSON.')
  }
  if (typeof value === 'string' && value !== '') return locate(value, folder)
  if (!isRecord(value)) return wrong('invalid_json_line', 'is not an object.')
  const image = value.image ?? urlOf(value.image_url)
  if (typeof image !== 'string' || image === '') return wrong('missing_required_parameter', 'has no "image".')
  const customId = value.custom_id
  if (customId === undefined || customId === null) return locate(image, folder)
  if (typeof customId !== 'string' && typeof customId !== 'number')
    return wrong('invalid_custom_id', 'has a "custom_id" that is not a string.')
  return { ...locate(image, folder), customId: String(customId) }
}

/** `image_url` is an address, or `{"url": ...}` as in OpenAI's messages. */
const urlOf = (value: unknown) => (isRecord(value) ? value.url : value)

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function locate(image: string, folder: string): Source {
  if (/^data:/i.test(image)) return { image: nameOfData(image), location: image }
  if (isAddress(image) || isAbsolute(image)) return { image, location: image }
  return { image, location: join(folder, image) }
}

/** A `data:` URL is too long to repeat in the output; the hash of its bytes says which image it was. */
export function nameOfData(url: string): string {
  const bytes = Buffer.from(url.slice(url.indexOf(',') + 1), 'base64')
  return `sha256:${hash('sha256', bytes)}`
}
