import { hash } from 'node:crypto'
import { isAbsolute, join } from 'node:path'
import type { LineReading } from '../../../edge/contract/batch.ts'
import type { CaptionEnd, CaptionText, RequestWarning } from '../../../edge/contract/caption.ts'
import { TurbineError } from '../../../edge/contract/errors.ts'
import type { Generation } from '../../../edge/contract/generation.ts'
import type { ManifestLine } from '../../../edge/contract/lines.ts'
import { parseLocalLine } from '../../../edge/contract/manifest-line.ts'
import { decodeDataUrlNow } from '../../../infra/fetch/data-url.ts'
import type { TableOptions } from './tables/columns.ts'
import { mapLine } from './tables/list-row.ts'

/** Image to caption, or the error of an invalid entry. */
export interface Source extends CaptionEnd {
  /** Name in the output: the path or URL as given, or `sha256:...` for a `data:` URL and for what is too long for either. */
  image: string
  customId?: string
  /** What it is asked with, for the output. */
  prompt?: string
  request?: CaptionText
  settings?: Generation
  n?: number
  warnings?: readonly RequestWarning[]
  /** Paths or URLs of the other images of a request. */
  others?: readonly string[]
  /** Highest share of image tokens to merge, 0 to 1. */
  maxPrune?: number
  /** A path or URL; absent with `bytes` or an `error`. */
  location?: string
  /** The image itself, of a file that has its pictures in it. */
  bytes?: Uint8Array
  /** `<table>:<number>` of a row that has columns, or the key of a sample: what makes it another one. */
  row?: string
  /** What goes into the output beside the caption. */
  columns?: Record<string, unknown>
  error?: TurbineError
}

export interface ManifestPlace {
  /** Name of the manifest in messages. */
  manifest: string
  /** Base folder of relative paths. */
  folder: string
  /** Model id that lines may name; default: any. */
  model?: string
  /** How lines are read. */
  reading?: LineReading
  /** Path of the manifest, which names its rows; default: `manifest`. */
  path?: string
  tables?: TableOptions
}

export const isAddress = (text: string) => /^(data:|[a-z][a-z0-9+.-]*:\/\/)/i.test(text)

/** Parses a manifest line; undefined for an empty one. An invalid line is named `<manifest>:<line>` in the output. */
export function lineSource(
  line: ManifestLine,
  { manifest, folder, model, reading, path = manifest, tables }: ManifestPlace,
): Source | undefined {
  const mapped = mapLine(line, tables)
  const read = parseLocalLine(mapped.line, { model, reading })
  if (read === undefined) return undefined
  if ('fault' in read) {
    const { code, message } = read.fault
    const error = new TurbineError(`Line ${line.number} of ${manifest}: ${message}`, { status: 400, code })
    return { image: `${manifest}:${line.number}`, error }
  }
  const { columns } = mapped
  const { customId, imageUrls, model: _, ignored: __, ...asked } = read.ask
  const [image, ...others] = imageUrls
  return {
    ...locate(image, folder),
    ...(others.length > 0 && { others: others.map((each) => locate(each, folder).location!) }),
    ...{ customId: customId ?? undefined, prompt: promptOf(asked.request) },
    ...asked,
    ...(columns && { row: `${path}:${line.number}`, columns }),
  }
}

/** What a line is asked with, which makes it another one than one with the same image. */
const promptOf = ({ task, text, beginning }: CaptionText = {}): string | undefined =>
  [task, text, beginning].filter((part) => part !== undefined).join('') || undefined

/** More than any path or address has. */
const maxNameCharacters = 8192

/** Makes a source of a path, relative to `folder`, or a URL. */
export function locate(image: string, folder = ''): Source {
  if (/^data:/i.test(image)) return { image: nameOfData(image), location: image }
  if (image.length > maxNameCharacters) return { image: hashName(image), location: image }
  if (isAddress(image) || isAbsolute(image)) return { image, location: image }
  return { image, location: join(folder, image) }
}

/** Names a `data:` URL by the hash of its bytes, and one that cannot be read by that of its text. */
function nameOfData(url: string): string {
  try {
    return hashName(decodeDataUrlNow(url))
  } catch {
    return hashName(url)
  }
}

const hashName = (content: string | Uint8Array) => `sha256:${hash('sha256', content)}`
