import { expect, it } from 'vitest'
import { printable } from './printable.ts'
import { eraseLine } from './progress.ts'

it('a stream still erases its progress line, at the start of a text only', () => {
  const written: string[] = []
  const stream = printable({ write: (text) => written.push(text), isTTY: true, columns: 90 })
  stream.write(`${eraseLine}412 of 1,000${eraseLine}`)
  expect(written).toEqual([`${eraseLine}412 of 1,000\\u000d\\u001b[K`])
  expect([stream.isTTY, stream.columns]).toEqual([true, 90])
})
