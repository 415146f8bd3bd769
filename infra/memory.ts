import { totalmem } from 'node:os'
import process from 'node:process'

/** Memory that this process may use, bytes: the container's limit if there is one, else the machine's memory. */
export function memoryLimit(): number {
  const constrained = process.constrainedMemory()
  const machine = totalmem()
  // Without a limit some systems report a number beyond the machine's memory.
  return constrained > 0 && constrained < machine ? constrained : machine
}
