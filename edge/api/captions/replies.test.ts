import { expect, test } from 'vitest'
import { completed, errorOf, fakeEdge } from '../../app.fixture.ts'
import type { FinishedCaption } from '../../contract/caption.ts'
import {
  type CaptionPart,
  maxReplyAgeMs,
  type PartDelivery,
  type SignedReply,
  signatureHeader,
  signReply,
} from '../../contract/reply.ts'

const secret = 'a secret of the fleet'
const deliveries: Record<string, PartDelivery> = { cap_1: 'taken', cap_gone: 'left' }

/** An edge that knows the secret, where nobody but `cap_1` is waited for. */
function waitingEdge(replySecret: string | undefined = secret) {
  const delivered: FinishedCaption[] = []
  const shown: CaptionPart[] = []
  const edge = fakeEdge({
    replySecret,
    mailbox: {
      open: () => expect.unreachable(),
      deliver: async (id, caption) => {
        delivered.push(caption)
        return id === 'cap_1'
      },
      show: async (id, part) => {
        shown.push(part)
        return deliveries[id] ?? 'unwanted'
      },
    },
  })
  const post = (id: string, { headers, body }: { headers: Record<string, string>; body: string }) =>
    edge.app.request(`/internal/replies/${id}`, { method: 'POST', headers, body })
  return { ...edge, delivered, shown, post }
}

const signed = (id: string, options: { key?: string; ageMs?: number } = {}): SignedReply =>
  signReply(options.key ?? secret, id, completed(id), 1_790_000_000_000 - (options.ageMs ?? 0))

test('a genuine reply is handed to whoever waits', async () => {
  const { post, delivered } = waitingEdge()
  const response = await post('cap_1', signed('cap_1', { ageMs: maxReplyAgeMs }))
  expect([response.status, await response.json()]).toEqual([200, { delivered: true }])
  expect(delivered).toEqual([completed('cap_1')])
})

test('a genuine reply that nobody waits for is fine as well', async () => {
  const { post } = waitingEdge()
  const response = await post('cap_2', signed('cap_2'))
  expect([response.status, await response.json()]).toEqual([200, { delivered: false }])
})

test.each([
  ['cap_1', 200, true],
  ['cap_2', 200, false],
  ['cap_gone', 410, false],
] as const)('a genuine part for %s is answered with %i', async (id, status, taken) => {
  const { post, shown, delivered } = waitingEdge()
  const texts = [{ index: 0, from: 2, text: 'red' }]
  const part: CaptionPart = { id, object: 'caption.part', created: 1_790_000_000, texts }
  const response = await post(id, signReply(secret, id, part, 1_790_000_000_000))
  expect([response.status, await response.json()]).toEqual([status, { delivered: taken }])
  expect([shown, delivered]).toEqual([[part], []])
})

test('a part that says nothing sensible is refused', async () => {
  const { post, shown } = waitingEdge()
  const texts = [{ index: -1, from: 0, text: 'red' }]
  const part: CaptionPart = { id: 'cap_1', object: 'caption.part', created: 1, texts }
  expect((await post('cap_1', signReply(secret, 'cap_1', part, 1_790_000_000_000))).status).toBe(400)
  expect(shown).toEqual([])
})

test.each<[string, () => { headers: Record<string, string>; body: string }, number, string]>([
  ['signed with another secret', () => signed('cap_1', { key: 'another secret' }), 401, 'reply_forged'],
  ['made for another request', () => signed('cap_2'), 401, 'reply_forged'],
  ['changed on its way', () => ({ ...signed('cap_1'), body: '{}' }), 401, 'reply_forged'],
  ['repeated later', () => signed('cap_1', { ageMs: maxReplyAgeMs + 1 }), 401, 'reply_stale'],
  ['without a signature', () => ({ headers: {}, body: '{}' }), 400, 'reply_malformed'],
  [
    'with half a signature',
    () => {
      const { headers, body } = signed('cap_1')
      return { headers: { ...headers, [signatureHeader]: headers[signatureHeader].slice(1) }, body }
    },
    400,
    'reply_malformed',
  ],
  ['far too long', () => ({ ...signed('cap_1'), body: 'x'.repeat(65_537) }), 413, 'body_too_large'],
])('a reply %s is refused', async (_name, make, status, code) => {
  const { post, delivered } = waitingEdge()
  const response = await post('cap_1', await make())
  expect([response.status, (await errorOf(response)).code]).toEqual([status, code])
  expect(delivered).toEqual([])
})

test('without a secret there is no such address', async () => {
  const edge = fakeEdge()
  const { headers, body } = signed('cap_1')
  const response = await edge.app.request('/internal/replies/cap_1', { method: 'POST', headers, body })
  expect(response.status).toBe(404)
})

test('the public document does not speak of it', async () => {
  const { app } = waitingEdge()
  expect(await (await app.request('/openapi.json')).text()).not.toContain('/internal/')
})
