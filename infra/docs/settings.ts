import { readFile, writeFile } from 'node:fs/promises'
import { describeConfig } from '../config.ts'

export const settingsPage = new URL('settings.md', import.meta.url)

const begin = '<!-- begin: npm run docs:settings -->'
const end = '<!-- end -->'

/** Renders a table of all settings. */
function settingsTable(): string {
  const cell = (text: string) => text.replaceAll('|', '\\|')
  const rows = describeConfig().map(({ variable, flag, default: value, allowed, description }) => {
    const option = flag === undefined ? '' : `\`${flag.split(' ')[0]}\``
    return `| \`${variable}\` | ${option} | ${cell(value)} | ${cell(allowed)} | ${cell(description)} |`
  })
  return ['| variable | option | default | allowed | |', '| --- | --- | --- | --- | --- |', ...rows].join(
    '\n',
  )
}

/** Replaces the table of a page. @throws RangeError when the page has no place for it */
export function withSettings(page: string): string {
  const [before, rest] = page.split(begin)
  const [, after] = rest?.split(end) ?? []
  if (before === undefined || after === undefined)
    throw new RangeError(`settings.md needs the lines "${begin}" and "${end}" around its table.`)
  return `${before}${begin}\n${settingsTable()}\n${end}${after}`
}

if (import.meta.main) await writeFile(settingsPage, withSettings(await readFile(settingsPage, 'utf8')))
