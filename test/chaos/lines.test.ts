import { expect, test } from 'vitest'
import { errorLine, outputLine, resultIds } from '../../processor/batches/shard/result-lines.ts'
import { checkLines } from './lines.ts'
import type { ExpectedLine } from './manifest.ts'

const expected: ExpectedLine[] = [
  { customId: 'a', caption: 'a red fish' },
  { customId: null, code: 'invalid_json_line' },
  { customId: 'c', caption: 'a blue boat' },
  { customId: 'd', code: 'image_invalid' },
  { customId: 'e', caption: 'a green tree' },
]
const counts = { total: 5, completed: 3, failed: 2 }

/** The line that the service writes for a line of the manifest, from 1. */
const written = (number: number, instead: Partial<{ customId: string; text: string }> = {}) => {
  const line = expected[number - 1]!
  const { id, requestId } = resultIds('batch_1', number)
  const customId = instead.customId ?? line.customId
  const text = instead.text ?? ('caption' in line ? line.caption : line.code)
  if ('caption' in line)
    return outputLine({ id, customId, requestId, statusCode: 200, body: { caption: text } })
  if (number === 2) return errorLine({ id, customId, error: { code: text, message: '', line: number } })
  const body = { error: { code: text } }
  return errorLine({ id, customId, response: { statusCode: 400, requestId, body } })
}
const check = (output: string[], errors: string[], counted = counts) =>
  checkLines(expected, { output: output.join('\n'), errors: errors.join('\n'), counts: counted })
const nothing = { lost: [], doubled: [], outOfOrder: [], wrong: [] }

const [one, two, three, four, five] = [1, 2, 3, 4, 5].map((number) => written(number)) as [
  string,
  string,
  string,
  string,
  string,
]

test('finds nothing where every line is there once, in order and right', () => {
  expect(check([one, three, five], [two, four])).toEqual(nothing)
})

test('reads captions of chat completions', () => {
  const { id, requestId } = resultIds('batch_1', 3)
  const body = { choices: [{ message: { content: 'a blue boat' } }] }
  const chat = outputLine({ id, customId: 'c', requestId, statusCode: 200, body })
  expect(check([one, chat, five], [two, four])).toEqual(nothing)
})

test('finds a lost line', () => {
  expect(check([one, five], [two, four])).toEqual({ ...nothing, lost: ['line 3 (c)'] })
  expect(check([one, three, five], [four])).toEqual({ ...nothing, lost: ['line 2 (null)'] })
})

test('finds a doubled line, in one file or in both', () => {
  expect(check([one, three, three, five], [two, four])).toEqual({ ...nothing, doubled: ['line 3'] })
  expect(check([one, three, five, one], [two, four])).toEqual({ ...nothing, doubled: ['line 1'] })
  const { doubled } = check([one, three, five], [two, four, five])
  expect(doubled).toEqual(['line 5'])
})

test('finds lines out of order', () => {
  expect(check([three, one, five], [two, four])).toEqual({
    ...nothing,
    outOfOrder: ['output: line 1 is behind line 3'],
  })
  expect(check([one, three, five], [four, two]).outOfOrder).toEqual(['errors: line 2 is behind line 4'])
})

test('finds wrong captions, codes and names, and lines of other batches', () => {
  expect(check([one, written(3, { text: 'a red boat' }), five], [two, four]).wrong).toEqual([
    'line 3: "a red boat" instead of "a blue boat"',
  ])
  expect(check([one, three, five], [two, written(4, { text: 'image_not_found' })]).wrong).toEqual([
    'line 4: "image_not_found" instead of "image_invalid"',
  ])
  expect(check([one, written(3, { customId: 'x' }), five], [two, four]).wrong).toEqual([
    'line 3: custom_id x instead of c',
  ])
  const stranger = outputLine({
    id: 'batch_req_1_77',
    customId: 'z',
    requestId: '',
    statusCode: 200,
    body: {},
  })
  expect(check([one, three, five, stranger], [two, four]).wrong).toEqual([
    'output: batch_req_1_77 is no line of the manifest',
  ])
})

test('finds a line in the wrong file, and wrong counts', () => {
  const { id, requestId } = resultIds('batch_1', 3)
  const body = { error: { code: 's3_unavailable' } }
  const failed = errorLine({ id, customId: 'c', response: { statusCode: 503, requestId, body } })
  const faults = check([one, five], [two, failed, four], { total: 5, completed: 2, failed: 3 })
  expect(faults).toMatchObject({ lost: [], doubled: [] })
  expect(faults.wrong).toEqual([
    'line 3: "s3_unavailable" instead of "a blue boat"',
    'counts {"total":5,"completed":2,"failed":3} instead of {"total":5,"completed":3,"failed":2}',
  ])
})
