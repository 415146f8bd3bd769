import { createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { type BatchEndpoint, batchEndpoints } from '../../../edge/contract/batch.ts'
import { maxBodyBytes } from '../../../edge/contract/caption.ts'
import { type ManifestLine, readLines } from '../../../edge/contract/lines.ts'
import { ListFileError, readList } from '../../../edge/contract/lists/list-file.ts'
import { isAddress } from '../caption/manifest.ts'
import { UsageError } from '../errors.ts'
import { quoteForShell } from '../format.ts'

/**
 * Input of a batch: a URI that the service reads itself, or a file to upload as `filename`, with the endpoint that its
 * lines name.
 */
export type BatchInput =
  | { uri: string }
  | { path: string; filename: string; bytes: number; endpoint?: BatchEndpoint }

/** Bytes read to find the first line: room for an image as base64. */
const firstLineBytes = 2 * maxBodyBytes

/**
 * Checks an input as far as that is cheap: it exists, is not empty and is text. Standard input (`-`) is kept in a temporary
 * file until `use` is done.
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

async function inspectFile(path: string, name: string): Promise<BatchInput> {
  if (isAddress(path))
    throw new UsageError(`${path} cannot be the input of a batch. Use s3://..., or download it.`)
  const found = await stat(path).catch(() => undefined)
  if (!found) throw new UsageError(`There is no file ${path}.`)
  if (found.isDirectory())
    throw new UsageError(
      `${path} is a local folder, which the service cannot read. Caption it here with ` +
        `"npx turbine caption ${quoteForShell(path)}", or submit s3://bucket/prefix/ for all images under it.`,
    )
  const line = await firstLine(path).catch((error: unknown) => {
    if (error instanceof ListFileError) throw new UsageError(`${name}: ${error.message}`, { cause: error })
    throw error
  })
  if (!line)
    throw new UsageError(`${name} is empty. A line is {"image_url": "https://...", "custom_id": "..."}.`)
  return { path, filename: basename(path), bytes: found.size, endpoint: endpointOf(line, name) }
}

/** The first line that is not empty. */
async function firstLine(path: string): Promise<ManifestLine | undefined> {
  for await (const lines of readLines(readList(createReadStream(path, { end: firstLineBytes }), path))) {
    const line = lines.find(({ text }) => text?.trim() !== '')
    if (line) return line
  }
  return undefined
}

/**
 * Endpoint of a line in OpenAI's format; undefined for the short formats, and for invalid lines, which the batch reports
 * one by one.
 * @throws UsageError when the file cannot be the input of a batch
 */
function endpointOf(line: ManifestLine, name: string): BatchEndpoint | undefined {
  const { number, unreadable } = line
  const text = line.text?.trim() ?? ''
  if (unreadable === 'not_utf8' || text.includes('\0'))
    throw new UsageError(`${name} is not text. A batch is a file of JSON lines.`)
  if (unreadable) return undefined
  if (!/^[{["]/.test(text)) {
    if (isAddress(text)) return undefined
    throw new UsageError(
      `Line ${number} of ${name} is not a URL. The service reads https://, s3:// and data: URLs; caption local ` +
        'images with "npx turbine caption".',
    )
  }
  const url = urlOf(text)
  const endpoint = batchEndpoints.find((known) => known === url)
  if (typeof url === 'string' && !endpoint)
    throw new UsageError(
      `Line ${number} of ${name} is for ${url}. Batches support ${batchEndpoints.join(', ')}.`,
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
