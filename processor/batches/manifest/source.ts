import type { StoredBatch } from '../../../edge/contract/batch.ts'
import type { StoredFile } from '../../../edge/contract/file.ts'
import type { Skipped, SkipReason } from '../../../edge/contract/formats/file-kind.ts'
import { type FileFormat, formatOf } from '../../../edge/contract/formats/formats.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { type ManifestLine, readLines } from '../../../edge/contract/lines.ts'
import {
  hasLineEnd,
  isPlainList,
  ListFileError,
  type ListShape,
  listHeadBytes,
  listLines,
  listShape,
  longHeadBytes,
} from '../../../edge/contract/lists/list-file.ts'
import { parseS3Uri } from '../../../edge/contract/tenant.ts'
import { BaseError } from '../../../infra/errors.ts'
import { putJson } from '../../../infra/store/json.ts'
import { InvalidKeyError } from '../../../infra/store/key.ts'
import { s3Answer } from '../../../infra/store/s3-errors.ts'
import {
  cutSlices,
  MissingSliceError,
  RefusedSliceError,
  readSlices,
  type Slice,
  type SliceStores,
  SliceUnavailableError,
  sliceBytes,
} from '../../../infra/store/slices.ts'
import { BucketUnavailableError, getJson, type ObjectStore } from '../../../infra/store/store.ts'
import { type Clock, isOutage, type Outages } from '../../delivery/outages.ts'
import { atCallersBucket, Patience } from '../callers-bucket.ts'
import { isStillGranted } from './grants.ts'
import { imageManifest } from './images.ts'

/** Input of a batch that cannot be read: never, or not in time. */
export class BatchInputError extends BaseError {
  /** As the batch's `errors` name it. */
  readonly code:
    | 'input_not_found'
    | 'input_unavailable'
    | 'input_invalid'
    | 's3_unavailable'
    | 's3_not_granted'
    | 'empty_batch'
  /** The field of the batch at fault, if it is not that of the input. */
  readonly param: string | undefined

  constructor(
    code: BatchInputError['code'],
    message: string,
    { param, ...options }: ErrorOptions & { param?: string } = {},
  ) {
    super(message, options)
    this.code = code
    this.param = param
  }
}

export interface ManifestOptions extends SliceStores {
  outages: Outages
  signal: AbortSignal
  clock: Clock
  /** Until then a failing bucket of the caller is retried, unix ms. */
  giveUpAt: number
}

/** Lines of a batch. */
export interface LocatedManifest {
  slices: Slice[]
  /** What was left out below a prefix. */
  skipped?: Skipped
}

/**
 * Locates the lines of a batch: its input file, the object of its `input_uri`, or, for a prefix, a manifest that is
 * created from the images below it. A list of another shape is rewritten as lines first.
 * @throws BatchInputError
 */
export async function locateManifest(
  stored: StoredBatch,
  options: ManifestOptions,
): Promise<LocatedManifest> {
  const { input_uri } = stored.batch.turbine
  if (input_uri === undefined) return locateFile(stored, options)
  const { bucket, key } = parseS3Uri(input_uri)
  const objects = options.buckets?.(bucket)
  if (!objects)
    throw new BatchInputError('s3_unavailable', `${input_uri} cannot be read: this service has no S3.`)
  await assertStillGranted(stored, 'read', options)
  if (key === '' || key.endsWith('/')) return locateImages(stored, objects, input_uri, options)
  const object = await atInput(input_uri, options, () => objects.head(key))
  if (object)
    return { slices: await asLines(stored, [{ bucket, key, start: 0, end: object.size }], key, options) }
  const prefix = `${input_uri}/`
  if (await isPrefix(stored, objects, prefix, options)) return locateImages(stored, objects, prefix, options)
  throw new BatchInputError(
    'input_not_found',
    `There is neither an object ${input_uri} nor anything below ${prefix} that this tenant may read.`,
  )
}

/** Tests for objects below a prefix that the tenant may read. */
async function isPrefix(
  { tenant }: StoredBatch,
  objects: ObjectStore,
  prefix: string,
  options: ManifestOptions,
): Promise<boolean> {
  const address = parseS3Uri(prefix)
  const { outages, signal } = options
  if (!(await outages.outlast(() => isStillGranted(options, tenant, 'read', address), signal))) return false
  const page = await atInput(prefix, options, () => objects.list(address.key, { limit: 1 }))
  return page.objects.length > 0
}

/** Works at the bucket of an `input_uri`. @throws BatchInputError for every failure of it; the signal's reason */
async function atInput<T>(uri: string, options: BucketOptions, work: () => Promise<T>): Promise<T> {
  try {
    return await atCallersBucket(work, options)
  } catch (error) {
    throw inputError(uri, error, options.signal)
  }
}

/** The error of a batch for a failure at the bucket of its input. @throws the signal's reason */
function inputError(uri: string, error: unknown, signal: AbortSignal): unknown {
  signal.throwIfAborted()
  if (error instanceof BatchInputError) return error
  // A missing or closed bucket of a caller is permanent.
  if (error instanceof BucketUnavailableError || error instanceof InvalidKeyError)
    return new BatchInputError('input_not_found', error.message, { cause: error })
  return unavailable(`${uri} cannot be read: S3 said ${s3Answer(error)}.`, error)
}

type BucketOptions = Omit<ManifestOptions, 'buckets'>

const unavailable = (what: string, cause: unknown) =>
  new BatchInputError('input_unavailable', `${what} Create the batch again once its input can be read.`, {
    cause,
  })

/**
 * Checks the grant of a batch's address, which may have been revoked since the batch was created.
 * @throws BatchInputError `s3_not_granted`
 */
export async function assertStillGranted(
  { tenant, batch }: StoredBatch,
  access: 'read' | 'write',
  { outages, signal, ...stores }: Pick<ManifestOptions, 'store' | 'ownBucket' | 'outages' | 'signal'>,
): Promise<void> {
  const param = access === 'read' ? 'input_uri' : 'output_uri'
  const uri = batch.turbine[param]
  if (uri === undefined) return
  const check = () => isStillGranted(stores, tenant, access, parseS3Uri(uri))
  if (await outages.outlast(check, signal)) return
  throw new BatchInputError(
    's3_not_granted',
    `This tenant may no longer ${access} ${uri}. Ask the operator to grant it, and create the batch again.`,
    { param: `turbine.${param}` },
  )
}

async function locateFile(stored: StoredBatch, options: ManifestOptions): Promise<LocatedManifest> {
  const { store, outages, signal, clock } = options
  const id = stored.batch.input_file_id!
  const found = await outages.outlast(async () => {
    const file = await getJson<StoredFile>(store, keys.file(stored.tenant, id))
    const expired = file?.file.expires_at !== undefined && clock.now() >= file.file.expires_at * 1000
    if (!file || expired) throw new BatchInputError('input_not_found', `File "${id}" no longer exists.`)
    return file
  }, signal)
  return { slices: await asLines(stored, found.slices, found.file.filename, options) }
}

const remedyFor = ({ decoded, note }: FileFormat) =>
  note === undefined || decoded
    ? 'Give a file with a line for each picture, or a prefix like s3://bucket/pictures/.'
    : `${note} A batch takes a file with a line for each picture.`

/** The lines of a list: itself, or for another shape of list its lines, written once. */
async function asLines(
  { tenant, batch }: StoredBatch,
  slices: Slice[],
  name: string,
  options: ManifestOptions,
): Promise<Slice[]> {
  const short = await firstBytes(slices, listHeadBytes, options)
  const head = hasLineEnd(short) ? short : await firstBytes(slices, longHeadBytes, options)
  const format = formatOf(head)
  if (format) throw new BatchInputError('input_invalid', `The input is ${format.what}. ${remedyFor(format)}`)
  const shape = listShape(head, name)
  if (isPlainList(shape)) return slices
  return writeOnce(
    keys.batchManifest(tenant, batch.id),
    () => listedLines(readBytes(slices, options), shape),
    options,
  )
}

async function firstBytes(slices: Slice[], bytes: number, options: ManifestOptions): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  const cut = cutSlices(slices, 0, Math.min(bytes, sliceBytes(slices)))
  for await (const chunk of readBytes(cut, options)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** @throws BatchInputError `input_invalid` for a table that cannot be read on */
async function* listedLines(bytes: AsyncIterable<Uint8Array>, shape: ListShape): AsyncGenerator<Uint8Array> {
  try {
    yield* listLines(bytes, shape)
  } catch (error) {
    if (!(error instanceof ListFileError)) throw error
    throw new BatchInputError('input_invalid', error.message, { cause: error })
  }
}

/** Writes a manifest once: a planner that takes over uses it, whatever became of the input since. */
function writeOnce(
  key: string,
  lines: () => AsyncIterable<Uint8Array>,
  { store, outages, signal }: Pick<ManifestOptions, 'store' | 'outages' | 'signal'>,
): Promise<Slice[]> {
  return outages.outlast(async () => {
    if (!(await store.head(key)))
      await store.put(key, ReadableStream.from(lines()), { contentType: 'application/jsonl' })
    const manifest = await store.head(key)
    return [{ key, start: 0, end: manifest!.size }]
  }, signal)
}

async function locateImages(
  { tenant, batch }: StoredBatch,
  images: ObjectStore,
  prefix: string,
  options: ManifestOptions,
): Promise<LocatedManifest> {
  const { store, outages, signal } = options
  const key = keys.batchManifest(tenant, batch.id)
  const skippedKey = keys.batchSkipped(tenant, batch.id)
  const earlier = await outages.outlast(() => getJson<Skipped>(store, skippedKey), signal)
  // Without its counts a manifest was not used by any planner.
  if (!earlier) await outages.outlast(() => store.delete(key), signal)
  const skipped = earlier ?? {}
  const lines = () => imagesAt(prefix, images, { ...options, skipped })
  const slices = await writeOnce(key, lines, options)
  if (!earlier) await outages.outlast(() => putJson(store, skippedKey, skipped), signal)
  return { slices, skipped }
}

/** Counts anew when it is begun anew. @throws BatchInputError */
async function* imagesAt(
  prefix: string,
  images: ObjectStore,
  { skipped, ...options }: ManifestOptions & { skipped: Skipped },
): AsyncGenerator<Uint8Array> {
  for (const reason of Object.keys(skipped) as SkipReason[]) delete skipped[reason]
  try {
    yield* imageManifest(prefix, images, { ...options, skipped })
  } catch (error) {
    throw inputError(prefix, error, options.signal)
  }
}

/**
 * Streams the lines of a manifest, in chunks as they arrive, and resumes after outages of the store.
 * @throws BatchInputError `input_not_found` when the manifest is gone or has become shorter, `input_unavailable` when
 * it cannot be read otherwise
 */
export const readManifest = (
  slices: readonly Slice[],
  options: ManifestOptions,
): AsyncGenerator<ManifestLine[]> => readLines(readBytes(slices, options))

async function* readBytes(slices: readonly Slice[], options: ManifestOptions): AsyncGenerator<Uint8Array> {
  const { outages, signal } = options
  const patience = new Patience(options)
  const bytes = sliceBytes(slices)
  let offset = 0
  for (let failures = 0; offset < bytes; ) {
    try {
      for await (const chunk of readSlices(cutSlices(slices, offset), options)) {
        signal.throwIfAborted()
        offset += chunk.length
        failures = 0
        patience.succeeded()
        yield chunk
      }
      if (offset < bytes) throw gone()
    } catch (error) {
      if (error instanceof RefusedSliceError) throw unavailable(error.message, error)
      if (error instanceof MissingSliceError) throw gone(error)
      if (error instanceof SliceUnavailableError) await patience.failed(error).catch(givenUp)
      else if (isOutage(error)) await outages.pause(error as Error, ++failures, signal)
      else throw error
      signal.throwIfAborted()
    }
  }
}

function givenUp(error: unknown): never {
  throw error instanceof SliceUnavailableError ? unavailable(error.message, error) : error
}

const gone = (cause?: unknown) =>
  new BatchInputError(
    'input_not_found',
    'The input was deleted or replaced while it was read. Submit it again, and keep it until the batch ends.',
    { cause },
  )
