import { Command, CommanderError } from 'commander'
import type { ConfigRow } from '../../infra/config.ts'
import { batchCommand } from './batch/command.ts'
import type { BatchEnvironment } from './batch/session.ts'
import { calibrateCommand } from './calibrate/command.ts'
import type { CalibrateEnvironment } from './calibrate/environment.ts'
import { type CaptionEnvironment, captionCommand } from './caption/command.ts'
import { type DeadLetterEnvironment, deadLetterCommand } from './dead-letter.ts'
import { describeError, exitCodeOf, isClosedPipe } from './errors.ts'
import { type InspectEnvironment, inspectCommand } from './inspect/command.ts'
import { type KeysEnvironment, keysCommand } from './keys.ts'
import { type ModelsEnvironment, modelsCommand } from './models.ts'
import { printable } from './printable.ts'
import type { Terminal } from './progress.ts'
import { type ServeEnvironment, serveCommands } from './serve.ts'
import { describeVariables } from './settings.ts'
import { tenantsCommand } from './tenants.ts'
import { type TopicsEnvironment, topicsCommand } from './topics.ts'

/** Dependencies of the commands. */
export type ProgramEnvironment = BatchEnvironment &
  CalibrateEnvironment &
  CaptionEnvironment &
  DeadLetterEnvironment &
  InspectEnvironment &
  KeysEnvironment &
  ModelsEnvironment &
  ServeEnvironment &
  TopicsEnvironment & {
    version: string
    /** All settings; they become options, and lines of `--help`. */
    settings: ConfigRow[]
    /** Prints stack traces and causes of errors. */
    debug: boolean
  }

const examples = `
Examples:
  npx turbine serve
  npx turbine caption ./photos --out captions.jsonl
  npx turbine batch submit manifest.jsonl --watch --out captions.jsonl
  npx turbine inspect photo.jpg --r 16 --out seen --picture
  npx turbine calibrate --model ./my-blip --images ./photos
  npx turbine models pull Salesforce/blip-image-captioning-base

Run "npx turbine <command> --help" for help on a command.
`

/** Runs one command line, e.g. `['serve']`, and prints an error as one line. @returns the code of `exitCodeOf` */
export async function runProgram(args: string[], environment: ProgramEnvironment): Promise<number> {
  const stderr = printable(environment.stderr)
  try {
    await createProgram({ ...environment, stderr }).parseAsync(args, { from: 'user' })
    return 0
  } catch (error) {
    // Commander has already printed its own errors.
    if (!(error instanceof CommanderError) && !isClosedPipe(error))
      stderr.write(`turbine: ${describeError(error, environment)}\n`)
    return exitCodeOf(error)
  }
}

function createProgram(given: ProgramEnvironment): Command {
  const { settings, version } = given
  const environment = { ...given, stdout: printable(given.stdout) }
  const program = new Command('turbine')
    .description('Caption images with vision-language models whose token pruning follows the load.')
    .version(version, '-v, --version', 'print the version')
  const commands = [
    ...serveCommands(environment, settings),
    // Its output is JSON lines, to a stream.
    captionCommand(given, settings),
    batchCommand(environment),
    inspectCommand(environment, settings),
    calibrateCommand(environment, settings),
    modelsCommand(environment, environment.settings),
    keysCommand(environment),
    tenantsCommand(environment),
    topicsCommand(environment),
    deadLetterCommand(environment),
  ]
  for (const command of commands) program.addCommand(command)
  program.addHelpText('after', `${examples}\n${describeVariables(settings)}`)
  unify(program, 'npx turbine', environment)
  return program
}

/** Makes a command and its sub-commands print alike, and throw where commander would exit. */
function unify(command: Command, path: string, { stdout, stderr }: Terminal): void {
  command
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      outputError: (text) => stderr.write(`turbine: ${usageLine(text)} See "${path} --help".\n`),
    })
  for (const child of command.commands) unify(child, `${path} ${child.name()}`, { stdout, stderr })
}

/** `error: unknown option '--ou'\n(Did you mean --out?)` to `unknown option '--ou' (Did you mean --out?).` */
function usageLine(text: string): string {
  const line = describeError(new Error(text)).replace(/^error: /, '')
  return /[.?!]\)?$/.test(line) ? line : `${line}.`
}
