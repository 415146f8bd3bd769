import { describe, expect, test } from 'vitest'
import { HostPaces } from './host-paces.ts'
import { createImageReader } from './image-reader.ts'
import type { ImageSourceOptions } from './image-source.ts'
import { looksPublic } from './public-address.ts'
import { createWebFetcher, type WebAsk } from './web.ts'

const openFetcher = (options: ImageSourceOptions) => createWebFetcher(createImageReader(options), options)

const { signal } = new AbortController()

/** A fetcher over canned answers, and the addresses that it asked. */
function fetcher(
  answers: Record<string, () => Response | Promise<Response>>,
  options: Partial<ImageSourceOptions> = {},
) {
  const asked: string[] = []
  const fetchImage = openFetcher({
    maxBytes: 10,
    ...options,
    fetch: async (input, init) => {
      asked.push(String(input))
      init.signal?.throwIfAborted()
      const answer = answers[String(input)]
      if (!answer) throw new TypeError('Network connection lost.')
      return answer()
    },
  })
  const fetchOne = (url: string, abort = signal, ask: Partial<WebAsk> = {}) =>
    fetchImage(url, { signal: abort, ...ask })
  return { fetchImage: fetchOne, asked }
}

const image = (body: string | Uint8Array<ArrayBuffer>, headers = {}) =>
  new Response(body, { headers: { 'content-type': 'image/png', ...headers } })
const redirect = (location: string) => new Response(null, { status: 302, headers: { location } })

test('gives the bytes', async () => {
  const { fetchImage } = fetcher({ 'https://a.com/x': () => image('pixels') })
  expect(new TextDecoder().decode(await fetchImage('https://a.com/x'))).toBe('pixels')
})

test.each([
  ['http://a.com/x', 'image_url_invalid'],
  ['https://u:p@a.com/x', 'image_url_invalid'],
  ['nonsense', 'image_url_invalid'],
  ['https://127.0.0.1/x', 'image_url_private'],
  ['https://0x7f.1/x', 'image_url_private'],
  ['https://[::ffff:10.0.0.1]/x', 'image_url_private'],
  ['https://localhost./x', 'image_url_private'],
])('%s is refused by name without asking anybody', async (url, code) => {
  const { fetchImage, asked } = fetcher({})
  await expect(fetchImage(url)).rejects.toMatchObject({ code, retriable: false })
  expect(asked).toEqual([])
})

test.each([
  ['example.com', true],
  ['example.com.', true],
  ['93.184.215.14', true],
  ['[2606:2800:21f:cb07:6820:80da:af6b:8b2c]', true],
  ['[::1]', false],
  ['[fd00::1]', false],
  ['169.254.169.254', false],
  ['168.63.129.16', false],
  ['intranet', false],
  ['db.internal', false],
  ['printer.local', false],
  ['a.localhost', false],
])('%s looks public: %s', (host, expected) => expect(looksPublic(host)).toBe(expected))

test('follows redirects, checks each, and not more than ten', async () => {
  const { fetchImage, asked } = fetcher({
    'https://a.com/1': () => redirect('/2'),
    'https://a.com/2': () => redirect('https://b.com/3'),
    'https://b.com/3': () => image('x'),
    'https://a.com/in': () => redirect('https://10.0.0.1/x'),
    'https://a.com/loop': () => redirect('/loop'),
  })
  expect(await fetchImage('https://a.com/1')).toHaveLength(1)
  await expect(fetchImage('https://a.com/in')).rejects.toMatchObject({ code: 'image_url_private' })
  expect(asked).not.toContain('https://10.0.0.1/x')
  await expect(fetchImage('https://a.com/loop')).rejects.toMatchObject({ code: 'image_url_redirects' })
  expect(asked.filter((url) => url.endsWith('/loop'))).toHaveLength(11)
})

test.each([
  [
    'a status that forbids it',
    () => new Response('', { status: 403 }),
    { code: 'image_forbidden', status: 400 },
  ],
  ['an announced length', () => image('x', { 'content-length': '11' }), { code: 'image_url_too_large' }],
  ['a body that is too long', () => image('12345678901'), { code: 'image_url_too_large' }],
])('%s is refused', async (_name, answer, expected) => {
  const { fetchImage } = fetcher({ 'https://a.com/x': answer })
  await expect(fetchImage('https://a.com/x')).rejects.toMatchObject(expected)
})

test('one that takes too long is given up', async () => {
  const fetchImage = openFetcher({
    maxBytes: 10,
    timeoutMs: 5,
    fetch: (_input, init) =>
      new Promise((_resolve, reject) =>
        init.signal!.addEventListener('abort', () => reject(init.signal!.reason)),
      ),
  })
  await expect(fetchImage('https://a.com/', { signal })).rejects.toMatchObject({ code: 'image_url_timeout' })
})

test('a caller who goes away ends it with his own reason', async () => {
  const { fetchImage } = fetcher({})
  await expect(fetchImage('https://a.com/', AbortSignal.abort('gone'))).rejects.toBe('gone')
})

describe('what the bytes are decides, whatever their type says', () => {
  const answerOf = (body: string | Uint8Array<ArrayBuffer>, type?: string) => {
    const headers: Record<string, string> = type === undefined ? {} : { 'content-type': type }
    const answer = () =>
      new Response(typeof body === 'string' ? new TextEncoder().encode(body) : body, { headers })
    return fetcher({ 'https://a.com/x': answer }, { maxBytes: 1000 }).fetchImage('https://a.com/x')
  }
  const jpeg = new Uint8Array([0xff, 0xd8, 0xff, 0xe0, 0, 16])

  test.each([
    'image/jpeg',
    'image/jpg',
    'text/html; charset=utf-8',
    'text/plain',
    'application/json',
    'application/x-download',
    'application/octet-stream',
    'binary/octet-stream',
    'video/mp4',
    'nonsense',
    '',
    undefined,
  ])('an image of the type %j is taken', async (type) => {
    expect(await answerOf(jpeg, type)).toEqual(jpeg)
  })

  test.each([
    ['<!DOCTYPE html><html><body>Please log in', 'text/html'],
    ['<!doctype HTML public "x">', 'image/jpeg'],
    ['\ufeff \n<html lang="en">', undefined],
    ['<!-- a comment -->\n<!-- more --><head>', 'application/octet-stream'],
    ['<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN">', 'image/png'],
    ['<script>location="/"</script>', 'text/html'],
  ])('%j of the type %j is a web page', async (body, type) => {
    const answer = answerOf(body, type)
    await expect(answer).rejects.toMatchObject({ code: 'image_url_content_type', retriable: false })
    await expect(answer).rejects.toThrow('answered with a web page')
  })

  test.each([
    ['{"error": "not found"}', 'application/json', 'application/json'],
    ['<Error><Code>AccessDenied</Code></Error>', 'application/xml', 'application/xml'],
    ['Not found', 'text/plain; charset=utf-8', 'text/plain'],
  ])('%j of the type %s is said to be that', async (body, type, said) => {
    await expect(answerOf(body, type)).rejects.toThrow(`answered with ${said}`)
  })
})

describe('a host that fails', () => {
  const failing = (status: number, headers: Record<string, string> = {}) =>
    fetcher({ 'https://a.com/x': () => new Response('', { status, headers }) }).fetchImage('https://a.com/x')

  test.each([
    [429, {}, { code: 'image_host_rate_limited', status: 429, retryAfterSeconds: 1 }],
    [429, { 'retry-after': '17' }, { code: 'image_host_rate_limited', status: 429, retryAfterSeconds: 17 }],
    [503, { 'retry-after': '17' }, { code: 'image_url_status', status: 503, retryAfterSeconds: 17 }],
    [
      503,
      { 'retry-after': 'Sun, 06 Nov 1994 08:49:37 GMT', date: 'Sun, 06 Nov 1994 08:49:07 GMT' },
      { status: 503, retryAfterSeconds: 30 },
    ],
    [500, {}, { code: 'image_url_status', status: 503 }],
    [502, {}, { code: 'image_url_status', status: 503 }],
    [504, {}, { code: 'image_url_status', status: 503 }],
    [522, {}, { code: 'image_url_status', status: 503 }],
    [408, {}, { code: 'image_url_status', status: 503 }],
    [425, {}, { code: 'image_url_status', status: 503 }],
  ])('with %d and %j: the same can succeed later', async (status, headers, expected) => {
    await expect(failing(status, headers)).rejects.toMatchObject({ ...expected, retriable: true })
  })

  test('with 429 is named, as is what it asks for', async () => {
    await expect(failing(429, { 'retry-after': '17' })).rejects.toThrow(
      "The image's host a.com answered with status 429 (too many requests, Retry-After: 17 s).",
    )
  })

  test.each([
    [400, 'image_url_status'],
    [401, 'image_forbidden'],
    [403, 'image_forbidden'],
    [404, 'image_not_found'],
    [410, 'image_not_found'],
    [451, 'image_url_status'],
    [501, 'image_url_status'],
    [204, 'image_url_status'],
    [304, 'image_url_status'],
  ])('with %d: for good', async (status, code) => {
    const answer = () => (status < 400 ? new Response(null, { status }) : new Response('', { status }))
    const { fetchImage } = fetcher({ 'https://a.com/x': answer })
    await expect(fetchImage('https://a.com/x')).rejects.toMatchObject({ code, status: 400, retriable: false })
  })

  test.each([
    ...['ECONNREFUSED', 'ECONNRESET', 'ETIMEDOUT', 'EHOSTUNREACH', 'EPIPE', 'UND_ERR_SOCKET', undefined],
    ...['UND_ERR_CONNECT_TIMEOUT', 'EAI_AGAIN', 'ESERVFAIL', 'ETIMEOUT', 'EREFUSED'],
  ])('with %s of its connection or its name server: the same can succeed later', async (code) => {
    const cause = code === undefined ? undefined : Object.assign(new Error('x'), { code })
    const { fetchImage } = fetcher({
      'https://a.com/x': () => Promise.reject(new TypeError('fetch failed', { cause })),
    })
    await expect(fetchImage('https://a.com/x')).rejects.toMatchObject({
      ...{ code: 'image_url_unreachable', status: 503, retriable: true, retryAfterSeconds: 5 },
    })
  })

  test.each([
    ...['ENOTFOUND', 'ENODATA', 'CERT_HAS_EXPIRED', 'ERR_TLS_CERT_ALTNAME_INVALID', 'EPROTO'],
    ...['DEPTH_ZERO_SELF_SIGNED_CERT', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'SELF_SIGNED_CERT_IN_CHAIN'],
    ...['ERR_SSL_WRONG_VERSION_NUMBER', 'HPE_INVALID_CONSTANT'],
  ])('with %s: for good', async (code) => {
    const cause = Object.assign(new Error('x'), { code })
    const { fetchImage } = fetcher({
      'https://a.com/x': () => Promise.reject(new TypeError('fetch failed', { cause })),
    })
    await expect(fetchImage('https://a.com/x')).rejects.toMatchObject({
      ...{ code: 'image_url_unreachable', status: 400, retriable: false },
    })
  })
})

describe('an address as browsers open it', () => {
  const asks = async (url: string, options: Partial<ImageSourceOptions> = {}) => {
    const asked: string[] = []
    const fetchImage = openFetcher({
      ...{ maxBytes: 10, allowHttp: true, ...options },
      fetch: async (input) => {
        asked.push(input.href)
        return image('x')
      },
    })
    await fetchImage(url, { signal })
    return asked[0]
  }

  test.each([
    ['http://a.com/x', 'http://a.com/x'],
    ['HTTPS://A.com/X', 'https://a.com/X'],
    ['https://a.com:8443/x', 'https://a.com:8443/x'],
    ['https://a.com:443/x', 'https://a.com/x'],
    ['http://a.com:80/x', 'http://a.com/x'],
    ['https://a.com./x', 'https://a.com/x'],
    ['https://a.com/x#part', 'https://a.com/x#part'],
    ['https://bücher.example/ü.jpg', 'https://xn--bcher-kva.example/%C3%BC.jpg'],
    ['https://a.com/a b.jpg', 'https://a.com/a%20b.jpg'],
    ['https://a.com/a%20b%2Fc.jpg', 'https://a.com/a%20b%2Fc.jpg'],
    ['https://a.com/50%.jpg', 'https://a.com/50%.jpg'],
    ['https://a.com/x?q=a b&r=ü', 'https://a.com/x?q=a%20b&r=%C3%BC'],
    ['https://a.com/a/../b.jpg', 'https://a.com/b.jpg'],
    ['https://a.com\\b.jpg', 'https://a.com/b.jpg'],
    ['  https://a.com/x\n', 'https://a.com/x'],
    ['https:a.com/x', 'https://a.com/x'],
    ['https://a.com', 'https://a.com/'],
  ])('%j is fetched as %s', async (url, expected) => expect(await asks(url)).toBe(expected))

  test('with http is refused where that is not allowed', async () => {
    await expect(asks('http://a.com/x', { allowHttp: false })).rejects.toMatchObject({
      code: 'image_url_invalid',
    })
  })

  test.each(['http://10.0.0.1/x', 'http://localhost/x', 'http://127.1/x'])(
    '%s in a private network stays refused',
    async (url) => {
      await expect(asks(url)).rejects.toMatchObject({ code: 'image_url_private' })
    },
  )

  const utf8 = (text: string) => Buffer.from(text).toString('latin1')

  test.each([
    [utf8('/bücher/ü.jpg'), 'https://a.com/b%C3%BCcher/%C3%BC.jpg'],
    ['/b\xfccher.jpg', 'https://a.com/b%C3%BCcher.jpg'],
    ['/a b.jpg', 'https://a.com/a%20b.jpg'],
    ['/a%20b.jpg', 'https://a.com/a%20b.jpg'],
    ['next.jpg', 'https://a.com/dir/next.jpg'],
    ['?again=1', 'https://a.com/dir/x?again=1'],
    ['//b.com/x', 'https://b.com/x'],
    ['http://b.com/x', 'http://b.com/x'],
    [utf8('https://bücher.example/x'), 'https://xn--bcher-kva.example/x'],
    [' https://b.com./x ', 'https://b.com/x'],
  ])('a redirect to %j leads to %s', async (location, expected) => {
    const asked: string[] = []
    const fetchImage = openFetcher({
      ...{ maxBytes: 10, allowHttp: true },
      fetch: async (input) => {
        asked.push(input.href)
        if (asked.length > 1) return image('x')
        // `Headers` would refuse what a platform's own have read.
        return { status: 302, headers: { get: () => location }, body: null } as unknown as Response
      },
    })
    await fetchImage('https://a.com/dir/x', { signal })
    expect(asked[1]).toBe(expected)
  })

  test.each([
    'file:///etc/passwd',
    'https://10.0.0.1/x',
    'https://u:p@b.com/x',
    'data:image/png;base64,AAAA',
    'ftp://b.com/x',
  ])('a redirect to %s is refused', async (location) => {
    const { fetchImage } = fetcher({ 'https://a.com/x': () => redirect(location) })
    await expect(fetchImage('https://a.com/x')).rejects.toMatchObject({
      code: expect.stringMatching(/^image_url_(invalid|private)$/),
    })
  })

  test('a redirect without an address is a status', async () => {
    const { fetchImage } = fetcher({ 'https://a.com/x': () => new Response(null, { status: 302 }) })
    await expect(fetchImage('https://a.com/x')).rejects.toMatchObject({ code: 'image_url_status' })
  })
})

describe('a host that does not answer', () => {
  /** `https://gone.com` is refused until it is back; `https://a.com` leads there. */
  function setUp() {
    const state = { back: false, now: 0 }
    const hosts = new HostPaces({ now: () => state.now })
    const refused = () => Promise.reject(new TypeError('x', { cause: { code: 'ECONNREFUSED' } }))
    const asked: string[] = []
    const fetchImage = openFetcher({
      ...{ maxBytes: 10, hosts },
      fetch: async ({ href }) => {
        asked.push(href)
        if (href === 'https://a.com/') return redirect('https://gone.com/')
        return state.back ? image('x') : refused()
      },
    })
    const fetchNow = (url: string) =>
      fetchImage(url, { signal, waitMs: 0 }).catch(({ retryAfterSeconds }) => retryAfterSeconds)
    return { state, asked, fetchNow }
  }

  test('is left alone, until it is back', async () => {
    const { state, asked, fetchNow } = setUp()
    for (let i = 0; i < 50; i++) expect(await fetchNow('https://gone.com/')).toBe(5)
    expect(asked).toHaveLength(8)
    Object.assign(state, { back: true, now: 5_000 })
    expect(await fetchNow('https://gone.com/')).toHaveLength(1)
  })

  test('is the one that a redirect leads to, not the one that redirects', async () => {
    const { asked, fetchNow } = setUp()
    for (let i = 0; i < 20; i++) await fetchNow('https://a.com/')
    expect(asked.filter((url) => url === 'https://a.com/')).toHaveLength(20)
    expect(asked).toHaveLength(28)
  })
})

test('waiting for a host, or for a place, is none of the time that an image has', async () => {
  const hosts = new HostPaces({ concurrency: 1 })
  const fetchImage = openFetcher({ maxBytes: 10, timeoutMs: 50, hosts, fetch: async () => image('x') })
  const place = async () => {
    await new Promise((resolve) => setTimeout(resolve, 40))
    return { release: () => {} }
  }
  const all = Array.from({ length: 3 }, () => fetchImage('https://a.com/', { signal, place }))
  expect(await Promise.all(all)).toHaveLength(3)
})

test('the place of a redirect, or of a failure, is given back; that of the image is not', async () => {
  const places: string[] = []
  const { fetchImage } = fetcher({
    'https://a.com/1': () => redirect('/2'),
    'https://a.com/2': () => image('x'),
    'https://a.com/gone': () => new Response('', { status: 404 }),
  })
  const place = async () => {
    places.push('taken')
    return { release: () => void places.push('released') }
  }
  await fetchImage('https://a.com/1', signal, { place })
  expect(places.splice(0)).toEqual(['taken', 'released', 'taken'])
  await expect(fetchImage('https://a.com/gone', signal, { place })).rejects.toThrow('404')
  expect(places).toEqual(['taken', 'released'])
})
