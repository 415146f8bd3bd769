export interface TableOptions {
  /** Columns, from 0, whose cells are numbers. */
  right?: number[]
}

/**
 * Rows of cells as lines of aligned columns, two spaces apart.
 *
 * @example formatTable([['starter', '2.0 kB'], ['blip', '990 MB']], { right: [1] })
 */
export function formatTable(rows: string[][], { right = [] }: TableOptions = {}): string {
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
