import { expect, test } from 'vitest'
import { errorLine, outputLine, resultIds } from './result-lines.ts'

const ids = resultIds('batch_abc', 7)

test('the ids of a line are the same however often it runs, and its own', () => {
  expect(resultIds('batch_abc', 7)).toEqual(ids)
  expect(ids).toEqual({ id: 'batch_req_abc_7', requestId: 'req_abc_7' })
  expect(resultIds('batch_abc', 8).id).not.toBe(ids.id)
})

test("an output line has OpenAI's shape", () => {
  const line = outputLine({ ...ids, customId: 'a\n', statusCode: 200, body: { caption: 'a cat' } })
  expect(line).not.toContain('\n')
  expect(JSON.parse(line)).toEqual({
    id: ids.id,
    custom_id: 'a\n',
    response: { status_code: 200, request_id: ids.requestId, body: { caption: 'a cat' } },
    error: null,
  })
})

test('no reader finds another end in a line', () => {
  const strange = 'a\u0085b\u2028c\u2029d\r\n'
  const error = { code: 'x', message: strange }
  for (const line of [
    outputLine({ ...ids, customId: strange, statusCode: 200, body: { caption: strange } }),
    errorLine({ id: ids.id, customId: strange, error }),
  ]) {
    expect(line).not.toMatch(/[\r\n\u0085\u2028\u2029]/)
    expect(JSON.parse(line).custom_id).toBe(strange)
  }
})

test('an error line has a response or an error', () => {
  const error = { code: 'invalid_json_line', message: 'No.', param: null, line: 7 }
  expect(JSON.parse(errorLine({ id: ids.id, customId: null, error }))).toEqual({
    id: ids.id,
    custom_id: null,
    response: null,
    error,
  })
  const response = { statusCode: 404, requestId: ids.requestId, body: { error: { code: 'image_not_found' } } }
  expect(JSON.parse(errorLine({ id: ids.id, customId: 'a', response }))).toMatchObject({
    custom_id: 'a',
    response: { status_code: 404, body: { error: { code: 'image_not_found' } } },
    error: null,
  })
})
