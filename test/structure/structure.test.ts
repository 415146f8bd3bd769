import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { arrows } from './arrows.ts'
import { checkFolders, checkImports, isProduct, trackedFiles, type Violation } from './structure.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))

test('the repository keeps to its structure', async () => {
  const files = trackedFiles(root)
  expect(files.length).toBeGreaterThan(300)
  expect([...checkFolders(files), ...(await checkImports(root))]).toEqual([])
})

test('product files are neither tests nor fixtures', () => {
  const files = [
    'edge/app.ts',
    'edge/app.test.ts',
    'edge/app.fixture.ts',
    'test/bench/main.ts',
    'edge/README.md',
  ]
  expect(files.filter(isProduct)).toEqual(['edge/app.ts'])
})

test('a file loose in processor/ is found, its README is not', () => {
  const files = ['processor/README.md', 'processor/loose.ts', 'processor/notes.md', 'processor/jobs/batch.ts']
  expect(checkFolders(files).filter(({ rule }) => rule === 'no-loose-file')).toEqual([
    { rule: 'no-loose-file', message: 'processor/loose.ts lies loose in processor/.' },
    { rule: 'no-loose-file', message: 'processor/notes.md lies loose in processor/.' },
  ])
})

test('a folder has 25 product files at most; tests do not count', () => {
  const files = Array.from({ length: 25 }, (_, i) => [
    `infra/store/${i}.ts`,
    `infra/store/${i}.test.ts`,
  ]).flat()
  expect(checkFolders(files)).toEqual([])
  expect(checkFolders([...files, 'infra/store/25.ts']).map(({ rule }) => rule)).toEqual(['no-crowded-folder'])
})

test('a folder without a row in the table is found', () => {
  expect(checkFolders(['processor/new/file.ts']).map(({ rule }) => rule)).toEqual(['no-unknown-folder'])
})

test('data flows one way', () => {
  const flow = ['service', 'jobs', 'batches', 'pipeline', 'decoding', 'engine', 'models', 'turbo', 'onnx']
  const against = flow.flatMap((name, place) =>
    flow.slice(0, place).filter((earlier) => arrows[`processor/${name}`]!.includes(`processor/${earlier}`)),
  )
  expect(against).toEqual([])
  expect(arrows['processor/scheduling']).toEqual([])
})

describe('of planted imports', () => {
  const planted = (row: string) => `${row}/planted.ts`
  const rows = Object.keys(arrows)
  const mayImport = (row: string, other: string) =>
    [row, ...(arrows[row] ?? [])].some((allowed) => other === allowed || other.startsWith(`${allowed}/`))
  const forbiddenTo = (row: string) => rows.filter((other) => !mayImport(row, other))
  let folder: string
  let violations: Violation[]

  async function plant(file: string, imported: string[], line = (to: string) => `export * from '${to}'`) {
    const path = join(folder, file)
    const from = (target: string) => relative(dirname(file), target).replace(/^(?!\.)/, './')
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, `${imported.map((target) => line(from(target))).join('\n')}\nexport const a = 1\n`)
  }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'turbine-structure-'))
    for (const row of rows) {
      await plant(`${row}/target.ts`, [])
      await plant(
        planted(row),
        rows.filter((other) => other !== row).map((other) => `${other}/target.ts`),
      )
    }
    await plant('test/helper.ts', [])
    const type = (to: string) => `import type { a } from '${to}'; export type A = typeof a`
    await plant('processor/turbo/typed.ts', ['edge/target.ts'], type)
    await plant(
      'processor/turbo/lazy.ts',
      ['edge/target.ts'],
      (to) => `export const load = () => import('${to}')`,
    )
    await plant('infra/made-up.fixture.ts', [])
    await plant('infra/tested.ts', ['infra/made-up.fixture.ts', 'test/helper.ts'])
    await plant('infra/free.test.ts', ['processor/cli/target.ts'])
    await plant('infra/first.ts', ['infra/second.ts'], type)
    await plant('infra/second.ts', ['infra/third.ts'])
    await plant('infra/third.ts', ['infra/first.ts'])
    await plant('node_modules/only-for-tests/index.ts', [])
    await writeFile(
      join(folder, 'node_modules/only-for-tests/package.json'),
      JSON.stringify({ name: 'only-for-tests', version: '1.0.0', main: 'index.ts' }),
    )
    await writeFile(
      join(folder, 'package.json'),
      JSON.stringify({ devDependencies: { 'only-for-tests': '1.0.0' } }),
    )
    await writeFile(join(folder, 'infra/developed.ts'), "import 'only-for-tests'\n")
    await writeFile(join(folder, 'infra/developed.test.ts'), "import 'only-for-tests'\n")
    violations = await checkImports(folder)
  })
  afterAll(() => rm(folder, { recursive: true }))

  const found = (rule: string, message: string) =>
    violations.some((violation) => violation.rule === rule && violation.message === message)

  test.each(rows)('those against the arrows of %s are found', (row) => {
    const forbidden = forbiddenTo(row)
    expect(forbidden).not.toEqual([])
    const missed = forbidden.filter(
      (other) => !found(row, `${planted(row)} must not import ${other}/target.ts.`),
    )
    expect(missed).toEqual([])
  })

  test('what the table allows is allowed', () => {
    const allowed = rows.flatMap((row) =>
      rows.filter((other) => mayImport(row, other)).map((other) => [row, other]),
    )
    const wrong = allowed.filter(([row, other]) =>
      found(row!, `${planted(row!)} must not import ${other}/target.ts.`),
    )
    expect(wrong).toEqual([])
  })

  test('types count, and so do imports at run time', () => {
    expect(found('processor/turbo', 'processor/turbo/typed.ts must not import edge/target.ts.')).toBe(true)
    expect(found('processor/turbo', 'processor/turbo/lazy.ts must not import edge/target.ts.')).toBe(true)
  })

  test('product code imports no test, tests import what they like', () => {
    expect(found('no-test-in-product', 'infra/tested.ts must not import infra/made-up.fixture.ts.')).toBe(
      true,
    )
    expect(found('no-test-in-product', 'infra/tested.ts must not import test/helper.ts.')).toBe(true)
    expect(violations.filter(({ message }) => message.startsWith('infra/free.test.ts'))).toEqual([])
  })

  test('product code imports no package that only developers install', () => {
    const broken = violations.filter(({ rule }) => rule === 'no-development-package')
    expect(broken.map(({ message }) => message)).toEqual([
      'infra/developed.ts must not import node_modules/only-for-tests/index.ts.',
    ])
  })

  test('a circle is found, one of types too', () => {
    const circles = violations.filter(({ rule }) => rule === 'no-circle').map(({ message }) => message)
    expect(circles).toContainEqual(expect.stringMatching(/infra\/(first|second|third)\.ts imports itself/))
    expect(circles.filter((message) => message.includes('planted'))).toEqual([])
  })
})
