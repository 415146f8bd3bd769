import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { type Attack, aborted, each, tally } from './attack.ts'
import { batchOutcome, openClient, outcomeName, submitLines } from './client.ts'

/** How S3 refuses one object, by the object's name. */
const refusals: Record<string, (response: ServerResponse) => void> = {
  'archived.jpg': answer(
    403,
    'InvalidObjectState',
    "The operation is not valid for the object's storage class",
  ),
  'denied.jpg': answer(403, 'AccessDenied', 'Access Denied'),
  'elsewhere.jpg': answer(301, 'PermanentRedirect', 'The bucket is in another region'),
  'moved.jpg': answer(
    307,
    'TemporaryRedirect',
    'Please re-send this request to the specified temporary endpoint',
  ),
  'other-region.jpg': answer(400, 'AuthorizationHeaderMalformed', "The region 'us-east-1' is wrong"),
  'customer-key.jpg': answer(
    400,
    'InvalidRequest',
    'The object was stored using a form of Server Side Encryption',
  ),
  'kms.jpg': answer(400, 'KMS.DisabledException', 'The key is disabled'),
  'paid.jpg': answer(
    403,
    'RequestTimeTooSkewed',
    'The difference between the request time and the current time',
  ),
  'gone.jpg': answer(404, 'NoSuchKey', 'The specified key does not exist'),
  'method.jpg': answer(405, 'MethodNotAllowed', 'The specified method is not allowed against this resource'),
  'changed.jpg': answer(412, 'PreconditionFailed', 'At least one of the preconditions did not hold'),
  'range.jpg': answer(416, 'InvalidRange', 'The requested range is not satisfiable'),
  'broken.jpg': answer(500, 'InternalError', 'We encountered an internal error'),
  'missing-code.jpg': (response) => response.writeHead(500).end(),
  'busy.jpg': answer(503, 'SlowDown', 'Please reduce your request rate'),
  'no-xml.jpg': (response) => response.writeHead(400, { 'content-type': 'text/html' }).end('<html>no'),
  'silent.jpg': () => {},
  'reset.jpg': (response) => response.destroy(),
  'cut.jpg': (response) => {
    response.writeHead(200, { 'content-length': 100_000, 'content-type': 'image/jpeg' })
    response.write(Buffer.from('ffd8ff', 'hex'), () => setTimeout(() => response.destroy(), 50))
  },
  'endless.jpg': (response) => {
    response.writeHead(200, { 'content-type': 'image/jpeg' })
    const timer = setInterval(() => response.write(Buffer.alloc(65_536)), 5)
    response.once('close', () => clearInterval(timer))
  },
  'drip.jpg': (response) => {
    response.writeHead(200, { 'content-length': 100_000, 'content-type': 'image/jpeg' })
    const timer = setInterval(() => response.write('x'), 500)
    response.once('close', () => clearInterval(timer))
  },
}

function answer(status: number, code: string, message: string): (response: ServerResponse) => void {
  return (response) => {
    response.writeHead(status, { 'content-type': 'application/xml' })
    response.end(
      `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`,
    )
  }
}

/** The bucket in which every object is refused in a way of its own. */
export const refusedBucket = 'refused'

/** Objects of that bucket, and keys that S3 has no way to have. */
export const refusedAddresses: readonly string[] = [
  ...Object.keys(refusals).map((name) => `s3://${refusedBucket}/${name}`),
  `s3://${refusedBucket}/a\0b.jpg`,
  `s3://${refusedBucket}/\n\r\t.jpg`,
  `s3://${refusedBucket}/\ud800.jpg`,
  `s3://${refusedBucket}/${'k'.repeat(1025)}`,
  `s3://${refusedBucket}/${'é'.repeat(600)}`,
  `s3://${refusedBucket}/../turbine/keys.jpg`,
  `s3://${refusedBucket}/a/./b.jpg`,
  `s3://${refusedBucket}/a//b.jpg`,
  `s3://${refusedBucket}/%2e%2e%2fb.jpg`,
  `s3://${refusedBucket}/?versionId=1`,
  `s3://${refusedBucket}/#`,
  `s3://${refusedBucket}/`,
]

/** An S3 endpoint in front of a real one. */
export interface RefusingStore {
  endpoint: string
  close(): Promise<void>
}

/**
 * Passes every request on to the S3 server at `endpoint`, but those for objects of `refusedBucket`, which it refuses
 * or fails in the way that the object's name says.
 */
export async function startRefusingStore(endpoint: string): Promise<RefusingStore> {
  const server = createServer((incoming, response) => {
    incoming.on('error', () => {})
    response.on('error', () => {})
    const [, bucket, name] = /^\/([^/?]+)\/([^?]*)/.exec(incoming.url ?? '') ?? []
    if (bucket !== refusedBucket) return pass(endpoint, incoming, response)
    incoming.resume()
    return (refusals[name ?? ''] ?? refusals['gone.jpg']!)(response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  return {
    endpoint: `http://127.0.0.1:${port}`,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** As it came, host included: that is signed. */
function pass(endpoint: string, incoming: IncomingMessage, response: ServerResponse): void {
  const { hostname, port } = new URL(endpoint)
  const { method, url: path, headers } = incoming
  const passed = request({ hostname, port, method, path, headers }, (answered) => {
    response.writeHead(answered.statusCode!, answered.rawHeaders)
    answered.pipe(response)
    answered.once('error', () => response.destroy())
  })
  passed.once('error', () => response.destroy())
  response.once('close', () => passed.destroy())
  incoming.pipe(passed)
}

/** Lines and requests whose objects S3 always refuses, each in a way of its own. The tenant may read the bucket. */
export const refusedObjects: Attack = {
  title: 'objects that S3 always refuses',
  needs: ['s3'],
  async run(target) {
    const { signal } = target
    const client = openClient(target)
    const { outcomes, count } = tally()
    const line = (image_url: string) => JSON.stringify({ image_url })
    const batches = [await submitLines(client, refusedAddresses.map(line))]
    for (const address of refusedAddresses)
      if (!signal.aborted) batches.push(await submitLines(client, [line(address)]))
    await each(refusedAddresses, { concurrency: 8, signal }, async (address) => {
      count(outcomeName(await client.send({ path: '/v1/captions', body: Buffer.from(line(address)) })))
    })
    const folder = { input_uri: `s3://${refusedBucket}/` }
    const missing = { input_uri: `s3://${refusedBucket}/busy.jpg`, output_uri: `s3://${refusedBucket}/out/` }
    for (const turbine of [folder, missing]) {
      const body = { endpoint: '/v1/captions', completion_window: '30d', turbine }
      const sent = await client.send({ path: '/v1/batches', body: Buffer.from(JSON.stringify(body)) })
      batches.push((sent.body as { id?: string } | undefined)?.id)
    }
    await aborted(signal)
    await client.close()
    const after = openClient({ ...target, signal: AbortSignal.timeout(5000) })
    for (const id of batches) count(await batchOutcome(after, id))
    await after.close()
    return outcomes
  },
}
