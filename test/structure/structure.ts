import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { cruise, type ICruiseResult, type IForbiddenRuleType } from 'dependency-cruiser'
import { arrows } from './arrows.ts'

/** Product files that a folder has at most. */
const maxFilesPerFolder = 25
/** Lines of product code before the folders were put in order. */
export const baselineLines = 34_348

/** Files that may import what they like. */
const tests = ['\\.test\\.ts$', '\\.fixture\\.ts$', '\\.contract\\.ts$', '/fixtures/', '^test/']
const sources = ['edge', 'processor', 'infra']

/** One rule that a file breaks, as a line to print. */
export interface Violation {
  rule: string
  message: string
}

/** Every file that git tracks, or would track. */
export const trackedFiles = (root: string): string[] =>
  execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '--deduplicate'], {
    cwd: root,
    encoding: 'utf8',
  })
    .trim()
    .split('\n')
    .filter((file) => existsSync(join(root, file)))

/** TypeScript that is neither a test nor there for tests. */
export const isProduct = (file: string): boolean =>
  /\.tsx?$/.test(file) && !/\.(test|fixture)\.tsx?$/.test(file) && !file.startsWith('test/')

/** Lines of all product files together. */
export const productLines = (root: string, files: readonly string[]): number =>
  files
    .filter(isProduct)
    .reduce((lines, file) => lines + readFileSync(join(root, file), 'utf8').split('\n').length - 1, 0)

/** Product files of each folder, the fullest first. */
export function folderSizes(files: readonly string[]): { folder: string; count: number }[] {
  return [...Map.groupBy(files.filter(isProduct), (file) => dirname(file))]
    .map(([folder, { length: count }]) => ({ folder, count }))
    .sort((a, b) => b.count - a.count)
}

/** Checks where files lie. */
export function checkFolders(files: readonly string[]): Violation[] {
  const loose = files
    .filter((file) => dirname(file) === 'processor' && file !== 'processor/README.md')
    .map((file) => ({ rule: 'no-loose-file', message: `${file} lies loose in processor/.` }))
  const crowded = folderSizes(files)
    .filter(({ count }) => count > maxFilesPerFolder)
    .map(({ folder, count }) => ({
      rule: 'no-crowded-folder',
      message: `${folder} has ${count} product files; at most ${maxFilesPerFolder} are wanted.`,
    }))
  const unknown = files
    .filter((file) => isProduct(file) && sources.includes(file.split('/')[0]!) && !rowOf(file))
    .map((file) => ({
      rule: 'no-unknown-folder',
      message: `${file} has no row in test/structure/arrows.ts.`,
    }))
  return [...loose, ...crowded, ...unknown]
}

/** Checks what the files of a repository import, types included: no circle, and nothing against the arrows. */
export async function checkImports(root: string): Promise<Violation[]> {
  const { output } = await cruise(sources, {
    baseDir: root,
    // The compiler that reads the types here has no API; swc reads them as well.
    parser: 'swc',
    doNotFollow: { path: 'node_modules' },
    validate: true,
    ruleSet: { forbidden: rules() },
  })
  const { summary } = output as ICruiseResult
  return summary.violations.map(({ rule, from, to, cycle }) => ({
    rule: rule.name,
    message: cycle
      ? `${from} imports itself by way of ${cycle.map(({ name }) => name).join(' -> ')}.`
      : `${from} must not import ${to}.`,
  }))
}

/** The rules as dependency-cruiser takes them; each is named by its row. */
function rules(): IForbiddenRuleType[] {
  const severity = 'error' as const
  const rows = Object.entries(arrows).map(([row, allowed]) => ({
    name: row,
    severity,
    from: { path: within(row), pathNot: tests },
    to: { path: '^(edge|processor|infra|test)/', pathNot: [row, ...allowed].map(within) },
  }))
  const product = { path: sources.map(within), pathNot: tests }
  return [
    ...rows,
    { name: 'no-circle', severity, from: product, to: { circular: true } },
    { name: 'no-test-in-product', severity, from: product, to: { path: tests } },
    { name: 'no-development-package', severity, from: product, to: { dependencyTypes: ['npm-dev'] } },
  ]
}

/** A row of the table that a file keeps to. */
const rowOf = (file: string) => Object.keys(arrows).find((row) => new RegExp(within(row)).test(file))

/** Matches the files of a folder, or one file. */
const within = (path: string) => `^${path.replaceAll('.', '\\.')}${path.endsWith('.ts') ? '$' : '/'}`
