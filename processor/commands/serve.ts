import { relative } from 'node:path'
import { Command } from 'commander'
import type { ConfigRow, SettingName } from '../../infra/config.ts'
import { type SignalSource, watchInterruption } from './interruption.ts'
import { settingOptions } from './settings.ts'
import { quoteForShell } from './shell.ts'

/** A service that runs and is ready. */
export interface RunningService {
  url: string
  /** What the bundled picture was captioned as. */
  warmUpCaption: string
  /** Path of that picture. */
  warmUpImage: string
  /** Finishes accepted work, or keeps it for the next start. */
  close(): Promise<void>
}

/** What the command needs from outside. */
export interface ServeEnvironment {
  /** Resolves when the service is ready; flags win over the environment variables. */
  startService(flags: ServeFlags): Promise<RunningService>
  signals: SignalSource
  stdout: { write(text: string): unknown }
  stderr: { write(text: string): unknown }
}

/** Settings that the command line gives, as text; a switch is true. */
export type ServeFlags = Partial<Record<SettingName, string | boolean>>

const examples = `
Examples:
  npx turbine serve
  npx turbine serve --port 0 --model models/blip-base --device cuda:0
  curl --data-binary @photo.jpg -H 'content-type: image/jpeg' localhost:8787/v1/captions

Ctrl-C or SIGTERM finishes accepted work, or keeps it for the next start, and exits with code 0.`

export function serveCommand(environment: ServeEnvironment, settings: ConfigRow[]): Command {
  const command = new Command('serve')
    .description('run the captioning service')
    .addHelpText('after', examples)
    .action((flags: ServeFlags) => runServe(flags, environment))
  for (const option of settingOptions(settings)) command.addOption(option)
  return command
}

/** Runs the service until SIGINT or SIGTERM, then closes it; a second signal ends the process at once. */
export async function runServe(flags: ServeFlags, environment: ServeEnvironment): Promise<void> {
  const service = await environment.startService(flags)
  environment.stdout.write(greeting(service))
  const { signal, dispose } = watchInterruption(environment.signals, () =>
    environment.stderr.write('Stopping: accepted work is finished first. Ctrl-C again quits at once.\n'),
  )
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve))
  try {
    await service.close()
  } finally {
    dispose()
  }
}

/** Where it is, that it works, and a line to try it with. */
function greeting({ url, warmUpCaption, warmUpImage }: RunningService): string {
  const image = quoteForShell(relative('', warmUpImage))
  return [
    `Turbine is ready at ${url}`,
    `The bundled picture shows "${warmUpCaption}". Try it:`,
    `  curl --data-binary @${image} -H 'content-type: image/jpeg' ${url}/v1/captions`,
    '',
  ].join('\n')
}
