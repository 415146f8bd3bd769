import fc from 'fast-check'
import { expect, test } from 'vitest'
import { completed } from '../app.fixture.ts'
import type { FinishedCaption } from './caption.ts'
import { type CaptionPart, signatureHeader, signReply, timestampHeader, verifyReply } from './reply.ts'

const secret = 'a secret of the fleet'
const now = 1_790_000_000_000

/** Verifies a reply that is signed as it is. */
function verifySigned(value: unknown) {
  const { headers, body } = signReply(secret, 'cap_1', value as FinishedCaption, now)
  const signature = headers[signatureHeader]
  const timestamp = headers[timestampHeader]
  return verifyReply(secret, 'cap_1', { signature, timestamp, body }, now)
}

test('a signed caption comes out as it went in', () => {
  expect(verifySigned(completed('cap_1'))).toEqual({ caption: completed('cap_1') })
})

test('a signed part of a caption comes out as it went in', () => {
  const texts = [{ index: 0, from: 6, text: ' dog' }]
  const part: CaptionPart = { id: 'cap_1', object: 'caption.part', created: 1, texts }
  expect(verifySigned(part)).toEqual({ part })
  expect(verifySigned({ ...part, texts: [{ index: 0, text: '' }] })).toEqual({ fault: 'malformed' })
})

test('whatever else is signed is malformed', () => {
  const damaged = fc
    .tuple(fc.constantFrom(...Object.keys(completed('cap_1'))), fc.jsonValue())
    .map(([field, value]) => ({ ...completed('cap_1'), [field]: value }))
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), damaged), (value) => {
      const verified = verifySigned(value)
      if ('fault' in verified) expect(verified.fault).toBe('malformed')
      // JSON has no -0.
      else
        expect('caption' in verified ? verified.caption : verified.part).toEqual(
          JSON.parse(JSON.stringify(value)),
        )
    }),
  )
})

test('any other text is refused', () => {
  const text = fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-f]{64}$/), fc.constant(String(now)))
  fc.assert(
    fc.property(text, text, fc.string({ unit: 'binary' }), (signature, timestamp, body) => {
      expect(verifyReply(secret, 'cap_1', { signature, timestamp, body }, now)).toHaveProperty('fault')
    }),
  )
})
