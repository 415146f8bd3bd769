import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { writeBody } from '../../infra/file-body.ts'
import { sleep } from '../../infra/timing.ts'
import { type Hub, HubError, type HubFile, type HubModel, requestFile, unreachable } from './hub.ts'

/** Downloaded file that does not match the hub's checksum. */
export class ChecksumError extends Error {
  override readonly name = 'ChecksumError'
  readonly code = 'checksum_mismatch'
  readonly retriable = true
}

interface DownloadOptions {
  hub: Hub
  model: HubModel
  file: HubFile
  folder: string
  /** Receives the bytes of this file on disk, after each chunk. */
  onProgress?(bytes: number): void
  /** Consecutive tries without a new byte before an error; default 5. */
  maxAttempts?: number
  /** Pauses between retries, ms. */
  sleep?(ms: number): Promise<unknown>
}

/**
 * Downloads a file of a model to `<name>.part`, which another call resumes, verifies its checksum and renames it. An intact
 * file is kept.
 * @throws HubError, ChecksumError, file system errors
 */
export async function downloadFile(options: DownloadOptions): Promise<'downloaded' | 'present'> {
  const { file, folder, onProgress } = options
  const path = join(folder, file.name)
  if (await isIntact(path, file)) {
    onProgress?.(file.size)
    return 'present'
  }
  await mkdir(dirname(path), { recursive: true })
  const part = `${path}.part`
  await fetchPart(part, options)
  if (!(await isIntact(part, file))) {
    // The part may be of another version of the file; start over once.
    await rm(part, { force: true })
    await fetchPart(part, options)
    if (!(await isIntact(part, file))) {
      await rm(part, { force: true })
      throw new ChecksumError(
        `${file.name} had a wrong checksum twice. Check the network or its proxy, and pull again.`,
      )
    }
  }
  await rename(part, path)
  return 'downloaded'
}

/** Resumes until the part is complete; every new byte resets the count of tries. */
async function fetchPart(part: string, options: DownloadOptions): Promise<void> {
  const { file, maxAttempts = 5, sleep: wait = sleep } = options
  let emptyTries = 0
  for (let have = await sizeOf(part); have !== file.size; ) {
    try {
      await appendRest(part, have > file.size ? 0 : have, options)
    } catch (error) {
      if (!(error instanceof HubError) || !error.retriable) throw error
      emptyTries = (await sizeOf(part)) > have ? 1 : emptyTries + 1
      if (emptyTries >= maxAttempts) throw error
      await wait(error.retryAfterMs ?? 1000 * 2 ** (emptyTries - 1))
    }
    have = await sizeOf(part)
  }
}

async function appendRest(
  part: string,
  start: number,
  { hub, model, file, onProgress }: DownloadOptions,
): Promise<void> {
  const response = await requestFile(hub, model, file.name, start)
  const first = response.status === 206 ? start : 0
  const output = await open(part, first > 0 ? 'r+' : 'w').catch(async (error) => {
    await response.body?.cancel()
    throw error
  })
  try {
    // A broken connection is an error of the hub; a full disk is not.
    const written = await writeBody(output, response, {
      start: first,
      maxEnd: file.size,
      onBytes: onProgress,
    })
    if ('broken' in written) throw unreachable(hub, written.broken)
    if (written.tooLong)
      throw new ChecksumError(`${file.name} is larger than the hub says. Pull again later.`)
    if (written.end < file.size) throw unreachable(hub, new Error('The response was incomplete.'))
    await output.sync()
  } finally {
    await output.close()
  }
}

const sizeOf = (path: string) =>
  stat(path).then(
    ({ size }) => size,
    () => 0,
  )

async function isIntact(path: string, { size, checksum }: HubFile): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  if (found?.size !== size) return false
  const hash = createHash(checksum.algorithm === 'sha256' ? 'sha256' : 'sha1')
  // git hashes a blob with its type and size in front.
  if (checksum.algorithm === 'git-sha1') hash.update(`blob ${size}\0`)
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk)
  return hash.digest('hex') === checksum.hex
}
