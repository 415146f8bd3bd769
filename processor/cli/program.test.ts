import { Writable } from 'node:stream'
import { expect, test } from 'vitest'
import { describeConfig } from '../../infra/config.ts'
import { readImageFile } from '../../infra/fetch/image-file.ts'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { FakeCaptioner } from './captioner.fixture.ts'
import { type ProgramEnvironment, runProgram } from './program.ts'
import type { ServeFlags } from './serve.ts'
import { FakeSignals } from './signals.fixture.ts'

async function turbine(args: string[], parts: Partial<ProgramEnvironment> = {}) {
  const printed = { stdout: '', stderr: '' }
  const served: ServeFlags[] = []
  const signals = new FakeSignals()
  const stdout = new Writable({
    write(chunk, _encoding, done) {
      printed.stdout += chunk
      done()
    },
  })
  const code = await runProgram(args, {
    openCaptioner: async () => new FakeCaptioner(),
    openInspector: async () => {
      throw new Error('There is no model here.')
    },
    openCalibrator: async () => {
      throw new Error('There is no model here.')
    },
    readImage: readImageFile,
    startService: async (_role, flags) => {
      served.push(flags)
      setImmediate(() => signals.emit('SIGTERM', 'SIGTERM'))
      return { url: '', close: async () => {} }
    },
    stdin: (async function* () {})(),
    stdout,
    stderr: { write: (text: string) => (printed.stderr += text) },
    signals,
    dataDir: async () => 'data',
    openStore: async () => memoryStore().store,
    ownBucket: () => 'turbine',
    openStream: async () => {
      throw new Error('There is no stream here.')
    },
    defaultPartitions: () => 12,
    createTopics: async () => {},
    checkTopics: async () => [],
    bundledModel: 'bundled',
    env: {},
    version: '1.2.3',
    settings: describeConfig(),
    debug: false,
    ...parts,
  })
  return { code, served, ...printed }
}

test('help is on standard output, has examples, and exits with 0', async () => {
  for (const path of [[], ['serve'], ['caption'], ['inspect'], ['calibrate'], ['models', 'pull']]) {
    const { code, stdout, stderr } = await turbine([...path, '--help'])
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout).toContain(`Usage: turbine ${path.join(' ')}`.trim())
    expect(stdout).toContain('Examples:')
  }
})

test('help of the program and of serve lists the environment variables', async () => {
  for (const args of [['--help'], ['serve', '--help']])
    expect((await turbine(args)).stdout).toContain('TURBINE_SHUTDOWN_MS')
})

test('the version is one line', async () => {
  expect(await turbine(['--version'])).toMatchObject({ code: 0, stdout: '1.2.3\n' })
})

test.each([
  [
    ['caption', 'x', '--ou', 'y'],
    /unknown option '--ou' \(Did you mean --out\?\) See "npx turbine caption --help"/,
  ],
  [['capton', 'x'], /unknown command 'capton' \(Did you mean caption\?\) See "npx turbine --help"/],
  [['caption'], /missing required argument 'inputs'\. See/],
  [
    ['caption', 'x', '--concurrency', '0'],
    /'--concurrency <n>' argument '0' is invalid\. It must be a whole number of at least 1/,
  ],
  [['inspect', 'x', '--out', 'y'], /required option '--r <n>' not specified/],
  [
    ['inspect', 'x', '--r', '1', '--out', 'y', '--mode', 'fast'],
    /Allowed choices are turbo, tome, attention, random/,
  ],
  // Options without an effect.
  [['edge', '--device', 'cpu'], /unknown option '--device'/],
  [['edge', '--model', 'x'], /unknown option '--model'/],
  [['processor', '--public-url', 'http://a'], /unknown option '--public-url'/],
  [['planner', '--max-batch', '2'], /unknown option '--max-batch'/],
  [
    ['caption', '.', '--retry-errors', '--overwrite'],
    /'--retry-errors' cannot be used with option '--overwrite'/,
  ],
  [['caption', '.', '--out', '-', '--overwrite'], /--overwrite needs a file/],
  [['caption', '.', '--out', '-', '--retry-errors'], /--retry-errors needs a file/],
  [['batch', 'submit', 'x', '--out', 'y'], /--out needs --watch/],
  [['batch', 'submit', 'x', '--overwrite'], /--overwrite needs --out/],
  [['batch', 'watch', 'x', '--overwrite'], /--overwrite needs --out/],
  [
    ['calibrate', '--images', 'x', '--speed-only', '--levels', '4'],
    /'--speed-only' cannot be used with option '--levels/,
  ],
  [
    ['calibrate', '--images', 'x', '--speed-only', '--dry-run'],
    /'--speed-only' cannot be used with option '--dry-run'/,
  ],
  [
    ['inspect', 'x', '--r', '1', '--out', 'y', '--mode', 'tome', '--alpha', '2'],
    /--alpha has no effect with --mode tome/,
  ],
  [['models', 'pull', 'blip'], /"blip" is not a model id/],
  [['caption', '/nowhere/at-all'], /There is no file or folder/],
])('wrong usage is one line and exit code 2: %j', async (args, message) => {
  const { code, stdout, stderr } = await turbine(args)
  expect([code, stdout]).toEqual([2, ''])
  expect(stderr).toMatch(message)
  expect(stderr).toMatch(/^turbine: [^\n]+\n$/)
})

test('without a command the help goes to standard error', async () => {
  const { code, stdout, stderr } = await turbine([])
  expect([code, stdout]).toEqual([2, ''])
  expect(stderr).toContain('Usage: turbine')
})

test('a failure is one line and exit code 1; the stack is for debugging', async () => {
  const args = ['inspect', import.meta.filename, '--r', '1', '--out', import.meta.dirname]
  expect(await turbine(args)).toMatchObject({ code: 1, stderr: 'turbine: There is no model here.\n' })
  expect((await turbine(args, { debug: true })).stderr).toContain('program.test.ts')
})

test('serve takes its flags', async () => {
  const { code, served } = await turbine(['serve', '--port', '0', '--data-dir', 'd', '--device', 'cpu'])
  expect(code).toBe(0)
  expect(served).toEqual([{ port: '0', dataDir: 'd', device: 'cpu' }])
})
