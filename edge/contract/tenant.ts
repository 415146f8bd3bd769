import { z } from 'zod'
import { TurbineError } from './errors.ts'

/** Leave to read or write at an `s3://` address. */
const grantSchema = z.strictObject({
  /** `s3://bucket/prefix/`: every object below it. Without the last slash: this one object. */
  uri: z.string().regex(/^s3:\/\/[^/]+\//),
  access: z.enum(['read', 'write']),
})
export type Grant = z.infer<typeof grantSchema>

/** Whose work it is, and what is allowed to it. Lives in the store under `keys.tenant`. */
export const tenantSchema = z.strictObject({
  id: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/),
  grants: z.array(grantSchema).default([]),
  limits: z
    .strictObject({
      /** Requests that it may send in a minute. */
      requestsPerMinute: z.int().min(1).optional(),
      /** Requests that may be unanswered at a time. */
      inFlight: z.int().min(1).optional(),
      /** Batches that may be unfinished at a time. */
      openBatches: z.int().min(1).optional(),
    })
    .default({}),
})
export type Tenant = z.infer<typeof tenantSchema>

/** Everybody, where no API keys are configured. */
export const defaultTenant: Tenant = { id: 'default', grants: [], limits: {} }

/** An API key as it is kept: by its hash only. Times are unix seconds. */
export interface StoredApiKey {
  id: string
  tenant: string
  /** The key's first characters, to tell keys apart. */
  hint: string
  name: string
  created: number
}

/** A place in a bucket. */
export interface S3Address {
  bucket: string
  /** Empty for the whole bucket. */
  key: string
}

/**
 * `s3://bucket/some/key` to its parts.
 * @throws TurbineError `s3_uri_invalid`
 */
export function parseS3Uri(uri: string, param?: string): S3Address {
  const match = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/s.exec(uri)
  const key = match?.[2] ?? ''
  const climbs = key.split('/').some((segment) => segment === '..' || segment === '.')
  if (match && !climbs) return { bucket: match[1]!, key }
  throw new TurbineError(`"${uri.slice(0, 200)}" is not an address like s3://bucket/key.`, {
    status: 400,
    code: 's3_uri_invalid',
    param,
  })
}

/**
 * Lets pass what the tenant was granted. The service's own rights are not the caller's.
 * @throws TurbineError `s3_uri_invalid`, `s3_not_granted`
 */
export function assertGranted(
  tenant: Tenant,
  access: Grant['access'],
  uri: string,
  param?: string,
): S3Address {
  const address = parseS3Uri(uri, param)
  const asked = `s3://${address.bucket}/${address.key}`
  if (tenant.grants.some((grant) => grant.access === access && covers(grant.uri, asked))) return address
  throw new TurbineError(
    `This tenant may not ${access} ${uri.slice(0, 200)}. Ask the operator to grant it: npx turbine tenants grant ${tenant.id} --${access} s3://${address.bucket}/...`,
    { status: 403, code: 's3_not_granted', param },
  )
}

/** Not by text alone: who may read `s3://data/a` has no business in `s3://data/abc`. */
const covers = (granted: string, asked: string) =>
  granted.endsWith('/') ? asked.startsWith(granted) : asked === granted
