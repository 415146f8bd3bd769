import { expect, test } from 'vitest'
import { encodeKey, S3Signer } from './s3-signature.ts'

/** Of Amazon's documentation: Signature Calculations for the Authorization Header, examples. */
const credentials = {
  accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
}
const host = 'examplebucket.s3.amazonaws.com'
const now = Date.UTC(2013, 4, 24)

test('requests are signed as in the documentation', () => {
  const signer = new S3Signer('us-east-1')
  const get = { method: 'GET', host, path: '/test.txt', headers: { range: 'bytes=0-9' } } as const
  expect(signer.sign(get, credentials, now).authorization).toBe(
    'AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  )
  const put = {
    method: 'PUT',
    host,
    path: `/${encodeKey('test$file.text')}`,
    headers: { date: 'Fri, 24 May 2013 00:00:00 GMT', 'x-amz-storage-class': 'REDUCED_REDUNDANCY' },
    body: new TextEncoder().encode('Welcome to Amazon S3.'),
  } as const
  expect(signer.sign(put, credentials, now).authorization).toMatch(
    /Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd$/,
  )
})

test('another day, and another secret, have another key', () => {
  const signer = new S3Signer('us-east-1')
  const get = { method: 'GET', host, path: '/a' } as const
  const signatures = [
    signer.sign(get, credentials, now),
    signer.sign(get, { ...credentials, secretAccessKey: 'other' }, now),
    signer.sign(get, credentials, now + 86_400_000),
    signer.sign(get, { ...credentials, sessionToken: 'token' }, now),
  ].map(({ authorization }) => authorization)
  expect(new Set(signatures).size).toBe(4)
  expect(signer.sign(get, credentials, now).authorization).toBe(signatures[0])
  expect(signatures[3]).toContain('x-amz-security-token')
})

test.each([
  ['a/b c+d.jpg', 'a/b%20c%2Bd.jpg'],
  ["it's(1)*!.jpg", 'it%27s%281%29%2A%21.jpg'],
  ['é/%2e/../x', '%C3%A9/%252e/../x'],
])('the key %s', (key, encoded) => {
  expect(encodeKey(key)).toBe(encoded)
})
