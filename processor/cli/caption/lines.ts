/** One line of a byte stream. */
export interface Line {
  /** Without its line end. */
  text: string
  /** Counted from 1. */
  number: number
  /** Bytes up to and with this line's end. */
  end: number
  /** False for a last line that has no line end. */
  whole: boolean
}

const lineFeed = 0x0a

/**
 * Splits UTF-8 bytes at line feeds alone, holding one line at a time. (`node:readline` also splits at U+2028,
 * which may stand inside a JSON string, and knows no byte offsets.)
 */
export async function* readLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Line> {
  let parts: Uint8Array[] = []
  let number = 0
  let end = 0
  const take = (whole: boolean): Line => {
    const text = Buffer.concat(parts).toString('utf8').replace(/\r$/, '')
    parts = []
    number++
    return { text: number === 1 ? text.replace(/^\uFEFF/, '') : text, number, end, whole }
  }
  for await (const chunk of chunks) {
    let start = 0
    for (let at = chunk.indexOf(lineFeed); at !== -1; at = chunk.indexOf(lineFeed, start)) {
      parts.push(chunk.subarray(start, at))
      end += at + 1 - start
      start = at + 1
      yield take(true)
    }
    if (start < chunk.length) parts.push(chunk.subarray(start))
    end += chunk.length - start
  }
  if (parts.length > 0) yield take(false)
}
