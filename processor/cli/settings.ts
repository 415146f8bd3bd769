import { Option } from 'commander'
import type { ConfigRow, SettingName } from '../../infra/config.ts'

/** Flags that choose the model and the devices of a command. */
export interface ModelFlags {
  model?: string
  device?: string
}

/** A setting as an option. The value stays text: the config module checks it, as it does with the variable's. */
export function settingOption(settings: ConfigRow[], name: SettingName): Option {
  const setting = settings.find((row) => row.name === name)
  if (!setting) throw new RangeError(`There is no setting "${name}".`)
  return optionOf(setting)
}

/** All settings that may be given on the command line. */
export const settingOptions = (settings: ConfigRow[]): Option[] =>
  settings.filter(({ flag }) => flag !== undefined).map(optionOf)

function optionOf({ name, flag, variable, default: value, allowed, description }: ConfigRow): Option {
  if (flag === undefined) throw new RangeError(`The setting "${name}" is a secret and has no option.`)
  const choices = flag.includes('<') && allowed.includes(' | ') ? `; ${allowed}` : ''
  const text = description.replace(/\.$/, '').replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase())
  return new Option(flag, `${text}${choices} (${variable}, default: ${value})`)
}

/** The part of `--help` about environment variables. */
export function describeVariables(settings: ConfigRow[]): string {
  const rows = [
    ...settings.map(({ variable, default: value, description }) => [variable, description, value] as const),
    ['TURBINE_URL', 'Service that `turbine batch` talks to.', 'http://127.0.0.1:8787'] as const,
    ['TURBINE_API_KEY', 'API key that `turbine batch` calls with.', 'none'] as const,
    ['HF_ENDPOINT', 'Hub that models are pulled from.', 'https://huggingface.co'] as const,
    ['HF_TOKEN', 'Access token for private and gated models.', 'none'] as const,
  ]
  const width = Math.max(...rows.map(([variable]) => variable.length))
  const lines = rows.map(
    ([variable, description, value]) => `  ${variable.padEnd(width)}  ${description} Default: ${value}.`,
  )
  return ['Environment variables (an option wins over its variable):', ...lines].join('\n')
}
