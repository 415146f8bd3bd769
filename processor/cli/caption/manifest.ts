import { hash } from 'node:crypto'
import { isAbsolute, join } from 'node:path'
import { TurbineError } from '../../../edge/contract/errors.ts'
import type { ManifestLine } from '../../../edge/contract/lines.ts'
import { parseLocalLine } from '../../../edge/contract/manifest-line.ts'

/** An image to caption, or the reason why an entry names none. */
export interface Source {
  /** What names the image in the output: its path or address as given, or `sha256:...` for a `data:` URL. */
  image: string
  customId?: string
  /** Text that its caption continues. */
  prompt?: string
  /** Highest share of its tokens that may be merged, 0 to 1. */
  maxPrune?: number
  /** A path, an address or a `data:` URL; absent when there is an `error`. */
  location?: string
  error?: TurbineError
}

export interface ManifestPlace {
  /** What the manifest is called in messages. */
  manifest: string
  /** Where relative paths start. */
  folder: string
  /** Id of the model that captions; a line may name no other. Default: any. */
  model?: string
}

export const isAddress = (text: string) => /^(data:|[a-z][a-z0-9+.-]*:\/\/)/i.test(text)

/**
 * The image that a line of a manifest names. Undefined for an empty line. A line that names no image becomes a source
 * with an `error`, called `<manifest>:<line>` in the output.
 */
export function lineSource(
  line: ManifestLine,
  { manifest, folder, model }: ManifestPlace,
): Source | undefined {
  const read = parseLocalLine(line, { model })
  if (read === undefined) return undefined
  if ('fault' in read) {
    const { code, message } = read.fault
    const error = new TurbineError(`Line ${line.number} of ${manifest}: ${message}`, { status: 400, code })
    return { image: `${manifest}:${line.number}`, error }
  }
  const { customId, imageUrl, prompt, maxPrune } = read.ask
  return { ...locate(imageUrl, folder), customId: customId ?? undefined, prompt, maxPrune }
}

/** A source that is named by itself: relative paths start at `folder`. */
export function locate(image: string, folder = ''): Source {
  if (/^data:/i.test(image)) return { image: nameOfData(image), location: image }
  if (isAddress(image) || isAbsolute(image)) return { image, location: image }
  return { image, location: join(folder, image) }
}

/** A `data:` URL is too long to repeat in the output; the hash of its bytes says which image it was. */
function nameOfData(url: string): string {
  const bytes = Buffer.from(url.slice(url.indexOf(',') + 1), 'base64')
  return `sha256:${hash('sha256', bytes)}`
}
