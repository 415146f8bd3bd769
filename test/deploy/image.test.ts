import { existsSync } from 'node:fs'
import { cp, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it, onTestFinished } from 'vitest'
import { describeConfig } from '../../infra/config.ts'
import { run } from '../servers/tools.ts'
import { readServices } from './compose.ts'

const root = new URL('../../', import.meta.url)
const read = (file: string) => readFile(new URL(file, root), 'utf8')
const dockerfile = (await read('infra/deploy/Dockerfile')).replaceAll('\\\n', ' ')
const ignored = (await read('.dockerignore')).split('\n').filter((line) => line && !line.startsWith('#'))

interface Stage {
  name: string
  from: string
  lines: string[]
}

const stages = dockerfile
  .split(/^(?=FROM )/m)
  .slice(1)
  .map((text): Stage => {
    const [, from, name] = /^FROM (\S+) AS (\S+)$/m.exec(text)!
    return { from: from!, name: name!, lines: text.split('\n').filter((line) => /^[A-Z]+ /.test(line)) }
  })

const targets = stages.filter(({ lines }) => lines.some((line) => line.startsWith('ENTRYPOINT')))

/** Whether a file reaches the builder: the last pattern that fits decides. */
const isSent = (file: string) =>
  ignored.reduce((sent, line) => {
    const fits = toExpression(line.replace(/^!/, '')).test(file)
    return fits ? line.startsWith('!') : sent
  }, true)

/** A pattern of .dockerignore, which also takes what lies below. */
function toExpression(pattern: string): RegExp {
  const parts = { '**/': '(.*/)?', '*': '[^/]*', '.': '\\.' }
  const source = pattern.replaceAll(/\*\*\/|\*|\./g, (part) => parts[part as keyof typeof parts])
  return new RegExp(`^${source}(/.*)?$`)
}

it('copies files that there are, and that the builder is sent', () => {
  const copied = stages
    .flatMap(({ lines }) => lines)
    .filter((line) => line.startsWith('COPY ') && !line.includes('--from='))
    .flatMap((line) => line.split(/ +/).slice(1, -1))
  expect(copied).toEqual(expect.arrayContaining(['package.json', 'package-lock.json', '.npmrc', 'edge']))
  for (const path of copied) {
    expect(existsSync(new URL(path, root)), path).toBe(true)
    expect(isSent(path), path).toBe(true)
  }
})

it.each([
  ['processor/cli/main.ts', true],
  ['infra/starter-model/turbine-starter/model.safetensors', true],
  ['infra/starter-model/samples/some.jpg', true],
  ['infra/config.ts', true],
  ['infra/config.test.ts', false],
  ['infra/deploy/helm/turbine/values.yaml', false],
  ['node_modules/hono/package.json', false],
  ['test/bench/main.ts', false],
  ['.turbine/stream.db', false],
])('whether the builder is sent %s: %s', (file, sent) => {
  expect(isSent(file)).toBe(sent)
})

it('sends the builder all that a processor is started with', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'turbine-image-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  const from = fileURLToPath(root)
  const copied = stages.find(({ name }) => name === 'source')!.lines.filter((line) => line.startsWith('COPY'))
  for (const path of copied.flatMap((line) => line.split(/ +/).slice(1, -1)))
    await cp(join(from, path), join(folder, path), {
      recursive: true,
      filter: (file) => isSent(relative(from, file)),
    })
  await symlink(join(from, 'node_modules'), join(folder, 'node_modules'))
  const env = { PATH: process.env.PATH }
  const start = run(process.execPath, ['processor/cli/main.ts', 'processor'], { cwd: folder, env })
  // It has loaded everything by then.
  await expect(start).rejects.toThrow('KAFKA_BROKERS is not set')
})

it('has a CPU and a CUDA image, and the CPU image is the default', () => {
  expect(targets.map(({ name }) => name)).toEqual(['cuda', 'cpu'])
  expect(stages.at(-1)?.name).toBe('cpu')
})

it.each(targets)('$name runs the command as nobody in particular, and can tell its health', ({ lines }) => {
  const line = (instruction: string) => lines.find((each) => each.startsWith(`${instruction} `))
  expect(line('USER')).toBe('USER 1000:1000')
  expect(line('ENTRYPOINT')).toBe('ENTRYPOINT ["node", "processor/cli/main.ts"]')
  expect(line('HEALTHCHECK')).toContain('/health/live')
  const variables = describeConfig().map(({ variable }) => variable)
  const set = [...line('ENV')!.matchAll(/(\w+)=/g)].map(([, name]) => name!)
  for (const name of set.filter((each) => each !== 'NODE_ENV')) expect(variables).toContain(name)
})

it('copies from stages and images that it names', () => {
  const names = stages.map(({ name }) => name)
  const sources = stages.flatMap(({ lines }) => lines.flatMap((line) => /--from=(\S+)/.exec(line)?.[1] ?? []))
  expect(sources.length).toBeGreaterThan(3)
  for (const source of sources) expect(names).toContain(source)
})

it('installs the CUDA libraries that the base image has the runtime of', async () => {
  const install = stages
    .find(({ name }) => name === 'cuda-dependencies')!
    .lines.find((line) => /npm ci/.test(line))
  expect(install).toContain('npm run cuda:install')
  const metadata = await read('node_modules/onnxruntime-node/script/install-metadata.js')
  const [, version] = /'linux\/x64': \['cuda(\d+)'\]/.exec(metadata)!
  const base = targets.find(({ name }) => name === 'cuda')!.from
  expect(base).toMatch(new RegExp(`^nvidia/cuda:${version}\\.[\\d.]+-cudnn-runtime-`))
})

it('is what the compose file builds, under the version of the package', async () => {
  const { version } = JSON.parse(await read('package.json')) as { version: string }
  for (const { image, build } of Object.values(await readServices())) {
    if (!build) continue
    expect(image).toBe(`turbine:${version}`)
    expect(stages.map(({ name }) => name)).toContain(build.target)
  }
})

it('starts from images that a digest pins, as compose.yaml does', async () => {
  const names = stages.map(({ name }) => name)
  const bases = stages.map(({ from }) => from).filter((from) => from !== 'scratch' && !names.includes(from))
  const services = Object.values(await readServices()).map(({ image }) => image)
  const foreign = services.filter((image) => image !== 'turbine:0.1.0')
  expect(bases.length).toBeGreaterThan(1)
  expect(foreign.length).toBeGreaterThan(4)
  for (const image of [...bases, ...foreign]) expect(image).toMatch(/^[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}$/)
})
