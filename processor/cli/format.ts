const grouped = new Intl.NumberFormat('en-US')

/** `1,234` */
export const formatCount = (value: number) => grouped.format(value)

/** `52.3` below a hundred, `1,234` above. */
export const formatRate = (value: number) => (value < 100 ? value.toFixed(1) : formatCount(Math.round(value)))

/** A share from 0 to 1 as `23 %`; less than 1 is never `100 %`. */
export const formatShare = (value: number) => `${value < 1 ? Math.min(99, Math.round(value * 100)) : 100} %`

/** Milliseconds as `12 s`, `3 min 20 s` or `26 h 2 min`. */
export function formatDuration(ms: number): string {
  const seconds = Math.round(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
}

/** Bytes as `990 MB`, in powers of 1000. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3))
  const value = bytes / 1000 ** power
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`
}

/** `1 image`, `1,234 images` */
export const plural = (value: number, word: string) =>
  `${formatCount(value)} ${word}${value === 1 ? '' : 's'}`

/**
 * Aligns cells in columns, two spaces apart; columns in `right` are right-aligned.
 * @example formatTable([['starter', '2.0 kB'], ['blip', '990 MB']], { right: [1] })
 */
export function formatTable(rows: string[][], { right = [] }: { right?: number[] } = {}): string {
  const columns = Math.max(0, ...rows.map((row) => row.length))
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  )
  const line = (row: string[]) =>
    row
      .map((cell, column) =>
        right.includes(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
      )
      .join('  ')
      .trimEnd()
  return rows.map((row) => `${line(row)}\n`).join('')
}

/** Quotes a word for a POSIX shell if necessary. */
export function quoteForShell(word: string): string {
  return /^[\w./:@-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}
