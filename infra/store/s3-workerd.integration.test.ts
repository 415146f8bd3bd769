import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Miniflare } from 'miniflare'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { createBucket } from '../../test/servers/s3.ts'

const compatibility = { compatibility_date: '2026-10-20', compatibility_flags: ['nodejs_compat'] }

describe.skipIf(!inject('s3'))('the S3 store in workerd', () => {
  let worker: Miniflare
  beforeAll(async () => {
    const { endpoint, accessKeyId, secretAccessKey } = inject('s3')!
    const bucket = `workerd-${randomUUID()}`
    await createBucket(inject('s3')!, bucket)
    const text = (value: string) => ({ type: 'text' as const, value })
    worker = new Miniflare({
      host: '127.0.0.1',
      port: 0,
      cf: false,
      workers: [
        {
          config: {
            name: 'store',
            compatibilityDate: compatibility.compatibility_date,
            compatibilityFlags: compatibility.compatibility_flags,
            manifest: {
              mainModule: 's3-worker.js',
              modules: { 's3-worker.js': { type: 'esm', contents: await bundle() } },
            },
            env: {
              S3_ENDPOINT: text(endpoint),
              AWS_ACCESS_KEY_ID: text(accessKeyId),
              AWS_SECRET_ACCESS_KEY: text(secretAccessKey),
              S3_BUCKET: text(bucket),
            },
          },
        },
      ],
    })
    await worker.ready
  })
  afterAll(() => worker?.dispose())

  test('keeps its promises, for requests beside each other too', async () => {
    const answers = await Promise.all(
      ['first', 'second'].map(async (prefix) => {
        const response = await worker.dispatchFetch(`http://worker/${prefix}`)
        return response.json()
      }),
    )
    const expected = {
      text: 'un café',
      range: '234',
      stream: 'short',
      size: 10,
      sameEtag: true,
      missing: [null, null],
      listed: [
        [
          ['/bytes', 10],
          ['/parts', 10 * 1024 * 1024 + 1],
        ],
        [
          ['/stream', 5],
          ['/text', 8],
        ],
      ],
      exists: 'PreconditionFailedError',
      existsInParts: 'PreconditionFailedError',
      changed: 'PreconditionFailedError',
      outOfRange: 'InvalidRangeError',
      missingBucket: 'StoreUnavailableError',
      deadServer: 'StoreUnavailableError',
    }
    expect(answers).toEqual([expected, expected])
  })
})

/** The Worker as wrangler bundles it for a deployment. */
async function bundle(): Promise<string> {
  const { resolve } = createRequire(import.meta.url)
  const folder = await mkdtemp(join(tmpdir(), 'turbine-workerd-'))
  const config = {
    name: 'store',
    main: fileURLToPath(new URL('./fixtures/s3-worker.ts', import.meta.url)),
    // As Node resolves it: the parser of XML that needs no DOM.
    alias: { '@aws-sdk/xml-builder': resolve('@aws-sdk/xml-builder') },
    ...compatibility,
  }
  try {
    await writeFile(join(folder, 'wrangler.json'), JSON.stringify(config))
    const wrangler = join(resolve('wrangler/package.json'), '..', 'bin', 'wrangler.js')
    const args = ['deploy', '--dry-run', '--outdir', 'out', '--config', 'wrangler.json']
    const env = { ...process.env, WRANGLER_SEND_METRICS: 'false' }
    await promisify(execFile)(process.execPath, [wrangler, ...args], { cwd: folder, env })
    return await readFile(join(folder, 'out', 's3-worker.js'), 'utf8')
  } finally {
    await rm(folder, { recursive: true })
  }
}
