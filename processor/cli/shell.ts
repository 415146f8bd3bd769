/** A word as a POSIX shell takes it, in quotes where it needs them. */
export function quoteForShell(word: string): string {
  return /^[\w./:@-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}
