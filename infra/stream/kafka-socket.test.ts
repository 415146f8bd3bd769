import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import fc from 'fast-check'
import { Kafka, logLevel } from 'kafkajs'
import { afterEach, expect, test } from 'vitest'
import { kafkaConfig } from './kafka-connection.ts'
import { openSocket, wholeResponses } from './kafka-socket.ts'

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

async function listen(onSocket: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => onSocket(socket.on('error', () => {})))
  servers.push(server)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return (server.address() as AddressInfo).port
}

/** What a client of a server that sends these parts gets, until the connection ends. */
async function received(parts: readonly Buffer[]): Promise<{ responses: Buffer[]; error?: Error }> {
  const port = await listen(async (socket) => {
    socket.setNoDelay(true)
    for (const part of parts) await new Promise((resolve) => socket.write(part, resolve))
    socket.end()
  })
  const socket = wholeResponses(openSocket)({ host: '127.0.0.1', port, ssl: false as never, onConnect() {} })
  const responses: Buffer[] = []
  let error: Error | undefined
  socket.on('data', (response) => responses.push(response)).on('error', (cause) => (error = cause))
  await new Promise((resolve) => socket.on('close', resolve))
  return { responses, error }
}

const responseOf = (payload: Uint8Array) => {
  const response = Buffer.alloc(4 + payload.length)
  response.writeInt32BE(payload.length)
  response.set(payload, 4)
  return response
}

const payloads = fc.array(fc.uint8Array({ minLength: 4, maxLength: 40 }), { minLength: 1, maxLength: 5 })

test('responses arrive whole, however they are cut, and what is left of one does not arrive', async () => {
  await fc.assert(
    fc.asyncProperty(payloads, fc.array(fc.nat(120), { maxLength: 8 }), fc.nat(7), async (sent, at, rest) => {
      const whole = sent.map(responseOf)
      const bytes = Buffer.concat([...whole, responseOf(Buffer.alloc(20)).subarray(0, rest)])
      const cuts = [0, ...at.filter((cut) => cut < bytes.length).sort((a, b) => a - b), bytes.length]
      const parts = cuts.slice(1).map((cut, i) => bytes.subarray(cuts[i], cut))
      const { responses, error } = await received(parts)
      expect(responses).toEqual(whole)
      expect(error).toBeUndefined()
    }),
    { numRuns: 30 },
  )
})

test.each([
  ['HTTP', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
  ['a negative length', Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])],
  ['a length without room for a response', Buffer.from([0, 0, 0, 3, 1, 2, 3])],
])('%s is no response', async (_, bytes) => {
  const { responses, error } = await received([bytes])
  expect(responses).toEqual([])
  expect(error?.message).toContain("does not speak Kafka's protocol")
})

test('a connection that breaks in the middle of a response does not spoil the next one', async () => {
  const half = responseOf(Buffer.alloc(60)).subarray(0, 30)
  const connections: Socket[] = []
  const port = await listen((socket) => {
    connections.push(socket)
    socket.once('data', () => socket.end(half))
  })
  const config = kafkaConfig({ brokers: [`127.0.0.1:${port}`] })
  const kafka = new Kafka({
    ...config,
    retry: { retries: 3, initialRetryTime: 1, maxRetryTime: 1 },
    logLevel: logLevel.NOTHING,
  })
  // Without whole responses this is a RangeError that nothing catches.
  await expect(kafka.admin().connect()).rejects.toThrow(/closed connection/i)
  expect(connections.length).toBeGreaterThan(1)
})
