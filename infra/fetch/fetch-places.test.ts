import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { FetchPlaces, inPlaces } from './fetch-places.ts'
import type { ImageAsk } from './image-source.ts'

/** Takes places, and notes which were given. */
function taking(perHost = 2) {
  const places = new FetchPlaces(perHost)
  const given: string[] = []
  const take = async (owner: string, ...addresses: string[]) => {
    const taken = addresses.map((address) =>
      places.take({ owner, address }).then((place) => {
        given.push(`${owner} ${address}`)
        return place
      }),
    )
    await turn()
    return taken
  }
  return { places, given, take }
}

const addresses = (count: number, host: (i: number) => string) =>
  Array.from({ length: count }, (_, i) => `https://${host(i)}/${i}`)

describe('places of fetches', () => {
  test('an owner with all of its places leaves others theirs, at the same host too', async () => {
    const { given, take } = taking()
    await take('a', ...addresses(50, (i) => `${i}.com`))
    await take('b', ...addresses(2, () => '0.com'))
    expect(given).toHaveLength(6)
  })

  test('objects of S3 and images in the address wait for no web server', async () => {
    const { given, take } = taking()
    await take('a', ...addresses(50, (i) => `${i}.com`))
    await take('a', 's3://photos/a.jpg', 'data:image/png;base64,AAAA')
    expect(given.slice(4)).toEqual(['a s3://photos/a.jpg', 'a data:image/png;base64,AAAA'])
  })

  test('who leaves the queue holds nothing', async () => {
    const { places, take } = taking(1)
    const [first, second] = await take('a', 'https://a.com/', 'https://b.com/')
    const leaving = new AbortController()
    const third = places.take({ owner: 'a', address: 'https://c.com/', signal: leaving.signal })
    leaving.abort(new Error('left'))
    await expect(third).rejects.toThrow('left')
    for (const place of [first, second]) (await place!).release()
    expect(places.taken).toBe(0)
    await (await places.take({ owner: 'a', address: 'https://c.com/' })).release()
  })
})

describe('an image source in places', () => {
  const { signal } = new AbortController()
  const ask = (owner: string): ImageAsk => ({ owner, signal, granted: () => expect.unreachable() })

  function source(waitMs: number) {
    const places = new FetchPlaces(1)
    const imageAt = inPlaces(
      async (address, { signal, place }) => {
        await place?.()
        if (address.includes('hang'))
          await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
        return new Uint8Array(1)
      },
      { places, waitMs },
    )
    return { imageAt, places }
  }

  test('refuses what finds no place in time, and serves other owners', async () => {
    const { imageAt } = source(20)
    for (const host of ['hang1', 'hang2']) void imageAt(`https://${host}/`, ask('a'))
    await expect(imageAt('https://b.com/', ask('a'))).rejects.toMatchObject({
      status: 429,
      code: 'too_many_fetches',
      retryAfterSeconds: 1,
    })
    expect(await imageAt('data:,', ask('a'))).toHaveLength(1)
    expect(await imageAt('https://b.com/', ask('b'))).toHaveLength(1)
  })

  test('gives back its place, also after a caller who leaves', async () => {
    const { imageAt, places } = source(1000)
    const leaving = new AbortController()
    const left = imageAt('https://hang/', { ...ask('a'), signal: leaving.signal })
    await turn()
    expect(places.taken).toBe(1)
    leaving.abort(new Error('left'))
    await expect(left).rejects.toThrow('left')
    await imageAt('https://b.com/', ask('a'))
    expect(places.taken).toBe(0)
  })
})
