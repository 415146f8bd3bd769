import { expect, test } from 'vitest'
import { newTally, progressBar, progressText, RateMeter, showProgress, TransferLine } from './progress.ts'

const tally = { total: 1000, captioned: 400, failed: 2, skipped: 10, pruneRatioSum: 92 }

test('a line says how far, how fast, how long, what failed and what pruning it got', () => {
  expect(progressText({ tally, rate: 52.3 })).toBe(
    '412 of 1,000 images (41 %), 52.3 images/s, 11 s left, 2 failed, 23 % of tokens merged',
  )
})

test('before the images are counted and the first one is done there is only a number', () => {
  expect(progressText({ tally: newTally() })).toBe('0 images')
})

test('a terminal gets a bar that fits, and only the text when it is narrow', () => {
  const wide = progressBar({ tally, rate: 52.3 }, 120)
  expect(wide).toMatch(
    /^█{12}░{18} {2}412\/1,000 {2}41 % {2}52.3\/s {2}11 s left {2}2 failed {2}23 % merged$/,
  )
  expect(wide.length).toBeLessThan(120)
  const narrow = progressBar({ tally, rate: 52.3 }, 40)
  expect(narrow).toMatch(/^412\/1,000/)
  expect(narrow.length).toBeLessThan(40)
})

test('the rate is that of the last half minute', () => {
  const meter = new RateMeter()
  expect(meter.rate()).toBeUndefined()
  for (let second = 0; second <= 60; second++) meter.sample(second * 1000, second * 10)
  expect(meter.rate()).toBe(10)
  for (let second = 61; second <= 120; second++) meter.sample(second * 1000, 600 + (second - 60) * 2)
  expect(meter.rate()).toBe(2)
})

test('a log gets plain lines, a terminal one line that is redrawn and taken away', () => {
  const shown = (isTTY: boolean) => {
    let text = ''
    let now = 0
    const stream = { isTTY, columns: 100, write: (part: string) => (text += part) }
    const counts = newTally()
    const progress = showProgress({ stream, tally: counts, now: () => now })
    counts.captioned = 50
    now = 1000
    progress.tick()
    progress.note('A note.')
    progress.close()
    return text
  }
  expect(shown(false)).toBe('50 images, 50.0 images/s\nA note.\n')
  expect(shown(true)).toBe('\r\x1b[K50  50.0/s\r\x1b[KA note.\n\r\x1b[K')
})

test('what was done before it is shown is no part of the rate', () => {
  let text = ''
  let now = 0
  const counts = { ...newTally(), captioned: 5000 }
  const progress = showProgress({
    stream: { write: (part) => (text += part) },
    tally: counts,
    now: () => now,
  })
  counts.captioned = 5020
  now = 1000
  progress.tick()
  progress.close()
  expect(text).toBe('5,020 images, 20.0 images/s\n')
})

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
