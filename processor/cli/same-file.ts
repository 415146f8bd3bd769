import { type BigIntStats, fstat } from 'node:fs'
import { stat } from 'node:fs/promises'
import { promisify } from 'node:util'
import { encodeFileName } from '../../infra/file-name.ts'
import { UsageError } from './errors.ts'

/** File by what it is on the disk: links, symbolic or not, lead to the same one. Undefined for none. */
async function identityOf(file: string | number): Promise<string | undefined> {
  const found: BigIntStats | undefined = await (typeof file === 'number'
    ? promisify(fstat)(file, { bigint: true })
    : stat(encodeFileName(file), { bigint: true })
  ).catch(() => undefined)
  return found?.isFile() ? `${found.dev}:${found.ino}` : undefined
}

/** File that a command writes, by the option that names it. */
export interface NamedOutput {
  option: string
  /** Its path, or the descriptor of standard output. */
  path: string | number
}

/**
 * Checks that no file is read and written by one command: writing would destroy what is read.
 * @param inputs paths, or the descriptor of standard input
 * @throws UsageError
 */
export async function assertNotInput(
  outputs: readonly NamedOutput[],
  inputs: readonly (string | number)[],
): Promise<void> {
  const read = new Set(await Promise.all(inputs.map(identityOf)))
  const written = new Map<string, NamedOutput>()
  for (const output of outputs) {
    const identity = await identityOf(output.path)
    if (identity === undefined) continue
    const { option, path } = output
    const name = typeof path === 'number' ? 'The file at standard output' : path
    if (read.has(identity))
      throw new UsageError(
        `${name} is read by this command and would be written by it too. Name another file with ${option}.`,
      )
    const other = written.get(identity)
    if (other) throw new UsageError(`${other.option} and ${option} are the same file. Use different files.`)
    written.set(identity, output)
  }
}
