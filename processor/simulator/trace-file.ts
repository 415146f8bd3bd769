import { z } from 'zod'
import { SimulationInputError } from './errors.ts'
import type { Arrival } from './traces.ts'

const number = z.coerce.number()

/** Treats an empty cell as missing. */
const optional = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => (value === '' || value === null ? undefined : value), schema.optional())

const arrivalSchema = z.object({
  at_ms: z.preprocess((value) => (value === '' || value === null ? undefined : value), number.nonnegative()),
  deadline_ms: optional(number.positive()),
  max_prune: optional(number.min(0).max(1)),
  lane: optional(z.enum(['interactive', 'batch'])),
})

const columns = Object.keys(arrivalSchema.shape)

/**
 * Parses arrivals: CSV with a header line (`at_ms`, and optionally `deadline_ms`, `max_prune`, `lane`), or JSON lines with
 * these fields. Unknown columns are ignored.
 * @param name name of the text in errors, e.g. its file
 * @returns arrivals in order of time
 * @throws SimulationInputError that names the line and the error
 * @example parseTrace('at_ms,deadline_ms\n0,500\n12.5,\n', 'trace.csv') // [{ at: 0, deadlineMs: 500 }, { at: 12.5 }]
 */
export function parseTrace(text: string, name: string): Arrival[] {
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/)
  const rows = lines[0]?.trimStart().startsWith('{') ? jsonRows(lines, name) : csvRows(lines, name)
  const arrivals = rows.map(([line, row]) => toArrival(row, `${name}, line ${line}`))
  if (arrivals.length === 0) throw new SimulationInputError(`${name} has no arrivals. ${layout}`)
  return arrivals.sort((a, b) => a.at - b.at)
}

const layout = `Use CSV with the columns ${columns.join(', ')} (only at_ms is required), or JSON lines with these fields.`

type Row = Record<string, unknown>

function jsonRows(lines: string[], name: string): [line: number, row: Row][] {
  return lines.flatMap((text, index): [number, Row][] => {
    if (text.trim() === '') return []
    try {
      return [[index + 1, JSON.parse(text)]]
    } catch (cause) {
      throw new SimulationInputError(`${name}, line ${index + 1}: invalid JSON. ${layout}`, { cause })
    }
  })
}

function csvRows([head = '', ...lines]: string[], name: string): [line: number, row: Row][] {
  const names = cellsOf(head)
  if (!names.includes('at_ms'))
    throw new SimulationInputError(`${name}, line 1: missing column "at_ms". ${layout}`)
  return lines.flatMap((text, index): [number, Row][] => {
    if (text.trim() === '') return []
    const cells = cellsOf(text)
    return [[index + 2, Object.fromEntries(names.map((column, i) => [column, cells[i] ?? '']))]]
  })
}

const cellsOf = (line: string) => line.split(',').map((cell) => cell.trim().replace(/^"(.*)"$/, '$1'))

function toArrival(row: Row, place: string): Arrival {
  const parsed = arrivalSchema.safeParse(row)
  if (parsed.success) {
    const { at_ms: at, deadline_ms: deadlineMs, max_prune: maxPrune, lane } = parsed.data
    return { at, deadlineMs, maxPrune, lane }
  }
  const [issue] = parsed.error.issues
  throw new SimulationInputError(`${place}: ${issue?.path.join('.') || 'it'}: ${issue?.message}. ${layout}`)
}
