import { expect, test } from 'vitest'
import { isLocalRequest, isLoopbackHost } from './loopback.ts'

test.each([
  'localhost',
  'LOCALHOST',
  'app.localhost',
  '127.0.0.1',
  '127.8.9.10',
  '::1',
  '[::1]',
  '::ffff:127.0.0.1',
])('%s is this machine', (host) => expect(isLoopbackHost(host)).toBe(true))

test.each([
  '0.0.0.0',
  '::',
  '',
  '10.0.0.1',
  '192.168.1.2',
  'localhost.example.com',
  '127.0.0.1.nip.io',
  'notlocalhost',
  'turbine',
])('"%s" is more than this machine', (host) => expect(isLoopbackHost(host)).toBe(false))

test.each([
  ['http://127.0.0.1:8787/v1/models', undefined, true],
  ['http://[::1]:8787/v1/models', undefined, true],
  ['http://localhost/', 'http://localhost:3000', true],
  ['http://localhost/', 'https://example.com', false],
  ['http://localhost/', 'null', false],
  ['http://rebound.example.com:8787/', undefined, false],
])('a request to %s from a page of %s is local: %s', (url, origin, local) => {
  const headers = new Headers(origin === undefined ? {} : { origin })
  expect(isLocalRequest({ url, headers })).toBe(local)
})
