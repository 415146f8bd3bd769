import type { StoredBatch } from '../../../edge/contract/batch.ts'
import type { StoredFile } from '../../../edge/contract/file.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { LineSplitter, type ManifestLine } from '../../../edge/contract/lines.ts'
import { parseS3Uri } from '../../../edge/contract/tenant.ts'
import { BaseError } from '../../../infra/errors.ts'
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
import { BucketUnavailableError, getJson, listPages, type ObjectStore } from '../../../infra/store/store.ts'
import { type Clock, isOutage, type Outages } from '../../delivery/outages.ts'
import { atCallersBucket, Patience } from '../callers-bucket.ts'
import { isStillGranted } from './grants.ts'

/** Input of a batch that cannot be read: never, or not in time. */
export class BatchInputError extends BaseError {
  /** As the batch's `errors` name it. */
  readonly code: 'input_not_found' | 'input_unavailable' | 's3_unavailable' | 's3_not_granted' | 'empty_batch'
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

/**
 * Locates the lines of a batch: its input file, the object of its `input_uri`, or, for a prefix, a manifest that is
 * created from the images below it.
 * @throws BatchInputError
 */
export async function locateManifest(stored: StoredBatch, options: ManifestOptions): Promise<Slice[]> {
  const { input_uri } = stored.batch.turbine
  if (input_uri === undefined) return locateFile(stored, options)
  const { bucket, key } = parseS3Uri(input_uri)
  const objects = options.buckets?.(bucket)
  if (!objects)
    throw new BatchInputError('s3_unavailable', `${input_uri} cannot be read: this service has no S3.`)
  await assertStillGranted(stored, 'read', options)
  if (key === '' || key.endsWith('/')) return locateImages(stored, objects, options)
  return atInput(input_uri, options, async () => {
    const object = await objects.head(key)
    if (!object) throw new BatchInputError('input_not_found', `Object ${input_uri} does not exist.`)
    return [{ bucket, key, start: 0, end: object.size }]
  })
}

/** Works at the bucket of an `input_uri`. @throws BatchInputError for every failure of it; the signal's reason */
async function atInput<T>(uri: string, options: BucketOptions, work: () => Promise<T>): Promise<T> {
  try {
    return await atCallersBucket(work, options)
  } catch (error) {
    options.signal.throwIfAborted()
    if (error instanceof BatchInputError) throw error
    // A missing or closed bucket of a caller is permanent.
    if (error instanceof BucketUnavailableError || error instanceof InvalidKeyError)
      throw new BatchInputError('input_not_found', error.message, { cause: error })
    throw unavailable(`${uri} cannot be read: S3 said ${s3Answer(error)}.`, error)
  }
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

function locateFile({ tenant, batch }: StoredBatch, options: ManifestOptions): Promise<Slice[]> {
  const { store, outages, signal, clock } = options
  const id = batch.input_file_id!
  return outages.outlast(async () => {
    const stored = await getJson<StoredFile>(store, keys.file(tenant, id))
    const expired = stored?.file.expires_at !== undefined && clock.now() >= stored.file.expires_at * 1000
    if (!stored || expired) throw new BatchInputError('input_not_found', `File "${id}" no longer exists.`)
    return stored.slices
  }, signal)
}

/** Writes the manifest once: a planner that takes over uses it, whatever was added to the prefix since. */
function locateImages(
  { tenant, batch }: StoredBatch,
  images: ObjectStore,
  options: BucketOptions,
): Promise<Slice[]> {
  const { store, outages, signal } = options
  const key = keys.batchManifest(tenant, batch.id)
  return outages.outlast(async () => {
    if (!(await store.head(key))) {
      const lines = imageManifest(batch.turbine.input_uri!, images, options)
      await store.put(key, ReadableStream.from(lines), { contentType: 'application/jsonl' })
    }
    const manifest = await store.head(key)
    return [{ key, start: 0, end: manifest!.size }]
  }, signal)
}

/**
 * Streams the lines of a manifest, in chunks as they arrive, and resumes after outages of the store.
 * @throws BatchInputError `input_not_found` when the manifest is gone or has become shorter, `input_unavailable` when
 * it cannot be read otherwise
 */
export async function* readManifest(
  slices: readonly Slice[],
  options: ManifestOptions,
): AsyncGenerator<ManifestLine[]> {
  const { outages, signal } = options
  const splitter = new LineSplitter()
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
        yield splitter.push(chunk)
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
  yield splitter.end()
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

/** Supported image formats. */
const imageExtension = /\.(?:jpe?g|png|webp|gif|tiff?|avif)$/i

/**
 * Creates a manifest, as text, of all images below a prefix, recognised by their extension: a line for each, whose
 * `custom_id` is the image's key without the prefix.
 * @param prefix `s3://bucket/prefix/`
 * @param bucket the one that the prefix names
 */
export async function* imageManifest(
  prefix: string,
  bucket: Pick<ObjectStore, 'list'>,
  options: BucketOptions,
): AsyncGenerator<Uint8Array> {
  const { bucket: name, key: base } = parseS3Uri(prefix)
  const encoder = new TextEncoder()
  const list: ObjectStore['list'] = (...args) => atInput(prefix, options, () => bucket.list(...args))
  for await (const page of listPages({ list }, base)) {
    const lines = page
      .filter(({ key }) => imageExtension.test(key))
      .map(({ key }) => ({ custom_id: key.slice(base.length), image_url: `s3://${name}/${key}` }))
    if (lines.length > 0) yield encoder.encode(lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
  }
}
