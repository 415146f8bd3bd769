import { describe, expect, test } from 'vitest'
import { maxBodyBytes } from '../../../edge/contract/caption.ts'
import { ImageError, TurbineError } from '../../../edge/contract/errors.ts'
import { keys } from '../../../edge/contract/keys.ts'
import type { Capabilities } from '../../../edge/contract/model.ts'
import { decodeShardJob, encodeShardJob } from '../../../edge/contract/shard.ts'
import { imageFaults } from '../../../infra/fetch/faults.ts'
import { HostPaces } from '../../../infra/fetch/host-paces.ts'
import type { ImageSource } from '../../../infra/fetch/image-source.ts'
import { visitOf } from '../../../infra/fetch/web.ts'
import { memoryStore } from '../../../infra/store/memory.fixture.ts'
import { MissingSliceError } from '../../../infra/store/slices.ts'
import { StoreUnavailableError } from '../../../infra/store/store.ts'
import { FakeCaptioner, type FakeCaptionerOptions } from '../../cli/captioner.fixture.ts'
import type { CaptionTask } from '../../pipeline/captioner.ts'
import { createShardRunner, type ShardRunnerOptions } from './runner.ts'
import { captionOf, codeOf, decodeShard, fakeImages, gif, inPlace, shardOf } from './shard.fixture.ts'

const signal = new AbortController().signal

/** A runner with its own store; the captioner's queue is never waited for in real time. */
function setUp(
  options: Partial<ShardRunnerOptions> & { captions?: FakeCaptionerOptions; takesPlaces?: true } = {},
) {
  const { store } = memoryStore()
  const { captions, images = fakeImages, takesPlaces, ...rest } = options
  const run = createShardRunner({
    captioner: new FakeCaptioner(captions),
    store,
    images: takesPlaces ? images : inPlace(images),
    sleep: async () => {},
    now: () => 1000,
    ...rest,
  })
  return { store, run }
}

async function resultsOf(
  run: ReturnType<typeof createShardRunner>,
  job: Awaited<ReturnType<typeof shardOf>>,
) {
  const results = await run(job, signal)
  return decodeShard(results!.object)
}

describe('the results of a shard', () => {
  test('have every line once, in the order of the input, however long each took', async () => {
    const lines = Array.from({ length: 200 }, (_, i) => `https://x/${i}.jpg`)
    const delays = lines.map((_, i) => (i * 7919) % 13)
    const { store, run } = setUp({
      images: async (url, ask) => {
        for (let turns = delays[Number.parseInt(url.slice(10), 10)]!; turns > 0; turns--)
          await Promise.resolve()
        return fakeImages(url, ask)
      },
    })
    const { header, output, errors } = await resultsOf(run, await shardOf(store, lines, { firstLine: 257 }))
    expect(output.map(({ custom_id }) => custom_id)).toEqual(lines.map((_, i) => `line-${257 + i}`))
    expect(output.map(({ response }) => response!.body.caption)).toEqual(lines.map(captionOf))
    expect(errors).toEqual([])
    expect(header).toMatchObject({
      completed: 200,
      failed: 0,
      dropped: 0,
      pruneRatioSum: 100,
      inputTokens: 200 * 197,
      outputTokens: 800,
    })
  })

  test('cost nothing for empty lines, however many there are', async () => {
    let begun = 0
    const { store, run } = setUp({ onInFlight: (change) => (begun += Math.max(change, 0)) })
    const blank = Array.from({ length: 300_000 }, (_, i) => (i % 2 === 0 ? '' : ' \r'))
    const job = await shardOf(store, ['https://x/a.jpg', ...blank, 'https://x/b.jpg'])
    const { output } = await resultsOf(run, job)
    expect(output.map(({ custom_id }) => custom_id)).toEqual(['line-1', 'line-300002'])
    expect(begun).toBe(2)
  })

  test('are captions, or chat completions, as the endpoint has them', async () => {
    const { store, run } = setUp()
    const line = '{"custom_id": "a", "image_url": "https://x/a.jpg"}'
    const caption = await resultsOf(run, await shardOf(store, [line]))
    expect(caption.output).toMatchObject([
      {
        custom_id: 'a',
        error: null,
        response: { status_code: 200, body: { object: 'caption', status: 'completed', created: 1 } },
      },
    ])
    const chat = await resultsOf(run, await shardOf(store, [line], { endpoint: '/v1/chat/completions' }))
    expect(chat.output[0]!.response!.body).toMatchObject({
      object: 'chat.completion',
      choices: [{ message: { content: captionOf('https://x/a.jpg') } }],
      usage: { prompt_tokens: 197, completion_tokens: 4 },
      turbine: { prune_ratio: 0.5 },
    })
  })

  test('tell of every bad line with its code, and the other lines go on', async () => {
    const { store, run } = setUp({
      captions: {
        fail: (image) =>
          image.includes('crash')
            ? new TurbineError('It cannot run.', { status: 503, code: 'inference_failed' })
            : undefined,
      },
    })
    const lines = [
      'https://x/first.jpg',
      '{"image_url": ',
      '',
      '{"custom_id": "gone", "image_url": "https://x/gone.jpg"}',
      '{"custom_id": "twice", "image_url": "https://x/twice.jpg"}',
      '{"custom_id": "text", "image_url": "https://x/text.jpg"}',
      '{"custom_id": "crash", "image_url": "https://x/crash.jpg"}',
      'https://x/last.jpg',
    ]
    const job = await shardOf(store, lines, { duplicates: [5] })
    const { header, output, errors } = await resultsOf(run, job)
    expect(output.map(({ custom_id }) => custom_id)).toEqual(['line-1', 'line-8'])
    expect(errors.map((line) => [line.custom_id, codeOf(line), line.error?.line])).toEqual([
      [null, 'invalid_json_line', 2],
      ['gone', 'image_not_found', undefined],
      ['twice', 'duplicate_custom_id', 5],
      ['text', 'image_invalid', undefined],
      ['crash', 'inference_failed', undefined],
    ])
    expect(errors[1]!.response).toMatchObject({ status_code: 400 })
    expect(errors[3]!.response).toMatchObject({ status_code: 415 })
    expect(header).toMatchObject({ completed: 2, failed: 5, dropped: 0 })
  })
})

describe('lines are read as the service that took the batch says', () => {
  const body = (more: object) => ({
    messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'https://x/a.jpg' } }] }],
    ...more,
  })
  const line = (custom_id: string, more: object) =>
    JSON.stringify({ custom_id, method: 'POST', url: '/v1/chat/completions', body: body(more) })
  const chat = { endpoint: '/v1/chat/completions' } as const

  test('with its aliases and what it ignores, which a record of the stream carries', async () => {
    const { store, run } = setUp()
    const reading = { ignored: ['temperature'], aliases: { 'gpt-4o-mini': 'fake' } }
    const lines = [
      line('alias', { model: 'gpt-4o-mini', temperature: 0.7 }),
      line('own', { model: 'fake' }),
      line('other', { model: 'gpt-4o' }),
      line('refused', { n: 2 }),
    ]
    const job = decodeShardJob(encodeShardJob(await shardOf(store, lines, { ...chat, reading })))
    expect(job.reading).toEqual(reading)
    const { output, errors } = await resultsOf(run, job)
    expect(output.map(({ response }) => response!.body)).toMatchObject([
      { model: 'gpt-4o-mini', turbine: { model: 'fake', ignored_parameters: ['temperature'] } },
      { model: 'fake', turbine: { model: 'fake' } },
    ])
    expect(output[1]!.response!.body.turbine).not.toHaveProperty('ignored_parameters')
    expect(errors.map(codeOf)).toEqual(['model_mismatch', 'unsupported_parameter'])
  })

  test('and end where they say', async () => {
    const tasks: CaptionTask[] = []
    const { store, run } = setUp({ captions: { onTask: (task) => tasks.push(task) } })
    const lines = [
      line('chat', { max_tokens: 5, stop: ['.'] }),
      '{"image_url": "https://x/b.jpg", "max_tokens": 7, "stop": " and"}',
      'https://x/c.jpg',
    ]
    await resultsOf(run, await shardOf(store, lines, chat))
    expect(tasks.map(({ maxTokens, stop }) => [maxTokens, stop])).toEqual([
      [5, ['.']],
      [7, [' and']],
      [undefined, undefined],
    ])
  })

  test('a broken picture is a bad request of a chat, and what HTTP has for it of a caption', async () => {
    const { store, run } = setUp()
    const statusOf = async (endpoint: '/v1/captions' | '/v1/chat/completions') => {
      const { errors } = await resultsOf(run, await shardOf(store, ['https://x/text.jpg'], { endpoint }))
      return errors.map(({ response }) => response!.status_code)
    }
    expect(await statusOf('/v1/chat/completions')).toEqual([400])
    expect(await statusOf('/v1/captions')).toEqual([415])
  })
})

test('a line is run in the batch lane, pruned no harder than it and its batch allow', async () => {
  const tasks: CaptionTask[] = []
  const { store, run } = setUp({ captions: { onTask: (task) => tasks.push(task) } })
  const line = (maxPrune: number) =>
    JSON.stringify({ image_url: 'https://x/a.jpg', prompt: 'a photo of', turbine: { max_prune: maxPrune } })
  await run(await shardOf(store, [line(0.2), line(0.9), 'https://x/b.jpg'], { maxPrune: 0.5 }), signal)
  expect(tasks.map(({ maxPrune }) => maxPrune)).toEqual([0.2, 0.5, 0.5])
  expect(tasks[0]).toMatchObject({ lane: 'batch', deadline: 1_000_000, prompt: 'a photo of' })
})

test('images are fetched with the grants of the tenant as it is kept, looked up once', async () => {
  const buckets: string[] = []
  let reads = 0
  const { store } = memoryStore()
  await store.put(
    keys.tenant('acme'),
    JSON.stringify({ id: 'acme', grants: [{ uri: 's3://photos/', access: 'read' }] }),
  )
  const counted = {
    ...store,
    get: (...args: Parameters<typeof store.get>) => {
      if (args[0] === keys.tenant('acme')) reads++
      return store.get(...args)
    },
  }
  const { run } = setUp({
    store: counted,
    images: async (url, ask) => {
      buckets.push(ask.granted(url).bucket)
      expect(() => ask.granted('s3://other/a.jpg')).toThrow('--read s3://other/')
      return fakeImages(url, ask)
    },
  })
  await run(await shardOf(store, ['s3://photos/a.jpg', 's3://photos/b.jpg']), signal)
  expect([buckets, reads]).toEqual([['photos', 'photos'], 1])
})

describe('a batch that ends while its lines are run', () => {
  test('expired: lines that were not begun are dropped, those that were are done', async () => {
    let now = 1000
    const { store, run } = setUp({
      fetches: 1,
      captions: {
        concurrency: 1,
        onTask: () => {
          now += 10_000
        },
      },
      now: () => now,
    })
    const lines = Array.from({ length: 20 }, (_, i) => `https://x/${i}.jpg`)
    const { header, output, errors } = await resultsOf(
      run,
      await shardOf(store, lines, { expiresAt: 51_000 }),
    )
    expect(output.length).toBeGreaterThanOrEqual(5)
    expect(errors.length).toBeGreaterThan(0)
    expect(output.length + errors.length).toBe(20)
    expect(new Set(errors.map(codeOf))).toEqual(new Set(['batch_expired']))
    expect(header).toMatchObject({ completed: output.length, failed: 0, dropped: errors.length })
  })

  test('expired: nobody waits for an image that does not come', async () => {
    const { store, run } = setUp({
      images: async (url, ask) => {
        if (url.endsWith('fast.jpg')) return fakeImages(url, ask)
        return new Promise((_, reject) => {
          ask.signal.addEventListener('abort', () => reject(ask.signal.reason))
        })
      },
    })
    const job = await shardOf(store, ['https://x/slow.jpg', 'https://x/fast.jpg'], { expiresAt: 1020 })
    const { header, errors } = await resultsOf(run, job)
    expect(header).toMatchObject({ completed: 1, dropped: 1 })
    expect(errors.map(codeOf)).toEqual(['batch_expired'])
  })

  test('cancelled: what was done and is in hand is kept, and its lines are run no further', async () => {
    let tasks = 0
    let now = 1000
    const { store, run } = setUp({
      fetches: 1,
      captions: {
        concurrency: 1,
        onTask: () => {
          if (++tasks === 3) void store.put(keys.batchCancel('acme', 'batch_1'), '{}')
          now += 600
        },
      },
      now: () => now,
    })
    const lines = Array.from({ length: 100 }, (_, i) => `https://x/${i}.jpg`)
    const results = await run(await shardOf(store, lines), signal)
    expect(results).toMatchObject({ cancelled: true, tally: { completed: tasks, failed: 0, dropped: 0 } })
    expect(tasks).toBeGreaterThanOrEqual(3)
    expect(tasks).toBeLessThan(10)
  })

  test('cancelled: lines whose hosts let them wait notice it', async () => {
    const { store, run } = setUp({
      takesPlaces: true,
      images: async (url, ask) => {
        if (url.endsWith('fast.jpg')) return fakeImages(url, ask)
        ask.onWait?.(undefined)
        void store.put(keys.batchCancel('acme', 'batch_1'), '{}')
        return new Promise((_, reject) => {
          ask.signal.addEventListener('abort', () => reject(ask.signal.reason))
        })
      },
    })
    const job = await shardOf(store, ['https://x/slow.jpg', 'https://x/fast.jpg'])
    expect(await run(job, signal)).toMatchObject({ cancelled: true, tally: { completed: 1, failed: 0 } })
  })

  test('cancelled before anything is done: nothing comes of it', async () => {
    const { store, run } = setUp()
    await store.put(keys.batchCancel('acme', 'batch_1'), '{}')
    expect(await run(await shardOf(store, ['https://x/a.jpg']), signal)).toBeUndefined()
  })
})

describe('trouble that is not the fault of a line', () => {
  test.each([
    ['a store that is away', new StoreUnavailableError('away'), undefined],
    ['a processor that shuts down', undefined, new TurbineError('x', { status: 503, code: 'shutting_down' })],
    ['a defect', undefined, new TypeError('a defect')],
  ])('%s: the shard is to come again, and nothing of it runs on', async (_, fetchError, captionError) => {
    let running = 0
    const { store, run } = setUp({
      fetches: 4,
      images: async (url, ask) => {
        running++
        try {
          await new Promise((resolve) => setImmediate(resolve))
          if (fetchError && url.endsWith('/7.jpg')) throw fetchError
          return await fakeImages(url, ask)
        } finally {
          running--
        }
      },
      captions: { fail: (image) => (image.endsWith('/7.jpg') ? captionError : undefined) },
    })
    const lines = Array.from({ length: 50 }, (_, i) => `https://x/${i}.jpg`)
    await expect(run(await shardOf(store, lines), signal)).rejects.toBe(fetchError ?? captionError)
    expect(running).toBe(0)
  })

  test('a manifest that is gone', async () => {
    const { store, run } = setUp()
    const job = await shardOf(store, ['https://x/a.jpg'])
    await store.delete(job.slices[0]!.key)
    await expect(run(job, signal)).rejects.toThrow(MissingSliceError)
  })

  test('a consumer that closes: no line is begun any more', async () => {
    const closing = new AbortController()
    let tasks = 0
    const onTask = () => {
      tasks++
      closing.abort(new Error('closing'))
    }
    const { store, run } = setUp({ fetches: 1, captions: { concurrency: 1, onTask } })
    const lines = Array.from({ length: 30 }, (_, i) => `https://x/${i}.jpg`)
    await expect(run(await shardOf(store, lines), closing.signal)).rejects.toThrow('closing')
    expect(tasks).toBe(1)
  })

  test('a full queue is waited out', async () => {
    let refusals = 5
    const waits: number[] = []
    const { store, run } = setUp({
      captions: {
        fail: () =>
          refusals-- > 0
            ? new TurbineError('full', { status: 429, code: 'queue_full', retryAfterSeconds: 3 })
            : undefined,
      },
      sleep: async (ms) => void waits.push(ms),
    })
    const { header } = await resultsOf(run, await shardOf(store, ['https://x/a.jpg', 'https://x/b.jpg']))
    expect(header).toMatchObject({ completed: 2, failed: 0 })
    expect(waits).toEqual([3000, 3000, 3000, 3000, 3000])
  })
})

describe('an image that cannot be had now', () => {
  const unavailable = (code: 'image_unavailable' | 'image_url_timeout', retryAfterSeconds?: number) =>
    new ImageError(code, 'S3 said 503 SlowDown.', { status: 503, retriable: true, retryAfterSeconds })

  /** A runner in which the image `bad` fails so often. */
  function failing(
    error: Error,
    failures = Number.POSITIVE_INFINITY,
    options: Partial<ShardRunnerOptions> = {},
  ) {
    const waits: number[] = []
    let tries = 0
    const { run, store } = setUp({
      images: async (url, ask) => {
        if (url.includes('bad') && tries++ < failures) throw error
        return fakeImages(url, ask)
      },
      sleep: async (ms) => void waits.push(ms),
      ...options,
    })
    return { run, store, waits, tries: () => tries }
  }

  test.each([
    ['s3://photos/bad.jpg', 'image_unavailable'],
    ['https://x/bad.jpg', 'image_url_timeout'],
  ] as const)(
    '%s comes at a later try, however many it takes, with pauses up to a minute',
    async (url, code) => {
      const { run, store, waits, tries } = failing(unavailable(code), 100)
      const job = await shardOf(store, ['https://x/a.jpg', url, 'https://x/b.jpg'])
      expect((await resultsOf(run, job)).header).toMatchObject({ completed: 3, failed: 0 })
      expect([tries(), waits.length]).toEqual([101, 100])
      expect(Math.max(...waits)).toBeGreaterThan(30_000)
      expect(Math.max(...waits)).toBeLessThanOrEqual(60_000)
    },
  )

  test('fails alone when its fault is for good', async () => {
    const { run, store, tries } = failing(new ImageError('image_not_found', 'It is gone.'))
    const job = await shardOf(store, ['https://x/a.jpg', 'https://x/bad.jpg', 'https://x/b.jpg'])
    const { output, errors } = await resultsOf(run, job)
    expect(output.map(({ custom_id }) => custom_id)).toEqual(['line-1', 'line-3'])
    expect(errors.map(codeOf)).toEqual(['image_not_found'])
    expect(tries()).toBe(1)
  })

  describe('until its batch expires', () => {
    const limited = imageFaults.badStatus({ status: 429, host: 'cdn.example', afterMs: 40_000 })

    test('fails with what its host answered', async () => {
      const { run, store } = failing(limited, undefined, {
        sleep: (_, stop) => new Promise((resolve) => stop.addEventListener('abort', () => resolve())),
      })
      const job = await shardOf(store, ['https://x/a.jpg', 'https://x/bad.jpg'], { expiresAt: 1030 })
      const { header, errors } = await resultsOf(run, job)
      expect(header).toMatchObject({ completed: 1, failed: 1, dropped: 0 })
      expect(errors[0]!.response).toMatchObject({
        status_code: 429,
        body: {
          error: {
            code: 'image_host_rate_limited',
            message: expect.stringMatching(
              /expired.*cdn\.example answered with status 429.*Retry-After: 40 s/,
            ),
          },
        },
      })
    })

    test('is dropped, with what its host had answered to others, when it was never asked for', async () => {
      const { run, store } = failing(limited, 0, {
        images: async (url, ask) => {
          if (!url.includes('bad')) return fakeImages(url, ask)
          ask.onWait?.(limited)
          return new Promise((_, reject) =>
            ask.signal.addEventListener('abort', () => reject(ask.signal.reason)),
          )
        },
      })
      const job = await shardOf(store, ['https://x/a.jpg', 'https://x/bad.jpg'], { expiresAt: 1030 })
      const { header, errors } = await resultsOf(run, job)
      expect(header).toMatchObject({ completed: 1, failed: 0, dropped: 1 })
      expect(errors[0]!.error).toMatchObject({
        code: 'batch_expired',
        message: expect.stringMatching(/cdn\.example answered with status 429.*Retry-After: 40 s/),
      })
    })
  })

  test("is no fault of the line while the service's own store is away: the shard comes again", async () => {
    const away = new StoreUnavailableError('the own store is away')
    const { store } = memoryStore()
    const own = {
      ...store,
      head: async (key: string) => (key === 'ready' ? Promise.reject(away) : store.head(key)),
    }
    const { run, tries } = failing(unavailable('image_unavailable'), undefined, { store: own })
    const job = await shardOf(store, ['s3://photos/bad.jpg', 'https://x/a.jpg'])
    await expect(run(job, signal)).rejects.toBe(away)
    expect(tries()).toBe(1)
  })

  test('holds no place while it waits for its next try', async () => {
    const waiting = Promise.withResolvers<void>()
    const { run, store } = failing(unavailable('image_url_timeout'), 1, {
      fetches: 1,
      sleep: () => waiting.promise,
      onLine: (outcome) => void ('captioned' in outcome && waiting.resolve()),
    })
    const { header } = await resultsOf(run, await shardOf(store, ['https://x/bad.jpg', 'https://x/a.jpg']))
    expect(header.completed).toBe(2)
  })
})

/** A server that never answers; `fetching` counts. */
function hangingImages(hangs: (url: string) => boolean) {
  const count = { fetching: 0 }
  const hosts = new HostPaces({ concurrency: 4 })
  const fetch: ImageSource = async (url, ask) => {
    if (!hangs(url)) return fakeImages(url, ask)
    count.fetching++
    return new Promise((_, reject) => ask.signal.addEventListener('abort', () => reject(ask.signal.reason)))
  }
  const images: ImageSource = (url, ask) =>
    hosts.visit(visitOf(ask, URL.parse(url)?.host ?? ''), () => inPlace(fetch)(url, ask))
  return { images, count }
}

describe('lines whose image never comes', () => {
  const urls = (count: number, host: (i: number) => string) =>
    Array.from({ length: count }, (_, i) => `https://${host(i)}/${i}.jpg`)

  /** Runs lines of a hostile tenant that end with the test. */
  async function withHanging(lines: string[], work: (world: ReturnType<typeof setUp>) => Promise<void>) {
    const { images, count } = hangingImages((url) => url.includes('hang'))
    const world = setUp({ images, fetches: 4, takesPlaces: true })
    const end = new AbortController()
    const job = await shardOf(world.store, lines, { tenant: 'hostile', batch: 'batch_h' })
    const running = world.run(job, end.signal)
    await new Promise((resolve) => setTimeout(resolve, 5))
    await work(world)
    expect(count.fetching).toBeLessThanOrEqual(8)
    end.abort(new Error('end'))
    await expect(running).rejects.toThrow('end')
  }

  test('of as many hosts as there are lines take no place of another tenant', () =>
    withHanging(
      urls(300, (i) => `hang${i}.example`),
      async ({ store, run }) => {
        const { header } = await resultsOf(
          run,
          await shardOf(
            store,
            urls(50, () => 'x.example'),
          ),
        )
        expect(header.completed).toBe(50)
      },
    ))

  test('of one host take no place of another host, of the same tenant too', () =>
    withHanging(
      urls(300, () => 'hang.example'),
      async ({ store, run }) => {
        const job = await shardOf(
          store,
          urls(50, () => 'x.example'),
          { tenant: 'hostile' },
        )
        expect((await resultsOf(run, job)).header.completed).toBe(50)
      },
    ))

  test('take no place of lines without a web fetch, of the same tenant too', () =>
    withHanging(
      urls(300, (i) => `hang${i}.example`),
      async ({ store, run }) => {
        const lines = ['data:image/gif;base64,R0lGODlhAQABAAAAAA==', 's3://photos/a.gif']
        const job = await shardOf(store, lines, { tenant: 'hostile' })
        expect((await resultsOf(run, job)).header.completed).toBe(2)
      },
    ))
})

test('images wait for memory by their own size, and lines with an image in them by theirs', async () => {
  const large = new Uint8Array(40_000)
  large.set(gif('large'))
  let [held, most] = [0, 0]
  const { store, run } = setUp({
    imageBytes: 100_000,
    fetches: 8,
    images: async (url, ask) => {
      if (!url.startsWith('data:')) await ask.room?.(large.length)
      most = Math.max(most, ++held)
      return large
    },
    captions: { concurrency: 8, fail: () => void held-- },
  })
  const dataUrl = `data:image/gif;base64,${Buffer.from(large).toString('base64')}`
  for (const [url, atOnce] of [
    ['https://x/a.gif', 2],
    [dataUrl, 1],
  ] as const) {
    most = 0
    const { header } = await resultsOf(run, await shardOf(store, Array<string>(20).fill(url)))
    expect([header.completed, most]).toEqual([20, atOnce])
  }
})

test('no more is fetched and captioned at a time than is allowed, over all shards', async () => {
  const most = { fetching: 0, captioning: 0, lines: 0 }
  const now = { fetching: 0, captioning: 0, lines: 0 }
  const begin = (what: keyof typeof now) => {
    most[what] = Math.max(most[what], ++now[what])
  }
  const { store, run } = setUp({
    fetches: 3,
    images: async (url, ask) => {
      begin('fetching')
      await new Promise((resolve) => setImmediate(resolve))
      now.fetching--
      return fakeImages(url, ask)
    },
    captions: {
      concurrency: 2,
      onTask: () => begin('captioning'),
      fail: () => void now.captioning--,
    },
    onInFlight: (change) => (change === 1 ? begin('lines') : now.lines--),
  })
  const lines = Array.from({ length: 40 }, (_, i) => `https://x/${i}.jpg`)
  const job = await shardOf(store, lines)
  await Promise.all([run(job, signal), run({ ...job, shard: 1 }, signal)])
  // A host gets half of them at most.
  expect(most).toEqual({ fetching: 6, captioning: 2, lines: 8 })
  expect(now).toEqual({ fetching: 0, captioning: 0, lines: 0 })
})

test('where shards meet, the lines of the more urgent batch go first, though it came later', async () => {
  const order: string[] = []
  const free = Promise.withResolvers<void>()
  const { store, run } = setUp({
    fetches: 1,
    captions: { concurrency: 1 },
    images: async (url, ask) => {
      order.push(url)
      await free.promise
      return fakeImages(url, ask)
    },
  })
  const urls = (name: string) => Array.from({ length: 10 }, (_, i) => `https://x/${name}${i}.jpg`)
  const relaxed = run(await shardOf(store, urls('relaxed'), { expiresAt: 3_600_000 }), signal)
  await new Promise((resolve) => setImmediate(resolve))
  const pressed = run(await shardOf(store, urls('pressed'), { expiresAt: 61_000 }), signal)
  await new Promise((resolve) => setImmediate(resolve))
  free.resolve()
  await Promise.all([relaxed, pressed])
  // Only what was under way already is before them.
  expect(order.indexOf(urls('pressed')[9]!)).toBeLessThanOrEqual(12)
  expect(order).toHaveLength(20)
})

test('a shard tells once that all of its lines that are left wait for hosts', async () => {
  const events: string[] = []
  const open = Promise.withResolvers<void>()
  const { store, run } = setUp({
    takesPlaces: true,
    images: async (url, ask) => {
      if (url.includes('slow')) {
        ask.onWait?.(undefined)
        await open.promise
      }
      await ask.place?.()
      return fakeImages(url, ask)
    },
    onLine: (outcome) => void events.push('captioned' in outcome ? 'line' : outcome.code),
  })
  const lines = ['https://slow/1.jpg', 'https://fast/2.jpg', 'nonsense:', 'https://slow/3.jpg']
  const onWaiting = () => {
    events.push('waits')
    open.resolve()
  }
  await run(await shardOf(store, lines), signal, { onWaiting })
  expect(events.toSorted()).toEqual(['invalid_json_line', 'line', 'line', 'line', 'waits'])
  expect(events.indexOf('waits')).toBe(2)
})

describe('lines of models that take more', () => {
  const can: Capabilities = {
    ...{ family: 'idefics3', follows_text: 'instructions', max_images: 4, output: 'caption' },
    parameters: ['temperature', 'n'],
  }
  const reading = { can }
  const chatOf = (parameters: object, ...urls: string[]) =>
    JSON.stringify({
      custom_id: 'a',
      body: {
        messages: [
          {
            role: 'user',
            content: ['What is it?', ...urls.map((url) => ({ type: 'image_url', image_url: url }))],
          },
        ],
        ...parameters,
      },
    })
  const endpoint = '/v1/chat/completions' as const

  test('are captioned with all of their images, and as they say', async () => {
    const tasks: CaptionTask[] = []
    const { store, run } = setUp({ captions: { onTask: (task) => tasks.push(task) } })
    const line = chatOf({ temperature: 0.5, n: 2 }, 'https://x/a.jpg', 'https://x/b.jpg')
    const { output, header } = await resultsOf(run, await shardOf(store, [line], { endpoint, reading }))
    expect(output[0]!.response!.body.choices).toHaveLength(2)
    expect(tasks).toMatchObject(
      [0, 1].map(() => ({
        images: [gif('https://x/a.jpg'), gif('https://x/b.jpg')],
        request: { text: 'What is it?' },
        settings: { temperature: 0.5 },
      })),
    )
    expect(header.outputTokens).toBe(8)
  })

  test('are refused where they ask for more than that, by the field', async () => {
    const { store, run } = setUp()
    const job = await shardOf(store, [chatOf({ seed: 5, top_k: 4 }, 'https://x/a.jpg')], {
      endpoint,
      reading,
    })
    const { errors } = await resultsOf(run, job)
    expect(errors).toMatchObject([{ error: { code: 'unsupported_parameter', param: 'body.top_k' } }])
  })

  test('warn of text that is not read', async () => {
    const { store, run } = setUp()
    const { output } = await resultsOf(
      run,
      await shardOf(store, [chatOf({}, 'https://x/a.jpg')], { endpoint }),
    )
    expect(output[0]!.response!.body.turbine).toMatchObject({ warnings: ['text_ignored'] })
  })

  test('are all run, however many wait for the memory of their images', async () => {
    const images: ImageSource = async (url, ask) => {
      await ask.room?.(20)
      await new Promise((resolve) => setImmediate(resolve))
      return fakeImages(url, ask)
    }
    const { store, run } = setUp({ images, imageBytes: 50, fetches: 2, captions: { concurrency: 1 } })
    const lines = Array.from({ length: 40 }, (_, at) =>
      at % 2 === 0
        ? JSON.stringify({
            ...JSON.parse(chatOf({}, 'https://x/a.jpg', 'https://x/b.jpg')),
            custom_id: `${at}`,
          })
        : JSON.stringify({ custom_id: `${at}`, image_url: 'https://x/c.jpg' }),
    )
    const { header } = await resultsOf(run, await shardOf(store, lines, { endpoint, reading }))
    expect(header.completed).toBe(40)
  })

  test('whose images are together more than one may be are refused', async () => {
    const images: ImageSource = async () => Object.assign(new Uint8Array(maxBodyBytes - 10), gif('a'))
    const { store, run } = setUp({ images })
    const line = chatOf({}, 'https://x/a.jpg', 'https://x/b.jpg')
    const { errors } = await resultsOf(run, await shardOf(store, [line], { endpoint, reading }))
    expect(errors[0]!.response!.body.error).toMatchObject({ code: 'images_too_large' })
  })
})
