import { z } from 'zod'
import { excerpt, invalid, TurbineError } from './errors.ts'

/** `s3://` URI in a request: a bucket's name and a key of S3 are shorter. */
export const s3UriSchema = z.string().max(1200)

/** Permission to read or write an `s3://` URI. */
const grantSchema = z.strictObject({
  /** `s3://bucket/prefix/`: every object below it. Without the trailing slash: one object. */
  uri: z.string().regex(/^s3:\/\/[^/]+\//),
  access: z.enum(['read', 'write']),
})
export type Grant = z.infer<typeof grantSchema>

/** Tenant with its permissions and limits, stored under `keys.tenant`. */
export const tenantSchema = z.strictObject({
  id: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/),
  grants: z.array(grantSchema).default([]),
  limits: z
    .strictObject({
      requestsPerMinute: z.int().min(1).optional(),
      /** Maximum concurrent requests. */
      inFlight: z.int().min(1).optional(),
      /** Maximum unfinished batches. */
      openBatches: z.int().min(1).optional(),
      /** Maximum bytes of files, outputs and parts of uploads. */
      storageBytes: z.int().min(1).optional(),
    })
    .default({}),
})
export type Tenant = z.infer<typeof tenantSchema>

/** Tenant of all requests where no API keys are configured. */
export const defaultTenant: Tenant = { id: 'default', grants: [], limits: {} }

/** API key as stored: only its hash. Times are unix seconds. */
export const storedApiKeySchema = z.object({
  id: z.string(),
  tenant: tenantSchema.shape.id,
  /** First characters of the key, to tell keys apart. */
  hint: z.string(),
  name: z.string(),
  created: z.int(),
})
export type StoredApiKey = z.infer<typeof storedApiKeySchema>

export interface S3Address {
  bucket: string
  /** Empty for the whole bucket. */
  key: string
}

/**
 * Parses `s3://bucket/some/key`.
 * @throws TurbineError `s3_uri_invalid`
 */
export function parseS3Uri(uri: string, param?: string): S3Address {
  const match = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/s.exec(uri)
  const key = match?.[2] ?? ''
  if (match && resolveKey(key) !== undefined) return { bucket: match[1]!, key }
  const what = match ? 'leads out of its bucket' : 'is not a URI like s3://bucket/key'
  throw invalid('s3_uri_invalid', `"${excerpt(uri, 120)}" ${what}.`, param)
}

/**
 * The key that a server takes for a path, as gateways in front of a file system do: without empty, `.` and `..` segments.
 * Undefined for one that leads out of the bucket.
 */
function resolveKey(key: string): string | undefined {
  const path: string[] = []
  for (const segment of key.split('/')) {
    if (segment === '..') {
      if (path.pop() === undefined) return undefined
    } else if (segment !== '' && segment !== '.') path.push(segment)
  }
  const isPrefix = /(?:^|\/)\.{0,2}$/.test(key)
  return path.length > 0 && isPrefix ? `${path.join('/')}/` : path.join('/')
}

/**
 * Checks that a tenant was granted access. Nobody is granted the service's own bucket, which has the data of all
 * tenants, whatever the grants say.
 */
export function isGranted(
  { grants }: Tenant,
  access: Grant['access'],
  address: S3Address,
  ownBucket: string | undefined,
): boolean {
  if (isOwn(address, ownBucket)) return false
  return grants.some((grant) => grant.access === access && covers(parseS3Uri(grant.uri), address))
}

/** Servers differ in whether they distinguish upper case. */
const isOwn = ({ bucket }: S3Address, ownBucket: string | undefined) =>
  bucket.toLowerCase() === ownBucket?.toLowerCase()

export interface GrantOptions {
  /** The service's own bucket; undefined without S3. */
  ownBucket: string | undefined
  /** The request field with the URI, for errors. */
  param?: string
}

/**
 * Checks that the tenant was granted access. The service's own permissions are not the caller's.
 * @throws TurbineError `s3_uri_invalid`, `s3_not_granted`
 */
export function assertGranted(
  tenant: Tenant,
  access: Grant['access'],
  uri: string,
  { ownBucket, param }: GrantOptions,
): S3Address {
  const address = parseS3Uri(uri, param)
  if (isGranted(tenant, access, address, ownBucket)) return address
  if (isOwn(address, ownBucket))
    throw new TurbineError(
      `${uri.slice(0, 200)} is in the service's own bucket, which nobody may name. Use another bucket.`,
      { status: 403, code: 's3_not_granted', param },
    )
  throw new TurbineError(
    `This tenant may not ${access} ${excerpt(uri, 120)}. Ask the operator to grant it: npx turbine tenants grant ${tenant.id} --${access} s3://${address.bucket}/...`,
    { status: 403, code: 's3_not_granted', param },
  )
}

/** What the key is to one server and what it is to another have to be covered both. */
function covers(granted: S3Address, asked: S3Address): boolean {
  if (granted.bucket !== asked.bucket) return false
  return [(key: string) => key, resolveKey].every((read) => isBelow(read(granted.key), read(asked.key)))
}

/** Not by text alone: a grant for `a` does not cover `abc`. */
function isBelow(granted: string | undefined, asked: string | undefined): boolean {
  if (granted === undefined || asked === undefined) return false
  return granted === '' || granted.endsWith('/') ? asked.startsWith(granted) : asked === granted
}
