import { execFileSync } from 'node:child_process'
import { link, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Printed, runCommand } from '../command.fixture.ts'
import { batchOf, completed, FakeService } from '../service.fixture.ts'
import { FakeSignals } from '../signals.fixture.ts'
import { batchCommand } from './command.ts'

let folder: string
let service: FakeService
let signals: FakeSignals

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-batch-test-'))
  service = await new FakeService().start()
  signals = new FakeSignals()
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await service.stop()
  await rm(folder, { recursive: true })
})

interface Setup {
  env?: Record<string, string>
  stdin?: string
  /** Runs in place of the n-th pause, from 1. */
  onPause?: (n: number) => unknown
}

async function batch(args: string[], { env = {}, stdin = '', onPause = () => {} }: Setup = {}) {
  const printed = new Printed()
  let pauses = 0
  const code = await runCommand(
    batchCommand({
      env: { TURBINE_URL: service.url, ...env },
      stdin: (async function* () {
        yield Buffer.from(stdin)
      })(),
      stdout: printed.out,
      stderr: printed.err,
      signals,
      sleep: async () => onPause(++pauses),
    }),
    args,
    printed,
  )
  return { code, stdout: printed.stdout, stderr: printed.stderr }
}

async function manifest(text: string, name = 'manifest.jsonl'): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, text)
  return path
}

const running = (done: number) =>
  batchOf({ status: 'in_progress', request_counts: { total: 1000, completed: done, failed: 0 } })
const short = '{"image_url": "https://a.example/1.jpg"}\n'

test('a file is uploaded, watched to its end, and its results are downloaded', async () => {
  service.script = [batchOf({}), running(0), running(400), { ...completed, status: 'finalizing' }, completed]
  service.files.set('file-out', { filename: 'output.jsonl', bytes: Buffer.from('captions\n') })
  service.files.set('file-err', { filename: 'errors.jsonl', bytes: Buffer.from('failures\n') })
  const out = join(folder, 'results', 'captions.jsonl')
  const args = [
    'submit',
    await manifest(short),
    '--watch',
    '--out',
    out,
    '--metadata',
    'a=1',
    '--metadata',
    'b=x=y',
  ]
  const { code, stdout, stderr } = await batch([...args, '--max-prune', '0.5', '--window', '3d'])
  expect([code, stdout]).toEqual([0, 'batch_1\n'])
  expect(service.submitted).toEqual([
    {
      input_file_id: 'file-3',
      endpoint: '/v1/captions',
      completion_window: '3d',
      metadata: { a: '1', b: 'x=y' },
      turbine: { max_prune: 0.5 },
    },
  ])
  expect(service.files.get('file-3')).toEqual({ filename: 'manifest.jsonl', bytes: Buffer.from(short) })
  expect(await readFile(out, 'utf8')).toBe('captions\n')
  expect(await readFile(join(folder, 'results', 'captions.errors.jsonl'), 'utf8')).toBe('failures\n')
  expect(await readdir(join(folder, 'results'))).toHaveLength(2)
  expect(stderr).toContain('batch_1 is in progress.')
  expect(stderr).toContain('batch_1 is finalizing.')
  expect(stderr).toContain(
    'batch_1 is completed: 995 of 1,000 lines captioned, 5 failed, in 3 min 20 s (5.0 images/s), 23 % of the image tokens merged.',
  )
})

test('without --watch it says how to watch, and standard output has the id alone', async () => {
  const { code, stdout, stderr } = await batch(['submit', await manifest(short)])
  expect([code, stdout]).toEqual([0, 'batch_1\n'])
  expect(stderr).toContain('npx turbine batch watch batch_1')
})

test('--json prints the batch', async () => {
  const { stdout } = await batch(['submit', await manifest(short), '--json'])
  expect(JSON.parse(stdout)).toEqual(batchOf({}))
})

test('a lost answer to a submission is asked for again under the same idempotency key', async () => {
  let lost = 0
  service.intercept = ({ method, path }) =>
    method === 'POST' && path === '/v1/batches' && lost++ < 2
      ? new Response('bad gateway', { status: 502 })
      : undefined
  const { code, stderr } = await batch(['submit', await manifest(short)])
  const keys = service.requests
    .filter(({ path }) => path === '/v1/batches')
    .map((seen) => seen.idempotencyKey)
  expect([code, keys.length, new Set(keys).size]).toEqual([0, 3, 1])
  expect(keys[0]).toMatch(/^[\w-]{20,}$/)
  expect(stderr).toContain('The service is back.')
})

test('an address in a bucket is left to the service', async () => {
  const { code } = await batch(['submit', 's3://b/photos/', '--output-uri', 's3://b/out/', '--model', 'm'])
  expect(code).toBe(0)
  expect(service.paths('POST')).toEqual(['/v1/batches'])
  expect(service.submitted[0]).toMatchObject({
    model: 'm',
    turbine: { input_uri: 's3://b/photos/', output_uri: 's3://b/out/' },
  })
})

test('standard input is a file as well, and its copy does not stay', async () => {
  for (const variable of ['TMPDIR', 'TEMP']) vi.stubEnv(variable, folder)
  await batch(['submit', '-'], { stdin: 'https://a.example/1.jpg\n' })
  expect(service.files.get('file-1')?.bytes.toString()).toBe('https://a.example/1.jpg\n')
  expect(await readdir(folder)).toEqual([])
})

test("OpenAI's lines say which endpoint they are for", async () => {
  const line = '\n{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n'
  await batch(['submit', await manifest(line)])
  expect(service.submitted[0]).toMatchObject({ endpoint: '/v1/chat/completions' })
})

test.each([
  ['', [], /manifest\.jsonl is empty/],
  ['\n \n', [], /manifest\.jsonl is empty/],
  ['photos/a.jpg\n', [], /Line 1 of .* is not a URL.*npx turbine caption/],
  ['\xFF\xD8\0\0', [], /is not text/],
  ['<!doctype html><title>Sign in</title>', [], /manifest\.jsonl: This is an HTML page, not a list/],
  ['{"url": "/v1/embeddings"}', [], /is for \/v1\/embeddings\. Batches support/],
  ['{"url": "/v1/chat/completions"}', ['--endpoint', '/v1/captions'], /Omit --endpoint/],
  [short, ['--endpoint', '/v1/images'], /must be .v1.chat.completions or/],
  [short, ['--out', 'captions.jsonl'], /--out needs --watch/],
  [short, ['--max-prune', '2'], /a number from 0 to 1/],
  [short, ['--metadata', 'spring'], /must be key=value/],
])('what cannot be submitted is refused before anything is sent: %j %j', async (text, args, message) => {
  const path = join(folder, 'manifest.jsonl')
  await writeFile(path, text, 'latin1')
  const { code, stderr } = await batch(['submit', path, ...args])
  expect([code, service.requests.length]).toEqual([2, 0])
  expect(stderr).toMatch(message)
})

test('a missing file, a folder and a web address are refused with what to do', async () => {
  const images = join(folder, 'images')
  await mkdir(images)
  expect((await batch(['submit', join(folder, 'none.jsonl')])).stderr).toMatch(/There is no file/)
  expect((await batch(['submit', images])).stderr).toMatch(/npx turbine caption .*images/)
  expect((await batch(['submit', 'https://a.example/m.jsonl'])).stderr).toMatch(/download it/)
})

test('a result file that is there stops the command before it begins, unless it may be overwritten', async () => {
  const result = (id: string) =>
    `${JSON.stringify({ id: `batch_req_${id}`, custom_id: id, response: {}, error: null })}\n`
  const out = await manifest(result('old'), 'captions.jsonl')
  service.script = [{ ...completed, error_file_id: null }]
  service.files.set('file-out', { filename: '', bytes: Buffer.from(result('new')) })
  for (const args of [
    ['results', 'batch_1'],
    ['watch', 'batch_1'],
    ['submit', await manifest(short), '--watch'],
  ]) {
    expect(await batch([...args, '--out', out])).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/already exists/),
    })
  }
  expect(service.requests).toEqual([])
  expect((await batch(['results', 'batch_1', '--out', out, '--overwrite'])).code).toBe(0)
  expect(await readFile(out, 'utf8')).toBe(result('new'))
  // Files of others, and what is read, are not replaced.
  const precious = [
    await manifest('precious', 'notes.txt'),
    await manifest(short),
    await manifest('{"a":1}', 'a.json'),
  ]
  for (const path of precious) {
    const before = await readFile(path, 'utf8')
    const { code, stderr } = await batch(['results', 'batch_1', '--out', path, '--overwrite'])
    expect([code, stderr.includes('--overwrite')]).toEqual([2, false])
    expect(await readFile(path, 'utf8')).toBe(before)
  }
})

test.each(['the input', 'a link to it', 'another name of it'])(
  '%s is not replaced by the results',
  async (kind) => {
    const result =
      '{"id":"batch_req_1","custom_id":"a","image_url":"https://a.example","response":null,"error":null}\n'
    const input = await manifest(result)
    const other = join(folder, 'other.jsonl')
    if (kind === 'a link to it') await symlink(input, other)
    if (kind === 'another name of it') await link(input, other)
    const out = kind === 'the input' ? input : other
    const { code, stderr } = await batch(['submit', input, '--watch', '--out', out, '--overwrite'])
    expect([code, service.requests]).toEqual([2, []])
    expect(stderr).toContain('is read by this command')
    expect(await readFile(input, 'utf8')).toBe(result)
  },
)

test('results go to standard output, or to a pipe', async () => {
  service.script = [completed]
  const text = '{"custom_id":"é"}\n{"custom_id":"b"}\n'
  service.files.set('file-out', { filename: '', bytes: Buffer.from(text) })
  for (const out of ['-', '/dev/stdout']) {
    const { code, stdout, stderr } = await batch(['results', 'batch_1', '--out', out])
    expect([code, stdout]).toEqual([0, text])
    expect(stderr).toContain('5 lines failed: name a file with --out')
  }
  const pipe = join(folder, 'pipe')
  execFileSync('mkfifo', [pipe])
  const [, received] = await Promise.all([
    batch(['results', 'batch_1', '--out', pipe]),
    readFile(pipe, 'utf8'),
  ])
  expect(received).toBe(text)
})

test.each<[string, string | Uint8Array]>([
  ['list.csv', 'image_url,custom_id\nhttps://a.example/1.jpg,1\n'],
  ['list.json', '[\n "https://a.example/1.jpg"\n]\n'],
  ['utf16.jsonl', Buffer.from('\uFEFFhttps://a.example/1.jpg\r\n', 'utf16le')],
])('a list of another shape is left to the service: %s', async (name, content) => {
  const path = join(folder, name)
  await writeFile(path, content)
  expect((await batch(['submit', path])).code).toBe(0)
  expect(service.files.get('file-1')).toEqual({ filename: name, bytes: Buffer.from(content) })
})

test('a service that goes away and comes back is waited for', async () => {
  service.script = [running(100), running(200), completed]
  const onPause = async (n: number) => {
    if (n === 2) await service.stop()
    if (n === 5) await service.start()
  }
  const { code, stderr } = await batch(['watch', 'batch_1'], { onPause })
  expect(code).toBe(0)
  expect(stderr).toContain(`The service at ${service.url} is not responding. Retrying.\n`)
  expect(stderr).toContain('The service is back.\n')
  expect(stderr).toContain('npx turbine batch results batch_1 --out captions.jsonl')
})

test.each(['failed', 'expired', 'cancelled'] as const)(
  'a batch that ends as %s ends with code 1',
  async (status) => {
    const faults = ['a', 'b', 'c', 'd', 'e', 'f'].map((message, index) => ({
      code: 'invalid_json_line',
      message,
      param: null,
      line: index + 1,
    }))
    service.script = [running(1), batchOf({ status, errors: { object: 'list', data: faults } })]
    const { code, stderr } = await batch(['watch', 'batch_1'])
    expect(code).toBe(1)
    expect(stderr).toContain('line 1: a (invalid_json_line)\n')
    expect(stderr).toContain('and 1 more\n')
    expect(stderr).toMatch(new RegExp(`\nturbine: batch_1 (was )?${status}[^\n]+\n$`))
  },
)

test('what an expired batch has done is downloaded all the same', async () => {
  service.script = [batchOf({ status: 'expired', output_file_id: 'file-out' })]
  service.files.set('file-out', { filename: '', bytes: Buffer.from('half') })
  const out = join(folder, 'captions.jsonl')
  expect((await batch(['watch', 'batch_1', '--out', out])).code).toBe(1)
  expect(await readFile(out, 'utf8')).toBe('half')
})

test('Ctrl-C leaves the batch alone and says how to watch on', async () => {
  service.script = [running(100)]
  const { code, stderr } = await batch(['watch', 'batch_1', '--out', 'a b.jsonl'], {
    onPause: (n) => n === 3 && signals.emit('SIGINT', 'SIGINT'),
  })
  expect(code).toBe(130)
  expect(stderr).toMatch(/the batch is still running.*npx turbine batch watch batch_1 --out 'a b\.jsonl'\n$/)
  expect(service.paths('POST')).toEqual([])
  expect(signals.listenerCount('SIGINT')).toBe(0)
})

test('Ctrl-C before the batch was made says that nothing was submitted', async () => {
  service.intercept = ({ path }) => {
    if (path === '/v1/files') signals.emit('SIGINT', 'SIGINT')
    return undefined
  }
  const { code, stderr } = await batch(['submit', await manifest(short)])
  expect([code, service.submitted]).toEqual([130, []])
  expect(stderr).toMatch(/Nothing was submitted/)
})

test('results come at the end only', async () => {
  service.script = [running(1)]
  const { code, stderr } = await batch(['results', 'batch_1', '--out', join(folder, 'x.jsonl')])
  expect(code).toBe(1)
  expect(stderr).toMatch(/is in progress.*npx turbine batch watch batch_1 --out/)
})

test('where results lie in a bucket it says where', async () => {
  service.script = [
    {
      ...completed,
      output_file_id: null,
      error_file_id: null,
      turbine: { ...completed.turbine, output_uri: 's3://b/out/' },
    },
  ]
  const { code, stderr } = await batch(['results', 'batch_1', '--out', join(folder, 'x.jsonl')])
  expect(code).toBe(0)
  expect(stderr).toContain('The results are at s3://b/out/')
})

test('cancel keeps what is done; watched, a cancelled batch is a success', async () => {
  service.script = [running(3), running(3), batchOf({ status: 'cancelled' })]
  const { code, stderr } = await batch(['cancel', 'batch_1', '--watch'])
  expect([code, service.paths('POST')]).toEqual([0, ['/v1/batches/batch_1/cancel']])
  expect(stderr).toContain('batch_1 is cancelling')
  expect(stderr).toContain('batch_1 is cancelled: ')
})

test('get prints a batch for people, or as it is', async () => {
  service.script = [{ ...completed, metadata: { campaign: 'spring' } }]
  const { stdout } = await batch(['get', 'batch_1'])
  expect(stdout).toMatch(/^batch +batch_1\nstatus +completed\n/)
  expect(stdout).toMatch(/lines +1,000 of 1,000 lines\n/)
  expect(stdout).toMatch(/campaign +spring\n/)
  expect(JSON.parse((await batch(['get', 'batch_1', '--json'])).stdout)).toMatchObject({ id: 'batch_1' })
})

test('what was left out below a prefix is said', async () => {
  const turbine = { ...completed.turbine, skipped: { hidden: 2, not_image: 1 } }
  service.script = [{ ...completed, turbine }]
  expect((await batch(['watch', 'batch_1'])).stderr).toContain(', skipped: 2 hidden, 1 not an image.')
  expect((await batch(['get', 'batch_1'])).stdout).toMatch(/left out +2 hidden, 1 not an image\n/)
})

test('list goes over pages and says when there is more', async () => {
  service.batches = Array.from({ length: 250 }, (_, index) => batchOf({ id: `batch_${index}` }))
  const { stdout, stderr } = await batch(['list', '--limit', '230'])
  const rows = stdout.trimEnd().split('\n')
  expect(rows).toHaveLength(231)
  expect(rows[230]).toMatch(/^batch_229 +validating +0 of 0 lines +0 {2}2026-11-2\d \d\d:\d\d:\d\dZ$/)
  expect(stderr).toContain('There are more')
  expect(JSON.parse((await batch(['list', '--json'])).stdout)).toHaveLength(20)
  service.batches = []
  expect((await batch(['list'])).stderr).toContain('There are no batches')
})

test('an unknown id is one line in the words of the service', async () => {
  const { code, stderr } = await batch(['get', 'batch_x'])
  expect([code, stderr]).toEqual([1, 'turbine: There is no batch "batch_x".\n'])
})

test('a wrong key shows before anything is uploaded; the right one is sent', async () => {
  service.apiKey = 'sk-right'
  const path = await manifest(short)
  const wrong = await batch(['submit', path], { env: { TURBINE_API_KEY: 'sk-wrong' } })
  expect([wrong.code, service.paths('POST')]).toEqual([1, []])
  expect(wrong.stderr).toMatch(/nobody's\. Set TURBINE_API_KEY/)
  expect(wrong.stderr).not.toContain('sk-wrong')
  expect((await batch(['submit', path], { env: { TURBINE_API_KEY: 'sk-right' } })).code).toBe(0)
})

test('a service that is not there is named, and not waited for', async () => {
  await service.stop()
  const { code, stderr } = await batch(['list'], {
    onPause: () => {
      throw new Error('It waited.')
    },
  })
  expect(code).toBe(1)
  expect(stderr).toMatch(
    /No service is reachable at http:\/\/127\.0\.0\.1:\d+ \(ECONNREFUSED\)\. Start one with/,
  )
})

test('every command has help with examples', async () => {
  for (const name of ['submit', 'watch', 'results', 'get', 'list', 'cancel']) {
    const { code, stdout } = await batch([name, '--help'])
    expect(code).toBe(0)
    expect(stdout).toContain('Examples:')
    expect(stdout).toContain('TURBINE_API_KEY')
  }
})
