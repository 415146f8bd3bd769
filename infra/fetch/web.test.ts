import { expect, test } from 'vitest'
import { looksPublic } from './public-address.ts'
import { createWebFetcher, type WebOptions } from './web.ts'

const { signal } = new AbortController()

/** A fetcher over canned answers, and the addresses that it asked. */
function fetcher(
  answers: Record<string, () => Response | Promise<Response>>,
  options: Partial<WebOptions> = {},
) {
  const asked: string[] = []
  const fetchImage = createWebFetcher({
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
  return { fetchImage: (url: string, abort = signal) => fetchImage(url, { signal: abort }), asked }
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

test('follows redirects, checks each, and not more than three', async () => {
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
  expect(asked.filter((url) => url.endsWith('/loop'))).toHaveLength(4)
})

test.each([
  [
    'a status that forbids it',
    () => new Response('', { status: 403 }),
    { code: 'image_forbidden', status: 400 },
  ],
  ['another type', () => image('x', { 'content-type': 'text/html' }), { code: 'image_url_content_type' }],
  ['an announced length', () => image('x', { 'content-length': '11' }), { code: 'image_url_too_large' }],
  ['a body that is too long', () => image('12345678901'), { code: 'image_url_too_large' }],
])('%s is refused', async (_name, answer, expected) => {
  const { fetchImage } = fetcher({ 'https://a.com/x': answer })
  await expect(fetchImage('https://a.com/x')).rejects.toMatchObject(expected)
})

test('a server that cannot be reached, or fails, may be asked again', async () => {
  const { fetchImage } = fetcher({ 'https://a.com/down': () => new Response('', { status: 503 }) })
  await expect(fetchImage('https://gone.com/')).rejects.toMatchObject({
    code: 'image_url_unreachable',
    retriable: true,
  })
  await expect(fetchImage('https://a.com/down')).rejects.toMatchObject({ retriable: true })
})

test('one that takes too long is given up', async () => {
  const fetchImage = createWebFetcher({
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
