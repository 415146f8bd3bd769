import { Command, CommanderError } from 'commander'
import { describeError, exitCodeOf } from './errors.ts'

/** Output of a command under test. */
export class Printed {
  stdout = ''
  stderr = ''
  readonly out = { write: (text: string) => (this.stdout += text) }
  readonly err = { isTTY: false, write: (text: string) => (this.stderr += text) }
}

/** Runs one command line of `command` as the program does; a failure is its line on standard error. */
export async function runCommand(command: Command, args: string[], printed: Printed): Promise<number> {
  const program = new Command('turbine').addCommand(command)
  const prepare = (part: Command): void => {
    part.exitOverride().configureOutput({
      writeOut: (text) => printed.out.write(text),
      writeErr: (text) => printed.err.write(text),
    })
    part.commands.forEach(prepare)
  }
  prepare(program)
  try {
    await program.parseAsync([command.name(), ...args], { from: 'user' })
    return 0
  } catch (error) {
    if (!(error instanceof CommanderError)) printed.err.write(`turbine: ${describeError(error)}\n`)
    return exitCodeOf(error)
  }
}
