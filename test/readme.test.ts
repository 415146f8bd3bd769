import { readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'
import { describeConfig } from '../infra/config.ts'

it('the README lists every setting as it is', async () => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const cell = (text: string) => text.replaceAll('|', '\\|')
  const rows = describeConfig().map(
    (row) =>
      `| \`${row.variable}\` | ${cell(row.default)} | ${cell(row.allowed)} | ${cell(row.description)} |`,
  )
  const table = ['| variable | default | allowed | |', '| --- | --- | --- | --- |', ...rows].join('\n')
  expect(readme).toContain(table)
})
