import { expect, test } from 'vitest'
import { TransferLine } from './transfer-line.ts'

test('a log gets a line at every ten percent', () => {
  let text = ''
  const line = new TransferLine({ write: (part) => (text += part) })
  for (let bytes = 0; bytes <= 1000; bytes += 20) line.show({ file: 'a.jsonl', bytes, totalBytes: 1000 })
  line.clear()
  const lines = text.trimEnd().split('\n')
  expect(lines).toHaveLength(11)
  expect(lines[0]).toBe('a.jsonl: 0 B of 1.0 kB (0 %)')
  expect(lines[10]).toMatch(/^a\.jsonl: 1\.0 kB of 1\.0 kB \(100 %\)/)
})

test('a terminal gets one line, which goes away', () => {
  let text = ''
  const line = new TransferLine({ isTTY: true, write: (part) => (text += part) })
  line.show({ file: 'a.jsonl', bytes: 500, totalBytes: 1000 })
  line.clear()
  expect(text).toBe('\r\x1b[Ka.jsonl: 500 B of 1.0 kB (50 %)\r\x1b[K')
})
