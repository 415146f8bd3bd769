import { readFile, writeFile } from 'node:fs/promises'
import { batchRequestSchema } from '../../edge/contract/batch.ts'
import { captionRequestSchema } from '../../edge/contract/caption.ts'
import { imagePartForms } from '../../edge/contract/content.ts'
import { uploadRequestSchema } from '../../edge/contract/file.ts'
import { type FileFormat, fileFormats } from '../../edge/contract/formats/formats.ts'
import { lineForms } from '../../edge/contract/manifest-line.ts'
import { chatParameters } from '../../edge/contract/parameters.ts'
import { addressForms } from '../../infra/fetch/image-address.ts'

export const acceptedPage = new URL('../../infra/docs/accepted.md', import.meta.url)

const begin = (name: string) => `<!-- begin: npm run docs:accepted, ${name} -->`
const end = '<!-- end -->'

const cell = (text: string) => text.replaceAll('|', '\\|')
const code = (text: string) => `\`${cell(text)}\``
const yes = (is: boolean) => (is ? 'yes' : 'no')

const table = (head: string[], rows: string[][]) =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')

const list = (rows: readonly string[]) => rows.map((row) => `- ${row}`).join('\n')

const formatTable = (formats: readonly FileFormat[]) =>
  table(
    ['format', 'usual extensions', ''],
    formats.map(({ name, extensions, note = '' }) => [name, extensions.map(code).join(', '), cell(note)]),
  )

/** Parts of the page, by name. */
const parts: Record<string, () => string> = {
  'accepted formats': () => formatTable(fileFormats.filter(({ decoded }) => decoded)),

  'refused formats': () => formatTable(fileFormats.filter(({ decoded }) => !decoded)),

  addresses: () =>
    table(
      ['address', 'API and batches', '`turbine caption`', ''],
      addressForms.map(({ form, api, commandLine, says }) => [
        code(form),
        yes(api),
        yes(commandLine),
        cell(says),
      ]),
    ),

  'image parts': () => list(imagePartForms.map(code)),

  lines: () => list(lineForms.map(code)),

  'honoured parameters': () =>
    table(
      ['parameter', ''],
      Object.entries(chatParameters).flatMap(([name, { same, says }]) =>
        same ? [] : [[code(name), cell(says)]],
      ),
    ),

  'parameters by model': () =>
    table(
      ['parameter', 'does', 'by other models accepted'],
      Object.entries(chatParameters).flatMap(([name, { same, unasked, says, byModel }]) => {
        const others = unasked ? ', others ignored, and told' : ''
        return byModel && same ? [[code(name), cell(says), `${code(same.words)}${others}`]] : []
      }),
    ),

  'other parameters': () =>
    table(
      ['parameter', 'accepted', 'other values', 'because'],
      Object.entries(chatParameters).flatMap(([name, { same, unasked, says, byModel }]) =>
        same && !byModel
          ? [[code(name), code(same.words), unasked ? 'ignored, and told' : 'refused', cell(says)]]
          : [],
      ),
    ),

  'own endpoints': () =>
    table(
      ['request', 'parameters'],
      Object.entries({
        'POST /v1/captions': captionRequestSchema,
        'POST /v1/batches': batchRequestSchema,
        'POST /v1/uploads': uploadRequestSchema,
      }).map(([request, schema]) => [code(request), Object.keys(schema.shape).map(code).join(', ')]),
    ),
}

/** Replaces the tables of a page. @throws RangeError when the page has no place for one */
export function withAccepted(page: string): string {
  return Object.entries(parts).reduce((text, [name, render]) => {
    const start = text.indexOf(begin(name))
    const stop = text.indexOf(end, start)
    if (start < 0 || stop < 0)
      throw new RangeError(`accepted.md needs the lines "${begin(name)}" and "${end}".`)
    return `${text.slice(0, start)}${begin(name)}\n${render()}\n${text.slice(stop)}`
  }, page)
}

if (import.meta.main) await writeFile(acceptedPage, withAccepted(await readFile(acceptedPage, 'utf8')))
