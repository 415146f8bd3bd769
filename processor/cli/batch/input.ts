import { createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { type BatchEndpoint, batchEndpoints } from '../../../edge/contract/batch.ts'
import { maxBodyBytes } from '../../../edge/contract/caption.ts'
import { type ManifestLine, readLines } from '../../../edge/contract/lines.ts'
import { isAddress } from '../caption/manifest.ts'
import { UsageError } from '../errors.ts'
import { quoteForShell } from '../format.ts'

/** Work for a batch: an address that the service reads by itself, or a file that it has to be brought. */
export type BatchInput =
  | { uri: string }
  | {
      path: string
      /** What it is called at the service. */
      filename: string
      bytes: number
      /** What its lines ask for, where they say. */
      endpoint?: BatchEndpoint
    }

/** A line holds at most an image as base64 and something around it; only so much of a file is looked at. */
const firstLineBytes = 2 * maxBodyBytes

/**
 * Looks at what was named on the command line, as far as that is cheap: it is there, is not empty and is text. With
 * `-` standard input is kept in a temporary file until `use` is done.
 * @throws UsageError
 */
export async function withBatchInput<T>(
  name: string,
  { stdin, signal }: { stdin: AsyncIterable<Uint8Array>; signal?: AbortSignal },
  use: (input: BatchInput) => Promise<T>,
): Promise<T> {
  if (name.startsWith('s3://')) return use({ uri: name })
  if (name !== '-') return use(await inspectFile(name, name))
  const folder = await mkdtemp(join(tmpdir(), 'turbine-batch-'))
  try {
    const path = join(folder, 'stdin.jsonl')
    await pipeline(stdin, createWriteStream(path), { signal })
    return await use(await inspectFile(path, 'Standard input'))
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** `name` is what messages call it. */
async function inspectFile(path: string, name: string): Promise<BatchInput> {
  if (isAddress(path))
    throw new UsageError(`${path} is no address that a batch can be read from. Use s3://..., or download it.`)
  const found = await stat(path).catch(() => undefined)
  if (!found) throw new UsageError(`There is no file ${path}.`)
  if (found.isDirectory())
    throw new UsageError(
      `${path} is a folder of this machine, which the service cannot read. Caption it here with ` +
        `"npx turbine caption ${quoteForShell(path)}", or submit s3://bucket/prefix/ for all images below it.`,
    )
  const line = await firstLine(path)
  if (!line)
    throw new UsageError(`${name} is empty. A line is {"image_url": "https://...", "custom_id": "..."}.`)
  return { path, filename: basename(path), bytes: found.size, endpoint: endpointOf(line, name) }
}

/** The first line that is not empty. */
async function firstLine(path: string): Promise<ManifestLine | undefined> {
  for await (const lines of readLines(createReadStream(path, { end: firstLineBytes }))) {
    const line = lines.find(({ text }) => text?.trim() !== '')
    if (line) return line
  }
  return undefined
}

/**
 * The endpoint that OpenAI's form of a line names; undefined for the short forms and for lines that cannot be read,
 * which the batch itself reports one by one.
 * @throws UsageError when nothing in the file can be work for the service
 */
function endpointOf(line: ManifestLine, name: string): BatchEndpoint | undefined {
  const { number, unreadable } = line
  const text = line.text?.trim() ?? ''
  if (unreadable === 'not_utf8' || text.includes('\0'))
    throw new UsageError(`${name} is no text. A batch is a file of JSON lines.`)
  if (unreadable) return undefined
  if (!/^[{["]/.test(text)) {
    if (isAddress(text)) return undefined
    throw new UsageError(
      `Line ${number} of ${name} is no address. The service reads https://, s3:// and data: addresses; images of ` +
        'this machine are captioned by "npx turbine caption".',
    )
  }
  const url = urlOf(text)
  const endpoint = batchEndpoints.find((known) => known === url)
  if (typeof url === 'string' && !endpoint)
    throw new UsageError(
      `Line ${number} of ${name} asks for ${url}. Batches can ask for ${batchEndpoints.join(', ')}.`,
    )
  return endpoint
}

function urlOf(text: string): unknown {
  try {
    return JSON.parse(text)?.url
  } catch {
    return undefined
  }
}
