import { readFile, writeFile } from 'node:fs/promises'
import { describeConfig } from '../config.ts'

/** The page that lists the settings. */
export const settingsPage = new URL('settings.md', import.meta.url)

const begin = '<!-- begin: npm run docs:settings -->'
const end = '<!-- end -->'

/** A table of every setting, as the config module has them. */
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

/** The page with the table that it should have. @throws RangeError when the page has no place for it */
export function withSettings(page: string): string {
  const [before, rest] = page.split(begin)
  const [, after] = rest?.split(end) ?? []
  if (before === undefined || after === undefined)
    throw new RangeError(`settings.md needs the lines "${begin}" and "${end}" around its table.`)
  return `${before}${begin}\n${settingsTable()}\n${end}${after}`
}

if (import.meta.main) await writeFile(settingsPage, withSettings(await readFile(settingsPage, 'utf8')))
