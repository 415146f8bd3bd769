import { s3Unavailable } from '../../../infra/fetch/faults.ts'
import {
  type BatchIntent,
  type BatchRequest,
  batchRequestSchema,
  metadataLimits,
  parseCompletionWindow,
} from '../../contract/batch.ts'
import { excerpt, invalid } from '../../contract/errors.ts'
import { type Capabilities, capabilitiesOf } from '../../contract/model.ts'
import { parse } from '../../contract/parse.ts'
import { assertGranted, isGranted, parseS3Uri, type Tenant } from '../../contract/tenant.ts'
import type { EdgeDeps } from '../../deps.ts'
import { findFile } from '../files/stored.ts'
import { findModel } from '../models.ts'

/** Validated batch request. */
export interface BatchAsk extends Omit<BatchIntent, 'id' | 'created_at' | 'expires_at'> {
  windowSeconds: number
  outputExpiresAfter?: number
  /** What its model can. */
  can: Capabilities
}

/** @throws TurbineError with the field at fault */
export async function readBatchRequest(deps: EdgeDeps, tenant: Tenant, body: unknown): Promise<BatchAsk> {
  const request = parse(batchRequestSchema, body)
  const { input_file_id = null, endpoint, completion_window, metadata, turbine = {} } = request
  const windowSeconds = parseCompletionWindow(completion_window)
  assertMetadata(metadata ?? {})
  const input_uri = turbine.input_uri && asPrefix(deps, tenant, turbine.input_uri)
  assertAddresses(deps, tenant, { ...request, turbine: { ...turbine, input_uri } })
  const model = await findModel(deps, request.model)
  if (input_file_id !== null) await assertInputFile(deps, tenant.id, input_file_id)
  return {
    endpoint,
    model: model.id,
    can: capabilitiesOf(model),
    input_file_id,
    completion_window,
    windowSeconds,
    metadata: metadata ?? null,
    outputExpiresAfter: request.output_expires_after?.seconds,
    turbine: { ...turbine, input_uri, max_prune: turbine.max_prune ?? 1 },
  }
}

function assertMetadata(metadata: Record<string, string>): void {
  const { pairs, key: keyLength, value: valueLength } = metadataLimits
  const entries = Object.entries(metadata)
  const fits = entries.every(([key, value]) => key.length <= keyLength && value.length <= valueLength)
  if (fits && entries.length <= pairs) return
  throw invalid(
    'metadata_invalid',
    `"metadata" may have at most ${pairs} pairs, with keys of at most ${keyLength} characters and values of at most ${valueLength}.`,
    'metadata',
  )
}

/** A bucket without a slash, and what is granted as a prefix only, is one. */
function asPrefix({ ownBucket }: EdgeDeps, tenant: Tenant, uri: string): string {
  const address = parseS3Uri(uri, 'turbine.input_uri')
  const below = { ...address, key: `${address.key}/` }
  if (address.key === '') return uri.endsWith('/') ? uri : `${uri}/`
  const isObject = isGranted(tenant, 'read', address, ownBucket)
  return isObject || !isGranted(tenant, 'read', below, ownBucket) ? uri : `${uri}/`
}

/** Checks that the input is a file or an `s3://` URI, and that the tenant may read and write the URIs. */
function assertAddresses(
  { buckets, ownBucket }: EdgeDeps,
  tenant: Tenant,
  { input_file_id, turbine }: BatchRequest,
): void {
  const { input_uri, output_uri } = turbine ?? {}
  if (input_file_id === undefined && input_uri === undefined)
    throw invalid(
      'missing_required_parameter',
      '"input_file_id" is missing. Upload a file (POST /v1/files) and pass its id, or pass turbine.input_uri.',
      'input_file_id',
    )
  if (input_file_id !== undefined && input_uri !== undefined)
    throw invalid(
      'input_ambiguous',
      'Pass either "input_file_id" or "turbine.input_uri", not both.',
      'turbine.input_uri',
    )
  for (const [access, uri, param] of [
    ['read', input_uri, 'turbine.input_uri'],
    ['write', output_uri, 'turbine.output_uri'],
  ] as const) {
    if (uri === undefined) continue
    if (!buckets) throw s3Unavailable(param)
    assertGranted(tenant, access, uri, { ownBucket, param })
    if (access === 'write' && !uri.endsWith('/'))
      throw invalid(
        's3_uri_invalid',
        `"${param}" must be a prefix like s3://bucket/prefix/, ending in "/".`,
        param,
      )
  }
}

async function assertInputFile(deps: EdgeDeps, tenant: string, id: string): Promise<void> {
  const stored = await findFile(deps, tenant, id)
  if (!stored)
    throw invalid(
      'input_file_not_found',
      `There is no file "${excerpt(id)}". Upload it: POST /v1/files.`,
      'input_file_id',
    )
  if (stored.file.purpose !== 'batch')
    throw invalid(
      'input_file_purpose',
      `The file's purpose is ${stored.file.purpose}. Upload it with purpose "batch".`,
      'input_file_id',
    )
}
