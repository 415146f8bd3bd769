import { existsSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { describe, expect, it } from 'vitest'
import { anchors, codeBlocks, linkTargets, readDocuments, root } from './documents.ts'

const documents = await readDocuments()
const textOf = (path: string) => documents.find((document) => document.path === path)?.text

describe('codeBlocks', () => {
  it('finds language, mark, line and code', () => {
    const text = 'a\n```sh no-run: needs Kafka\nls\n\n# x\n```\n\n````text\n```\n````\n'
    expect(codeBlocks(text)).toEqual([
      { line: 3, language: 'sh', mark: 'no-run: needs Kafka', code: 'ls\n\n# x' },
      { line: 9, language: 'text', mark: '', code: '```' },
    ])
  })

  it('finds those without a language, and those that are indented', () => {
    expect(codeBlocks('```\nls\n```\n  ```sh\n  ls\n  ```').map(({ language }) => language)).toEqual([
      '',
      'sh',
    ])
  })
})

/** Languages of blocks that are no commands. */
const texts = /^(diff|js|json|jsonl|python|text|toml|ts|yaml)$/

describe.each(documents)('$path', ({ path, text }) => {
  it('marks every code block: `sh`, which a test runs, `sh no-run: <reason>`, or no shell at all', () => {
    const unmarked = codeBlocks(text).filter(({ language, mark }) =>
      language === 'sh' ? !/^(|no-run: .{8,})$/.test(mark) : !texts.test(language),
    )
    expect(unmarked.map(({ line, language, mark }) => `${path}:${line} ${language} ${mark}`)).toEqual([])
  })

  it('shows answers of commands that are run, and nothing else is marked', () => {
    const blocks = codeBlocks(text)
    const lost = blocks.filter(({ language, mark }, index) => {
      const before = blocks[index - 1]
      if (language === 'json' && mark === 'answer') return before?.language !== 'sh' || before.mark !== ''
      return language !== 'sh' && mark !== ''
    })
    expect(lost.map(({ line, mark }) => `${path}:${line} ${mark}`)).toEqual([])
  })

  it('holds JSON where it says so', () => {
    for (const { language, line, code } of codeBlocks(text)) {
      const rows = language === 'json' ? [code] : language === 'jsonl' ? code.split('\n') : []
      for (const row of rows) expect(() => JSON.parse(row), `${path}:${line}`).not.toThrow()
    }
  })

  it('links to files and headings that exist', () => {
    const local = linkTargets(text).filter((target) => !/^[a-z]+:/.test(target))
    const broken = local.filter((target) => {
      const [file = '', anchor] = target.split('#')
      const linked = file === '' ? path : posix.join(dirname(path), file)
      if (!existsSync(join(root, linked))) return true
      return anchor !== undefined && !anchors(textOf(linked) ?? '').includes(anchor)
    })
    expect(broken).toEqual([])
  })
})

it('the README begins with the two commands and is short', () => {
  const readme = textOf('README.md')!
  const [first] = codeBlocks(readme)
  expect(first!.line).toBeLessThanOrEqual(4)
  expect(first!.code.split('\n').map((line) => line.replace(/ *#.*/, ''))).toEqual([
    'npm ci && npm start',
    'npm ci && npm test',
  ])
  expect(readme.trimEnd().split('\n').length).toBeLessThanOrEqual(130)
})
