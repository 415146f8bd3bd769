import { createHash, createHmac, createSecretKey, type KeyObject } from 'node:crypto'

export interface S3Credentials {
  accessKeyId: string
  secretAccessKey: string
  sessionToken?: string
}

/** A request to sign. */
export interface UnsignedRequest {
  method: 'GET' | 'PUT'
  host: string
  /** As it is sent: each segment of the key encoded once. */
  path: string
  /** Names in lower case; all are signed. */
  headers?: Readonly<Record<string, string>>
  body?: Uint8Array
}

const algorithm = 'AWS4-HMAC-SHA256'
const sha256 = (data: Uint8Array | string) => createHash('sha256').update(data).digest('hex')
const noBody = sha256('')
const hmac = (key: KeyObject | string, data: string) => createHmac('sha256', key).update(data)

/** Signs requests as S3 wants them (AWS Signature Version 4, one chunk). The key of a day is derived once. */
export class S3Signer {
  readonly #region: string
  #key: { of: string; key: KeyObject } | undefined

  constructor(region: string) {
    this.#region = region
  }

  /** Headers of the request, the signature among them. @param now unix ms */
  sign(request: UnsignedRequest, credentials: S3Credentials, now = Date.now()): Record<string, string> {
    const { method, host, path, body } = request
    const at = new Date(now).toISOString().replaceAll(/[-:]|\.\d{3}/g, '')
    const day = at.slice(0, 8)
    const scope = `${day}/${this.#region}/s3/aws4_request`
    const hash = body ? sha256(body) : noBody
    const { accessKeyId, sessionToken } = credentials
    const headers: Record<string, string> = {
      ...request.headers,
      host,
      'x-amz-content-sha256': hash,
      'x-amz-date': at,
      ...(sessionToken && { 'x-amz-security-token': sessionToken }),
    }
    const names = Object.keys(headers).sort()
    const lines = names.map((name) => `${name}:${headers[name]!.trim()}\n`).join('')
    const signed = names.join(';')
    const canonical = `${method}\n${path}\n\n${lines}\n${signed}\n${hash}`
    const text = `${algorithm}\n${at}\n${scope}\n${sha256(canonical)}`
    const signature = hmac(this.#keyOf(day, credentials), text).digest('hex')
    headers.authorization = `${algorithm} Credential=${accessKeyId}/${scope}, SignedHeaders=${signed}, Signature=${signature}`
    return headers
  }

  #keyOf(day: string, { secretAccessKey }: S3Credentials): KeyObject {
    const of = `${day} ${secretAccessKey}`
    if (this.#key?.of !== of) {
      const derived = [this.#region, 's3', 'aws4_request'].reduce<KeyObject>(
        (key, part) => createSecretKey(hmac(key, part).digest()),
        createSecretKey(hmac(`AWS4${secretAccessKey}`, day).digest()),
      )
      this.#key = { of, key: derived }
    }
    return this.#key.key
  }
}

/** The path of a key, as S3 encodes it. */
export const encodeKey = (key: string) =>
  key
    .split('/')
    .map((segment) =>
      encodeURIComponent(segment).replaceAll(
        /[!'()*]/g,
        (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
      ),
    )
    .join('/')
