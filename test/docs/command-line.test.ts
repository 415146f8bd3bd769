import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { imageExtensions, otherExtensions, systemNames } from '../../edge/contract/formats/file-kind.ts'
import { imageFields } from '../../edge/contract/lists/image-fields.ts'
import { listExtensions } from '../../processor/cli/caption/inputs.ts'
import { root } from './documents.ts'

const page = await readFile(join(root, 'infra/docs/command-line.md'), 'utf8')

/** The words in backquotes between `<!-- name -->` and the next comment. */
function wordsOf(name: string): string[] {
  const part = page.split(`<!-- ${name} -->`)[1]?.split('<!--')[0] ?? ''
  return [...part.matchAll(/`([^`]+)`/g)].flatMap(([, words]) => words!.split(' ')).sort()
}

const sorted = (words: Iterable<string>) => [...words].sort()

test.each([
  ['image', sorted([...imageExtensions].map((extension) => `.${extension}`))],
  ['other', sorted([...otherExtensions].map((extension) => `.${extension}`))],
  ['columns', sorted(imageFields)],
])('the guide of the command line lists what the code takes: %s', (name, expected) => {
  expect(wordsOf(name)).toEqual(expected)
})

test('the guide lists hidden names and the extensions of lists', () => {
  expect(sorted(wordsOf('hidden').map((name) => name.toLowerCase()))).toEqual(sorted(systemNames))
  const [, row = ''] = /^\| a list: (.*?) \|/m.exec(page) ?? []
  expect(sorted([...row.matchAll(/`([^`]+)`/g)].map(([, extension]) => extension!))).toEqual(
    sorted(listExtensions),
  )
})
