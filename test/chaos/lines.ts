import type { ExpectedLine } from './manifest.ts'

/** How the lines of a batch came out. Each is a list of messages. */
export interface LineFaults {
  /** In neither file. */
  lost: string[]
  /** More than once, in one file or in both. */
  doubled: string[]
  outOfOrder: string[]
  /** In the wrong file, or with another caption, code or `custom_id`. */
  wrong: string[]
}

export interface Counts {
  total: number
  completed: number
  failed: number
}

interface ResultLine {
  id: string
  custom_id: string | null
  response: { body: ResponseBody } | null
  error: { code: string } | null
}

type ResponseBody = {
  caption?: string
  choices?: [{ message: { content: string } }]
  error?: { code: string }
}

/** Checks the files of a batch against its manifest: every line once and in its order, with the right result. */
export function checkLines(
  expected: readonly ExpectedLine[],
  { output, errors, counts }: { output: string; errors: string; counts: Counts },
): LineFaults {
  const faults: LineFaults = { lost: [], doubled: [], outOfOrder: [], wrong: [] }
  const seen = new Map<number, number>()
  for (const [file, text] of Object.entries({ output, errors })) {
    let last = 0
    for (const result of parseLines(text)) {
      const number = numberOf(result)
      const line = expected[number - 1]
      const times = (seen.get(number) ?? 0) + 1
      seen.set(number, times)
      if (!line) faults.wrong.push(`${file}: ${result.id} is no line of the manifest`)
      else if (times > 1) faults.doubled.push(`line ${number}`)
      else if (number < last) faults.outOfOrder.push(`${file}: line ${number} is behind line ${last}`)
      if (line) {
        const fault = compare(line, result, file === 'output')
        if (fault) faults.wrong.push(`line ${number}: ${fault}`)
      }
      last = Math.max(last, number)
    }
  }
  for (const [i, { customId }] of expected.entries())
    if (!seen.has(i + 1)) faults.lost.push(`line ${i + 1} (${customId})`)
  const completed = expected.filter((line) => 'caption' in line).length
  const right = { total: expected.length, completed, failed: expected.length - completed }
  if (JSON.stringify(right) !== JSON.stringify({ ...right, ...counts }))
    faults.wrong.push(`counts ${JSON.stringify(counts)} instead of ${JSON.stringify(right)}`)
  return faults
}

/** Undefined when the result is what was expected. */
function compare(line: ExpectedLine, { custom_id, response, error }: ResultLine, isOutput: boolean) {
  const body = response?.body
  const code = error?.code ?? body?.error?.code
  const text = body?.caption ?? body?.choices?.[0].message.content
  if (custom_id !== line.customId) return `custom_id ${custom_id} instead of ${line.customId}`
  const [want, got] = 'caption' in line ? [line.caption, text] : [line.code, code]
  if (isOutput !== 'caption' in line || want !== got) return `"${got ?? code ?? text}" instead of "${want}"`
  return undefined
}

const parseLines = (text: string): ResultLine[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as ResultLine)

/** Number of the line in the manifest, from 1: the end of its id. */
const numberOf = ({ id }: ResultLine) => Number(/_(\d+)$/.exec(id)?.[1] ?? 0)
