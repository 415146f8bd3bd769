import { totalmem } from 'node:os'
import process from 'node:process'

/** Memory that this process may use, bytes: the container's limit if there is one, else the machine's memory. */
export function memoryLimit(): number {
  const constrained = process.constrainedMemory()
  const machine = totalmem()
  // Without a limit some systems report a number beyond the machine's memory.
  return constrained > 0 && constrained < machine ? constrained : machine
}

const MiB = 1024 * 1024
const maxWorkingMemory = 384 * MiB

/**
 * Memory for what comes from callers and is not done yet, bytes: request bodies, uploads, and images that wait.
 * @param memoryMb the setting; 0: a quarter of the process's memory, at most 384 MiB
 */
export const workingMemory = (memoryMb: number, limit = memoryLimit()): number =>
  memoryMb > 0 ? memoryMb * MiB : Math.floor(Math.min(limit / 4, maxWorkingMemory))
